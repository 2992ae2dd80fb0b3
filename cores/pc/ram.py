"""The guest's RAM: one block of host memory that every engine can share.

One of the few files that may use mmap and ctypes: RAM is a memfd where the host has one, because
a vCPU process (ptrace) and /dev/kvm map it too; else anonymous memory, which Unicorn can use.
"""

from __future__ import annotations

import ctypes
import mmap
import os

from cores.errors import UnavailableError

PAGE = 4096
MIB = 1 << 20
SCRATCH_PAGES = 16
OUT_OF_LINE_PAGE = SCRATCH_PAGES
"""The page behind those of the windows, for moved instructions (cores/vmm/faults/out_of_line.py)."""


class Ram:
    """``size`` bytes of guest RAM, zeroed, and behind them a few scratch pages of the VMM's own.

    The scratch pages lie at the "physical" addresses from ``scratch`` on. No guest page table
    leads there; the VMM maps one of them when it opens a window onto a device for one instruction.

    Raises UnavailableError where the host has no room for it.

    view: all of it, writable. fd: the memfd, or -1. address: the host virtual address (HVA).
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.scratch = size
        total = size + (SCRATCH_PAGES + 1) * PAGE
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
        anchor = ctypes.c_char.from_buffer(self._map)
        self.address = ctypes.addressof(anchor)
        del anchor  # it would keep the map from closing

    def contents(self) -> bytes:
        """A copy of the guest's bytes, without the scratch pages."""
        return bytes(self.view[: self.size])

    def close(self) -> None:
        """Release the memory. The engines that map it must be closed first."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        self.view.release()
        self._map.close()
