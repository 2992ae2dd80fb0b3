"""Files that are written whole, or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to write, that takes the place of what is at ``path`` when all of it is on the disk.
    Should that fail (the disk is full), what was there stays, and nothing is left beside it.

    A link stays a link, and permissions stay; what is no regular file, such as a device, is written
    as it is. Raises OSError."""
    place = os.path.realpath(path)
    mode = _mode(place)
    if mode is not None and not stat.S_ISREG(mode):
        with open(place, "wb") as file:
            yield file
        return
    beside = f"{place}.{os.getpid()}"
    try:
        with open(beside, "wb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), stat.S_IMODE(mode))
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, place)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise


def _mode(path: str) -> int | None:
    try:
        return os.stat(path).st_mode
    except FileNotFoundError:
        return None
