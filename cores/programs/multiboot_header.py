"""Multiboot headers, which a kernel in any file format has near the file's beginning."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_MAGIC_1, _MAGIC_2 = struct.pack("<I", 0x1BADB002), struct.pack("<I", 0xE85250D6)
_SEARCHED_1, _SEARCHED_2 = 8192, 32768
"""Bytes from the file's beginning within which the header lies."""

_VIDEO, _ADDRESSES = 1 << 2, 1 << 16
_KNOWN_DEMANDS = 0b111
_POSSIBLE = _KNOWN_DEMANDS | _ADDRESSES
"""Bits 0 to 15 of the flags demand something of the loader: modules on page boundaries, memory
information, a video mode."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """The address fields (Multiboot 0.6.96, 3.1.3). load_end: 0 for the file's end; bss_end: 0 for
    none."""

    header: int
    load: int
    load_end: int
    bss_end: int
    entry: int


@dataclass(frozen=True, slots=True)
class MultibootHeader:
    """A Multiboot 1 header with the right checksum. at: its place in the file. graphics: it demands a
    graphics mode. addresses: None if the file's own format says where it is loaded."""

    at: int
    flags: int
    graphics: bool
    addresses: Addresses | None

    @property
    def unknown_demands(self) -> int:
        """Flags that demand what no version of the specification knows."""
        return self.flags & 0xFFFF & ~_KNOWN_DEMANDS


def find_header(image: bytes) -> MultibootHeader | None:
    """The Multiboot 1 header (0.6.96, 3.1): aligned to 4 bytes, with the right checksum."""
    for at in _places(image, _MAGIC_1, _SEARCHED_1, 4):
        if _sums_to_0(image[at : at + 12], 3):
            words = struct.unpack("<12I", image[at : at + 48].ljust(48, b"\0"))
            flags = words[1]
            whole = flags & _ADDRESSES and at + 32 <= len(image)
            graphics = bool(flags & _VIDEO) and words[8] == 0
            return MultibootHeader(at, flags, graphics, Addresses(*words[3:8]) if whole else None)
    return None


def miswritten_header(image: bytes) -> int | None:
    """The place of a Multiboot 1 header with possible flags and a wrong checksum, where there is no
    right one."""
    if find_header(image) is not None:
        return None
    for at in _places(image, _MAGIC_1, _SEARCHED_1, 4):
        if at + 12 <= len(image) and not int.from_bytes(image[at + 4 : at + 8], "little") & ~_POSSIBLE:
            return at
    return None


def is_multiboot_2(image: bytes) -> bool:
    """Is there a Multiboot 2 header (3.1.1: aligned to 8 bytes) with the right checksum?"""
    places = _places(image, _MAGIC_2, _SEARCHED_2, 8)
    return any(_sums_to_0(image[at : at + 16], 4) for at in places)


def multiboot_2_refusal(file: str = "") -> str:
    """The refusal of a Multiboot 2 kernel, for the user. file: the kind of file that it is in."""
    return (
        f"a Multiboot 2 kernel{file}: Ringscope starts kernels by Multiboot 1, which many have as well"
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
