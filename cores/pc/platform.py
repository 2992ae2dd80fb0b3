"""The PC that every guest sees: its memory map, selectors and limits (contract.md, Platform v1)."""

from __future__ import annotations

import struct

from cores.x86.mmu import paging_formats as paging

MIB = 1 << 20
DEFAULT_RAM = 16 * MIB
SMALLEST_RAM = 2 * MIB
LARGEST_RAM = 1024 * MIB

BOOT_INFORMATION = 0x10000
GDT = 0x11000
TSS = 0x11080
PML4 = 0x12000
PDPT = 0x13000
PAGE_DIRECTORY = 0x14000
PAGE_TABLE = 0x15000
FREE_RAM = range(0x16000, 0xA0000)
LOAD_ADDRESS = 0x100000
FIRST_MAPPED = BOOT_INFORMATION

KERNEL_CODE, KERNEL_DATA = 0x10, 0x18
USER_DATA, USER_CODE = 0x2B, 0x33
TASK = 0x40
GDT_LIMIT = 0x4F
TSS_LIMIT = 0x67

MAXPHYADDR = paging.MAXPHYADDR
"""40 bits of physical address: reserved bits in CR3 and page tables begin here."""

# SDM vol. 1, table 10-2: FCW, FSW, abridged FTW (0: all empty), ... MXCSR at 24, its mask at 28.
INITIAL_FPU = struct.pack("<HHBxHQQII", 0x37F, 0, 0, 0, 0, 0, 0x1F80, 0xFFFF).ljust(512, b"\0")
"""x87 and SSE at boot, as a 512-byte FXSAVE64 image."""
