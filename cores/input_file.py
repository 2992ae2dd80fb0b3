"""Input files that a user names: read whole, or refused in one sentence.

A name may stand for a pipe (`compare <(make-guest)`), which is read to its end, for a device, a
directory or a pipe that nothing writes to. None of these may block the program without a message.
"""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Iterator

from cores.errors import InputError

_AT_ONCE = 1 << 20
_FIRST_WRITER = 1000
"""Milliseconds for which a pipe may be without a writer: `make-guest > pipe & compare pipe` may open
either end first (fifo(7))."""


def read(path: str, limit: int, what: str = "program") -> bytes:
    """The file's bytes, at most ``limit`` + 1 of them. what: the expected kind, for the message.

    Raises InputError."""
    parts, size = [], 0
    for part in _parts(path, what):
        parts.append(part)
        size += len(part)
        if size > limit:
            break
    return b"".join(parts)[: limit + 1]


def begins_with(path: str, magic: bytes) -> bool:
    """Whether it is a regular file that begins with ``magic``."""
    try:
        file = _open(path)
    except (OSError, ValueError):
        return False
    try:
        return stat.S_ISREG(os.fstat(file).st_mode) and os.read(file, len(magic)) == magic
    except OSError:
        return False
    finally:
        os.close(file)


def _parts(path: str, what: str) -> Iterator[bytes]:
    try:
        file = _open(path)
    except (OSError, ValueError) as error:
        raise InputError(_reason(error, what), path) from None
    try:
        mode = os.fstat(file).st_mode
        if stat.S_ISDIR(mode):
            raise InputError(f"this is a directory, not a {what}", path)
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise InputError(f"this is a device, not a {what}", path)
        if stat.S_ISFIFO(mode):
            yield from _piped(file, path)
        else:
            while part := os.read(file, _AT_ONCE):
                yield part
    except BlockingIOError:  # /proc/kmsg
        raise InputError("there is nothing in it to be read yet", path) from None
    except OSError as error:
        raise InputError(_reason(error, what), path) from None
    finally:
        os.close(file)


def _open(path: str) -> int:
    """Open with O_NONBLOCK, so that opening a pipe does not wait for a writer. Raises OSError;
    ValueError for a NUL in the name."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    return os.open(path, flags | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOCTTY", 0))


def _piped(file: int, path: str) -> Iterator[bytes]:
    """The parts of a pipe: waits for as long as it has a writer; without one, the end is reached."""
    began = late = False
    poll = select.poll()
    poll.register(file, select.POLLIN)
    while True:
        try:
            part = os.read(file, _AT_ONCE)
        except BlockingIOError:
            select.select([file], [], [])
            continue
        if part:
            began = True
            yield part
        elif began:
            return
        elif late:
            raise InputError("a pipe that nothing writes to", path)
        elif poll.poll(_FIRST_WRITER) == [(file, select.POLLHUP)]:  # a writer has come, and gone
            return
        else:
            late = True


def _reason(error: OSError | ValueError, what: str) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, IsADirectoryError):
        return f"this is a directory, not a {what}"
    if isinstance(error, ValueError):  # Python's words for it have changed with its versions
        return "no such file: there is a NUL in its name"
    return f"cannot be read: {error.strerror}"
