"""Atomic file writes: a file is written whole or not at all, and never over a file of another kind.

Every file that Ringscope writes under a name of the user's choice goes through ``replacing`` with its
``Kind``; without it, `play x --record notes.md` would destroy the notes.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from errno import EACCES, EBUSY, ENOENT, ENXIO, EPERM, EROFS, EXDEV
from typing import BinaryIO

from cores.errors import InputError

NOT_OURS_TO_REPLACE = (EACCES, EPERM, EROFS, EBUSY, EXDEV)
"""Errors of a replacement: the directory is not writable, or the file is a mount point. The file itself
may still be writable."""

_LOOKED_AT = 4096
"""Bytes read to determine a file's kind."""
OVERWRITE = "--overwrite replaces it"
ANOTHER_NAME = "choose another name"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file that may be overwritten by another of its kind. name: with its article. is_one:
    recognizes it by the file's first bytes. advice: what the user can do to overwrite it all the
    same."""

    name: str
    is_one: Callable[[bytes], bool]
    advice: str = OVERWRITE


@contextlib.contextmanager
def replacing(
    path: str | os.PathLike[str], kind: Kind | None = None, *, overwrite: bool = False
) -> Iterator[BinaryIO]:
    """A file to write, which replaces the file at ``path`` when all of it is on the disk. If that fails
    (the disk is full), the old file stays, and no temporary file is left.

    kind: what is to be written; a file or disk with anything else in it is refused, unless
    ``overwrite``. None: a file of our own, under a name of our own.

    A link stays a link, and permissions stay; what cannot be replaced, such as a device or a file in a
    directory without write permission, is written in place. Raises OSError, and InputError for a
    refusal."""
    if "\0" in (name := os.fspath(path)):
        raise InputError("there is a NUL in its name", name)
    mode = _mode(name)
    regular = mode is None or stat.S_ISREG(mode)
    place = os.path.realpath(path) if regular else name  # /dev/stdout leads to "pipe:[123]"
    _demand_replaceable(place, name, mode, None if overwrite else kind)
    beside = os.path.join(os.path.dirname(place), f".{secrets.token_hex(16)}")
    draft = _new(beside) if regular else None
    if draft is None:
        with open(place, "wb") as file:
            yield file
        return
    try:
        with draft:
            if mode is not None:
                os.fchmod(draft.fileno(), stat.S_IMODE(mode))
            yield draft
            draft.flush()
            os.fsync(draft.fileno())
        try:
            os.replace(beside, place)
        except OSError as error:
            if error.errno not in NOT_OURS_TO_REPLACE:
                raise
            shutil.copyfile(beside, place)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)


def demand_writable(path: str, kind: Kind) -> None:
    """Demand that ``replacing`` can begin, before work whose result is to be written there. Raises
    OSError and InputError as it does."""
    if "\0" in path:
        raise InputError("there is a NUL in its name", path)
    mode = _mode(path)
    if mode is not None and stat.S_ISFIFO(mode):
        return  # its reader may come later
    _demand_replaceable(os.path.realpath(path), path, mode, kind)
    folder = os.path.dirname(path) or "."
    if not os.access(path if mode is not None else folder, os.W_OK):
        missing = not os.path.isdir(folder)
        raise (
            FileNotFoundError(ENOENT, os.strerror(ENOENT))
            if missing
            else PermissionError(EACCES, os.strerror(EACCES))
        )


def _demand_replaceable(place: str, name: str, mode: int | None, kind: Kind | None) -> None:
    """Raises InputError if data would be lost, or if opening a pipe would block."""
    if mode is None:
        return
    if stat.S_ISDIR(mode):
        raise InputError("this is a directory", name)
    if stat.S_ISFIFO(mode):
        try:
            os.close(os.open(place, os.O_WRONLY | os.O_NONBLOCK))
        except OSError as error:
            if error.errno == ENXIO:
                raise InputError("a pipe that nothing reads", name) from None
            raise
    elif kind is not None and (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        with open(place, "rb") as file:
            head = file.read(_LOOKED_AT)
        if any(head) and not kind.is_one(head):
            what = "a disk" if stat.S_ISBLK(mode) else "a file"
            raise InputError(
                f"there is {what} of this name, which is not {kind.name}: {kind.advice}", name
            )


def _new(path: str) -> BinaryIO | None:
    """A new file; None if the directory permits none. Raises FileExistsError if the name exists."""
    try:
        return open(path, "xb")
    except OSError as error:
        if error.errno not in NOT_OURS_TO_REPLACE:
            raise
        return None


def _mode(path: str) -> int | None:
    try:
        return os.stat(path).st_mode
    except FileNotFoundError:
        return None
