"""A disk's contents: a raw image file, and the sectors that the guest has written.

The file is opened for reading, and written sectors stay in memory (copy-on-write); so machines side by
side can share it. With ``write_through`` they are written to the file as well. Restoring a saved state
then restores the file too: the old contents of every changed sector are kept.
"""

from __future__ import annotations

import os
import stat
from io import FileIO

from cores.errors import EngineError, InputError

SECTOR = 512

MOST_CHANGED = (256 << 20) // SECTOR
"""Sectors that a guest may change: a hostile one must not fill the host's memory."""


class DiskError(Exception):
    """The host could not read or write the image; the guest sees a bad sector."""


class Disk:
    """A disk. path: the image. called: the device that it is for, where these have names.
    sectors: its size, the last one padded with zeros if it is not whole. trouble: the host's last
    error when reading or writing it.

    Raises InputError when the file cannot be used.
    """

    def __init__(self, path: str, *, write_through: bool = False, called: str = "") -> None:
        self.path, self.called = path, called
        self.write_through = write_through
        self.trouble = ""
        self._file, self._bytes = _open(path, write_through)
        self.sectors = -(-self._bytes // SECTOR)
        self._changed: dict[int, bytes] = {}
        self._shared = False  # a saved state holds ``_changed``: copy it before the next write
        self._originals: dict[int, bytes] = {}  # write_through: the file's first contents

    def read(self, lba: int, count: int) -> bytes:
        """``count`` sectors from ``lba`` on, which must lie on the disk. Raises DiskError."""
        changed = self._changed
        if count == 1 and lba in changed:
            return changed[lba]
        data = bytearray(self._read_file(lba, count))
        if count > len(changed):
            inside = [sector for sector in changed if lba <= sector < lba + count]
        else:
            inside = [sector for sector in range(lba, lba + count) if sector in changed]
        for sector in inside:
            at = (sector - lba) * SECTOR
            data[at : at + SECTOR] = changed[sector]
        return bytes(data)

    def write(self, lba: int, data: bytes) -> None:
        """Whole sectors from ``lba`` on, which must lie on the disk. Raises DiskError."""
        count = len(data) // SECTOR
        if len(self._changed) + count > MOST_CHANGED:
            fresh = sum(sector not in self._changed for sector in range(lba, lba + count))
            if len(self._changed) + fresh > MOST_CHANGED:
                raise self._refused("more sectors are written than are kept")
        if self.write_through:
            self._remember(lba, count)
            self._write_file(lba, data)
        if self._shared:
            self._changed = dict(self._changed)
            self._shared = False
        for number in range(count):
            self._changed[lba + number] = data[number * SECTOR : (number + 1) * SECTOR]

    def save(self) -> dict[int, bytes]:
        """The written sectors. Not copied until the next write: do not change it."""
        self._shared = True
        return self._changed

    def restore(self, state: dict[int, bytes]) -> None:
        """Restore a saved state, earlier or later. Raises EngineError when a file opened with
        ``write_through`` cannot be restored."""
        try:
            if self.write_through:
                self._rewrite(state)
        except DiskError as error:
            raise EngineError(f"the disk image cannot be taken back: {error}") from error
        self._changed = state
        self._shared = True

    def _rewrite(self, state: dict[int, bytes]) -> None:
        for sector in self._changed.keys() | state.keys():
            if self._changed.get(sector) != state.get(sector):
                self._remember(sector, 1)
                self._write_file(sector, state.get(sector, self._originals[sector]))

    def close(self) -> None:
        self._file.close()

    def _read_file(self, lba: int, count: int) -> bytes:
        start = lba * SECTOR
        wanted = min(count * SECTOR, self._bytes - start)
        parts = []
        try:
            self._file.seek(start)
            while wanted > 0:
                part = self._file.read(wanted)
                if not part:
                    raise self._refused(f"{self.path} has become shorter")
                parts.append(part)
                wanted -= len(part)
        except (OSError, ValueError) as error:  # ValueError: the file was closed
            raise self._refused(str(error)) from error
        return b"".join(parts).ljust(count * SECTOR, b"\0")

    def _write_file(self, lba: int, data: bytes) -> None:
        start = lba * SECTOR
        left = memoryview(data)[: max(self._bytes - start, 0)]  # the padding is not written
        try:
            self._file.seek(start)
            while left:
                left = left[self._file.write(left) :]
        except (OSError, ValueError) as error:
            raise self._refused(str(error)) from error

    def _refused(self, why: str) -> DiskError:
        self.trouble = why
        return DiskError(why)

    def _remember(self, lba: int, count: int) -> None:
        for sector in range(lba, lba + count):
            if sector not in self._originals:
                self._originals[sector] = self._read_file(sector, 1)


def _open(path: str, writable: bool) -> tuple[FileIO, int]:
    """The file and its size in bytes; raises InputError if it cannot serve as a disk."""
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise InputError("is a directory, not a disk image", path)
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            raise InputError("is not a regular file", path)
        file = FileIO(path, "r+" if writable else "r")
    except FileNotFoundError:
        raise InputError("no such disk image", path) from None
    except PermissionError:
        what = "read and written" if writable else "read"
        raise InputError(f"the disk image cannot be {what}: permission denied", path) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "there is a NUL in its name"
        raise InputError(f"the disk image cannot be opened: {reason}", path) from None
    try:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        file.read(1)
    except OSError as error:  # /proc/self/mem
        file.close()
        raise InputError(f"the disk image cannot be read: {error.strerror}", path) from None
    if size == 0:
        file.close()
        raise InputError("the disk image is empty", path)
    return file, size
