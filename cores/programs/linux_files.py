"""The files that a Linux program may read: those in one folder of the user's, and no other.

They are read before the guest begins and lie in its RAM, so that it can reach nothing of the host. What
could lead out of the folder is refused: symbolic links to another place, devices, pipes and sockets.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from cores import input_file
from cores.errors import InputError

MOST_FILES = 10_000
_LONGEST_NAME = 500
_DIRECTORY, _REGULAR = 0o040555, 0o100444


@dataclass(frozen=True, slots=True)
class PackedFile:
    """A file or folder. name: its path in the folder, without a slash in front. mode: as in stat(2)."""

    name: bytes
    data: bytes
    mode: int


def files_of(folder: str, limit: int) -> tuple[PackedFile, ...]:
    """All that is in ``folder`` and below, by name; together at most ``limit`` bytes. Raises
    InputError."""
    if not os.path.isdir(folder):
        reason = "this is not a directory" if os.path.lexists(folder) else "no such directory"
        raise InputError(f"--files: {reason}", folder)
    root = os.path.realpath(folder)
    found: list[PackedFile] = []
    size = 0
    for path, name, mode in _walk(root, ""):
        if len(found) == MOST_FILES:
            raise InputError(f"--files: more than {MOST_FILES:,} files and folders", folder)
        data = b"" if mode == _DIRECTORY else input_file.read(path, limit, "file")
        size += len(data)
        if size > limit:
            raise InputError(f"--files: more than {limit:#x} bytes, which is all of RAM", folder)
        found.append(PackedFile(os.fsencode(name), data, mode))
    return tuple(found)


def _walk(root: str, below: str) -> Iterator[tuple[str, str, int]]:
    """(path, name in the folder, mode) of everything below ``root``, by name."""
    here = os.path.join(root, below) if below else root
    try:
        entries = sorted(os.listdir(here))
    except OSError as error:
        raise InputError(f"--files: cannot be read: {error.strerror}", here) from None
    for entry in entries:
        name = f"{below}/{entry}" if below else entry
        path = os.path.join(here, entry)
        mode = _mode(path, root)
        if len(os.fsencode(name)) > _LONGEST_NAME:
            raise InputError(f"--files: a name longer than {_LONGEST_NAME} bytes", path)
        yield path, name, mode
        if mode == _DIRECTORY:
            yield from _walk(root, name)


def _mode(path: str, root: str) -> int:
    """The mode of a file or folder that may be packed. Raises InputError for any other."""
    try:
        is_link = stat.S_ISLNK(os.lstat(path).st_mode)
        kind = os.stat(path).st_mode
    except OSError as error:
        raise InputError(f"--files: cannot be read: {error.strerror}", path) from None
    if is_link and os.path.commonpath((os.path.realpath(path), root)) != root:
        raise InputError("--files: a symbolic link that leads out of the folder", path)
    if is_link and stat.S_ISDIR(kind):
        raise InputError("--files: a symbolic link to a folder", path)
    if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
        raise InputError("--files: neither a file nor a folder, but a device, pipe or socket", path)
    return _DIRECTORY if stat.S_ISDIR(kind) else _REGULAR
