"""The disk's identification: the answer to IDENTIFY DEVICE (ATA/ATAPI-5, 8.12)."""

from __future__ import annotations

from struct import pack_into

GEOMETRY = 16, 63
"""Heads, and sectors per track, unless the guest sets others."""

MOST_MULTIPLE = 16
"""Sectors that READ and WRITE MULTIPLE can transfer in one block."""

LBA28_SECTORS = (1 << 28) - 1
"""The largest number of sectors that 28-bit addresses can name."""


def cylinders(sectors: int, geometry: tuple[int, int]) -> int:
    """The number of cylinders that hold ``sectors``, at most 16,383: above that, LBA must be used."""
    return min(max(sectors // (geometry[0] * geometry[1]), 1), 16_383)


def identity(sectors: int, geometry: tuple[int, int], multiple: int) -> bytes:
    """The 256 words, as 512 bytes. geometry: the one in use. multiple: the block size set, or 0."""
    data = bytearray(512)

    def word(number: int, *values: int) -> None:
        pack_into(f"<{len(values)}H", data, number * 2, *values)

    def text(number: int, words: int, value: str) -> None:
        padded = value.encode("ascii").ljust(words * 2)
        for at in range(0, len(padded), 2):  # the first character is the high byte
            data[number * 2 + at : number * 2 + at + 2] = padded[at : at + 2][::-1]

    in_use = cylinders(sectors, geometry)
    reachable = min(in_use * geometry[0] * geometry[1], sectors)
    total = min(sectors, LBA28_SECTORS)
    word(0, 0x0040)  # a fixed disk
    word(1, cylinders(sectors, GEOMETRY))
    word(3, GEOMETRY[0])
    word(6, GEOMETRY[1])
    text(10, 10, "RS00000001")
    text(23, 4, "1.0")
    text(27, 20, "RINGSCOPE DISK")
    word(47, 0x8000 | MOST_MULTIPLE)
    word(48, 1)  # 32-bit accesses of the data register work
    word(49, 0x0A00)  # LBA, IORDY; no DMA
    word(51, 0x0200)  # PIO mode 2 and up
    word(53, 0x0003)  # words 54-58 and 64-70 are valid
    word(54, in_use, *geometry, reachable & 0xFFFF, reachable >> 16)
    word(59, 0x0100 | multiple if multiple else 0)
    word(60, total & 0xFFFF, total >> 16)
    word(64, 0x0003, 0, 0, 120, 120)  # PIO modes 3 and 4, cycle times in ns
    word(80, 0x003E, 0)  # ATA-1 to ATA-5
    word(82, 0x4000, 0x5000, 0x4000, 0x4000, 0x1000, 0x4000)  # of the command sets, FLUSH CACHE
    return bytes(data)
