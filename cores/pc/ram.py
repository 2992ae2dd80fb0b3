"""The guest's RAM: one block of host memory that every engine can share.

One of the few files that may use mmap and ctypes: RAM is a memfd where the host has one, because
a vCPU process (ptrace) and /dev/kvm map it too; else anonymous memory, which Unicorn can use.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator

from cores.errors import UnavailableError

PAGE = 4096
MIB = 1 << 20
CHUNK = 64 << 10
"""Bytes that sparse images keep or leave out together; RAM is a multiple of it."""
SCRATCH_PAGES = 16
OUT_OF_LINE_PAGE = SCRATCH_PAGES
"""The page behind those of the windows, for relocated instructions
(cores/vmm/faults/out_of_line.py)."""
LENT_PAGE = OUT_OF_LINE_PAGE + 1
"""The next one: a device's registers, for the guest to read (cores/vmm/faults/lent_page.py)."""
GIVEN_PAGE = LENT_PAGE + 1
"""The next one: the screen's memory, for the guest to have (cores/vmm/given_screen.py)."""
TRANSLATIONS = (GIVEN_PAGE + 1) * PAGE
"""Offset behind all of these, in the twin: translated code (cores/vmm/translated_code.py)."""


class Ram:
    """``size`` bytes of guest RAM, zeroed, followed by a few scratch pages of the VMM's own.

    The scratch pages have the "physical" addresses from ``scratch`` on. No guest page table maps them;
    the VMM maps one of them when it opens a window onto a device for one instruction.

    Raises UnavailableError if the host has no room for it.

    room: bytes behind the scratch pages. view: all of it, writable. words: the same as numbers of 64
    bits. fd: the memfd, or -1. address: the host virtual address (HVA).
    """

    def __init__(self, size: int, *, room: int = 0) -> None:
        self.size = size
        self.scratch = size
        total = size + TRANSLATIONS + room
        self.fd = -1
        try:
            if hasattr(os, "memfd_create"):
                self.fd = os.memfd_create("guest-ram", os.MFD_CLOEXEC)
                os.ftruncate(self.fd, total)
            self._map = mmap.mmap(self.fd, total)
        except OSError as error:
            if self.fd >= 0:
                os.close(self.fd)
            raise UnavailableError(
                f"the host gives no {-(-total >> 20)} MiB for the guest's RAM ({error.strerror})"
            ) from error
        self.view = memoryview(self._map)
        self.words = self.view.cast("Q")
        anchor = ctypes.c_char.from_buffer(self._map)
        self.address = ctypes.addressof(anchor)
        del anchor  # a reference would prevent closing the map

    def touched(self) -> Iterator[int]:
        """GPAs of the chunks in which a page was ever written or read; all others are zero.

        In a memfd those others are holes (lseek(2), SEEK_DATA). If RAM is not a memfd, all chunks."""
        if self.fd < 0:
            yield from range(0, self.size, CHUNK)
            return
        end = 0
        while end < self.size:
            try:
                data = os.lseek(self.fd, end, os.SEEK_DATA)
            except OSError:  # ENXIO: nothing but a hole is left
                return
            hole = os.lseek(self.fd, data, os.SEEK_HOLE)
            begin, end = data // CHUNK * CHUNK, -(-hole // CHUNK) * CHUNK
            yield from range(begin, min(end, self.size), CHUNK)

    def contents(self) -> bytes:
        """A copy of the guest's bytes, without the scratch pages."""
        return bytes(self.view[: self.size])

    def close(self) -> None:
        """Release the memory. The engines that map it must be closed first."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        self.words.release()
        self.view.release()
        self._map.close()
