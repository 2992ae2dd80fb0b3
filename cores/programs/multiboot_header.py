"""Multiboot headers, which a kernel in any file format has near the file's beginning."""

from __future__ import annotations

import struct

_MAGIC_1, _MAGIC_2 = struct.pack("<I", 0x1BADB002), struct.pack("<I", 0xE85250D6)
_SEARCHED_1, _SEARCHED_2 = 8192, 32768
"""Bytes from the file's beginning within which the header lies."""


def multiboot_version(image: bytes) -> int | None:
    """1 or 2 if there is a header with the right checksum (Multiboot 0.6.96, 3.1.1: aligned to 4 bytes;
    Multiboot 2, 3.1.1: to 8), else None."""
    for at in _places(image, _MAGIC_1, _SEARCHED_1, 4):
        if _sums_to_0(image[at : at + 12], 3):
            return 1
    for at in _places(image, _MAGIC_2, _SEARCHED_2, 8):
        if _sums_to_0(image[at : at + 16], 4):
            return 2
    return None


def multiboot_refusal(version: int, file: str = "") -> str:
    """The refusal of a Multiboot kernel, for the user. file: the kind of file that the header is in."""
    return (
        f"a Multiboot {version} kernel{file}, which a boot loader starts in 32-bit protected mode: this"
        " version starts guests in 64-bit mode only"
    )


def _sums_to_0(header: bytes, words: int) -> bool:
    if len(header) < 4 * words:
        return False
    return bool(sum(struct.unpack(f"<{words}I", header)) & 0xFFFFFFFF == 0)


def _places(image: bytes, magic: bytes, searched: int, alignment: int) -> list[int]:
    found, at = [], image.find(magic, 0, searched)
    while at >= 0:
        if at % alignment == 0:
            found.append(at)
        at = image.find(magic, at + 1, searched)
    return found
