"""Static x86-64 ELF executables (System V ABI, gABI ch. 4 and 5; psABI for x86-64).

The file is hostile until shown otherwise: every offset and count is checked against the file's
size before it is used, and nothing is allocated for a size that a header merely claims.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from cores.errors import InputError
from cores.programs.program import Segment

MAGIC = b"\x7fELF"
_CLASS_64, _LITTLE_ENDIAN, _X86_64 = 2, 1, 62
_TYPES = {
    1: "an object file: link it first (ld -static)",
    3: "position-independent: link it with -static -no-pie",
    4: "a core dump, not a program",
}
_EXECUTABLE = 2
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_PF_R = 4
_SHT_SYMTAB = 2
_SYMBOL_TYPES = (0, 1, 2)  # none, object, function; not sections and files
_LONGEST_NAME = 256

_HEADER = struct.Struct("<16xHHIQQQIHHHHHH")
_PROGRAM = struct.Struct("<IIQQQQQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")


@dataclass(frozen=True, slots=True)
class Executable:
    """entry: an address. symbols: name -> address, from .symtab where there is one."""

    entry: int
    segments: tuple[Segment, ...]
    symbols: dict[str, int]


def parse(image: bytes, path: str, first: int, ram: int) -> Executable:
    """Read an executable whose segments go to physical addresses from ``first`` up to ``ram``.

    Raises InputError for everything that is not such a file, and nothing else."""
    if len(image) < _HEADER.size:
        raise InputError("truncated: shorter than an ELF header", path)
    if image[4] != _CLASS_64:
        raise InputError("not x86-64: a 32-bit ELF file", path)
    if image[5] != _LITTLE_ENDIAN:
        raise InputError("not x86-64: a big-endian ELF file", path)
    kind, machine, _, entry, ph_at, sh_at, _, _, ph_size, ph_count, sh_size, sh_count, _ = (
        _HEADER.unpack_from(image)
    )
    if machine != _X86_64:
        raise InputError(f"not x86-64: an ELF file for machine {machine}", path)
    if kind in _TYPES:
        raise InputError(f"not a static executable: {_TYPES[kind]}", path)
    if kind != _EXECUTABLE:
        raise InputError(f"not a static executable: ELF type {kind}", path)
    if ph_count and ph_size != _PROGRAM.size:
        raise InputError(f"damaged: program headers of {ph_size} bytes instead of 56", path)
    if ph_at + ph_count * _PROGRAM.size > len(image):
        raise InputError("truncated: the program headers lie beyond the end of the file", path)
    headers = [_PROGRAM.unpack_from(image, ph_at + i * _PROGRAM.size) for i in range(ph_count)]
    if any(header[0] in (_PT_INTERP, _PT_DYNAMIC) for header in headers):
        raise InputError("not static: dynamically linked; link it with -static -no-pie", path)
    segments = _segments(image, headers, path, first, ram)
    if not any(s.gpa <= entry < s.gpa + s.size for s in segments):
        raise InputError(f"the entry {entry:#x} lies in none of its segments", path)
    return Executable(entry, segments, dict(_symbols(image, sh_at, sh_size, sh_count)))


def _segments(
    image: bytes, headers: list[tuple[int, ...]], path: str, first: int, ram: int
) -> tuple[Segment, ...]:
    """PT_LOAD by physical address, in order of address."""
    found: list[Segment] = []
    for kind, flags, offset, _, gpa, in_file, in_memory, _ in headers:
        if kind != _PT_LOAD or in_memory == 0:
            continue
        if flags == _PF_R and offset == 0 and gpa + in_memory <= first:
            continue  # the file's own headers: `ld -Ttext=0x100000` puts them a page before the text
        where = f"the segment at {gpa:#x}"
        if in_file > in_memory:
            raise InputError(f"damaged: {where} is larger in the file than in memory", path)
        if offset + in_file > len(image):
            raise InputError(f"truncated: {where} lies beyond the end of the file", path)
        if gpa < first:
            raise InputError(f"{where} lies below {first:#x}, where programs begin", path)
        if gpa + in_memory > ram:
            raise InputError(f"{where} ends outside RAM ({ram:#x} bytes; --ram makes it larger)", path)
        found.append(Segment(gpa, image[offset : offset + in_file], in_memory))
    if not found:
        raise InputError("empty: nothing in it is to be loaded", path)
    found.sort(key=lambda segment: segment.gpa)
    for low, high in pairwise(found):
        if low.gpa + low.size > high.gpa:
            raise InputError(f"the segments at {low.gpa:#x} and {high.gpa:#x} overlap", path)
    return tuple(found)


def _symbols(image: bytes, at: int, size: int, count: int) -> Iterator[tuple[str, int]]:
    """Names and addresses from .symtab. A program runs without them: what is damaged is left out."""
    if size != _SECTION.size or at + count * size > len(image):
        return
    sections = [_SECTION.unpack_from(image, at + i * size) for i in range(count)]
    for _, kind, _, _, offset, length, link, _, _, entry_size in sections:
        if kind != _SHT_SYMTAB or entry_size != _SYMBOL.size or link >= count:
            continue
        _, _, _, _, names, names_length, *_ = sections[link]
        end = min(names + names_length, len(image))
        stop = min(offset + length, len(image)) - _SYMBOL.size
        for place in range(offset, stop + 1, _SYMBOL.size):
            name, info, _, section, value, _ = _SYMBOL.unpack_from(image, place)
            if name == 0 or section == 0 or info & 15 not in _SYMBOL_TYPES:
                continue
            start = names + name
            close = image.find(b"\0", start, min(end, start + _LONGEST_NAME))
            if close > start:
                yield image[start:close].decode("utf-8", "replace"), value
        return  # a second table would only repeat the work
