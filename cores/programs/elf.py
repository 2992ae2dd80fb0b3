"""Static x86-64 ELF executables (System V ABI, gABI ch. 4 and 5; psABI for x86-64).

The file is untrusted: every offset and count is checked against the file's size before it is used, and
nothing is allocated for a size that a header merely claims.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from cores.errors import InputError
from cores.programs import elf_kind
from cores.programs.program import Segment

MAGIC = b"\x7fELF"
_IDENTIFICATION = 16
_PT_LOAD = 1
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
    """A parsed ELF file. entry: an address. symbols: name -> address, from .symtab if there is one."""

    entry: int
    segments: tuple[Segment, ...]
    symbols: dict[str, int]


def parse(image: bytes, path: str, first: int, ram: int) -> Executable:
    """Read an executable whose segments go to physical addresses from ``first`` up to ``ram``.

    Raises InputError for any other file, and nothing else."""
    if len(image) < _IDENTIFICATION:
        raise InputError("truncated: shorter than an ELF header", path)
    if image[4] not in (1, 2) or image[5] not in (1, 2):
        raise InputError("damaged: neither a 32- nor a 64-bit ELF file of either byte order", path)
    if (reason := elf_kind.refusal(image)) is not None:
        raise InputError(reason, path)
    if len(image) < _HEADER.size:
        raise InputError("truncated: shorter than an ELF header", path)
    _, _, _, entry, ph_at, sh_at, _, _, ph_size, ph_count, sh_size, sh_count, _ = _HEADER.unpack_from(
        image
    )
    if ph_count and ph_size != _PROGRAM.size:
        raise InputError(f"damaged: program headers of {ph_size} bytes instead of 56", path)
    if ph_at + ph_count * _PROGRAM.size > len(image):
        raise InputError("truncated: the program headers lie beyond the end of the file", path)
    headers = [_PROGRAM.unpack_from(image, ph_at + i * _PROGRAM.size) for i in range(ph_count)]
    segments = _segments(image, headers, path, first, ram)
    if not any(s.gpa <= entry < s.gpa + s.size for s in segments):
        raise InputError(f"the entry {entry:#x} lies in none of its segments", path)
    return Executable(entry, segments, dict(_symbols(image, sh_at, sh_size, sh_count)))


def _segments(
    image: bytes, headers: list[tuple[int, ...]], path: str, first: int, ram: int
) -> tuple[Segment, ...]:
    """The PT_LOAD segments by physical address, in order of address."""
    found: list[tuple[int, int, int, int]] = []  # address, size, place in the file, size there
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
        found.append((gpa, in_memory, offset, in_file))
    if not found:
        raise InputError("empty: nothing in it is to be loaded", path)
    found.sort()
    for (low, size, _, _), (high, _, _, _) in pairwise(found):
        if low + size > high:
            raise InputError(f"the segments at {low:#x} and {high:#x} overlap", path)
    # Copied last: 65,534 headers may name the same bytes, and only here are overlaps excluded.
    return tuple(
        Segment(gpa, image[offset : offset + in_file], size) for gpa, size, offset, in_file in found
    )


def _symbols(image: bytes, at: int, size: int, count: int) -> Iterator[tuple[str, int]]:
    """Names and addresses from .symtab. A program runs without them: damaged ones are left out."""
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
