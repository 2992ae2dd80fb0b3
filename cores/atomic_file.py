"""Files that are written whole, or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from errno import EACCES, EBUSY, EPERM, EROFS, EXDEV
from typing import BinaryIO

NOT_OURS_TO_REPLACE = (EACCES, EPERM, EROFS, EBUSY, EXDEV)
"""The directory is closed to us, or the file is a mount point: it may be writable all the same."""


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to write, that takes the place of what is at ``path`` when all of it is on the disk.
    Should that fail (the disk is full), what was there stays, and nothing is left beside it.

    A link stays a link, and permissions stay; what cannot be replaced, such as a device or a file in
    a directory that is not ours, is written as it is. Raises OSError."""
    place = os.path.realpath(path)
    mode = _mode(place)
    regular = mode is None or stat.S_ISREG(mode)
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


def _new(path: str) -> BinaryIO | None:
    """A file that was not there, nor a link of that name; None where there can be none."""
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
