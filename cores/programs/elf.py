"""Static ELF executables (System V ABI, gABI ch. 4 and 5): x86-64 programs, and kernels of both widths.

The file is untrusted: every offset and count is checked against the file's size before it is used, and
nothing is allocated for a size that a header merely claims.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from cores.errors import InputError
from cores.programs import elf_kind
from cores.programs.program import Segment

MAGIC = b"\x7fELF"
_IDENTIFICATION = 16
_PT_LOAD = 1
_PF_W, _PF_R = 2, 4
_SHT_SYMTAB = 2
_SYMBOL_TYPES = (0, 1, 2)  # none, object, function; not sections and files
_LONGEST_NAME = 256

_PAGE = 0x1000
_KERNELS_BEGIN = 0x1000
_ROM = range(0xA0000, 0x100000)
"""The screen and the ROMs of a PC, where no kernel is loaded."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """The records of one class of ELF file, and the order of their fields."""

    header: struct.Struct
    program: struct.Struct
    section: struct.Struct
    symbol: struct.Struct
    program_fields: tuple[int, ...]
    """The places of: type, flags, offset, linear, physical, size in the file, size in memory."""
    symbol_fields: tuple[int, ...]
    """The places of: name, info, section, value."""


_LAYOUTS = {
    1: _Layout(
        struct.Struct("<16xHHIIIIIHHHHHH"), struct.Struct("<IIIIIIII"), struct.Struct("<10I"),
        struct.Struct("<IIIBBH"), (0, 6, 1, 2, 3, 4, 5), (0, 3, 5, 1),
    ),
    2: _Layout(
        struct.Struct("<16xHHIQQQIHHHHHH"), struct.Struct("<IIQQQQQQ"), struct.Struct("<IIQQQQIIQQ"),
        struct.Struct("<IBBHQQ"), (0, 1, 2, 3, 4, 5, 6), (0, 1, 3, 4),
    ),
}  # fmt: skip
"""By the class, the fifth byte of the file: 32 and 64 bits."""


@dataclass(frozen=True, slots=True)
class Load:
    """A PT_LOAD segment. flags: PF_X, PF_W and PF_R. offset, in_file: its bytes in the file. linear,
    physical: where they go. in_memory: with the zeros that follow them."""

    flags: int
    offset: int
    linear: int
    physical: int
    in_file: int
    in_memory: int


@dataclass(frozen=True, slots=True)
class Executable:
    """A parsed ELF file. entry: an address. symbols: name -> address, from .symtab if there is one."""

    entry: int
    segments: tuple[Segment, ...]
    symbols: dict[str, int]


def parse(image: bytes, path: str, first: int, ram: int) -> Executable:
    """Read an x86-64 executable whose segments go to physical addresses from ``first`` up to ``ram``.

    Raises InputError for any other file, and nothing else."""
    _check_identification(image, path)
    if (reason := elf_kind.refusal(image)) is not None:
        raise InputError(reason, path)
    loads, entry, symbols = _read(image, path)
    segments = _segments(image, loads, path, range(first, ram))
    if not any(s.gpa <= entry < s.gpa + s.size for s in segments):
        raise InputError(f"the entry {entry:#x} lies in none of its segments", path)
    return Executable(entry, segments, symbols)


def parse_kernel(image: bytes, path: str, ram: int) -> Executable:
    """Read a Multiboot kernel, 32 or 64 bits, which is loaded by its physical addresses and entered at
    a physical address. e_entry may be one, or a linear one: GRUB wants a linear one, other loaders take
    both. Raises InputError."""
    _check_identification(image, path)
    if (reason := elf_kind.kernel_refusal(image)) is not None:
        raise InputError(reason, path)
    loads, entry, symbols = _read(image, path)
    segments = _segments(image, loads, path, range(_KERNELS_BEGIN, ram))
    for load in loads:
        if load.linear <= entry < load.linear + load.in_memory:
            entry += load.physical - load.linear
            break
    if not any(s.gpa <= entry < s.gpa + s.size for s in segments):
        raise InputError(f"the entry {entry:#x} lies in none of its segments", path)
    return Executable(entry, segments, symbols)


def read_loads(image: bytes, path: str) -> tuple[list[Load], int, dict[str, int]]:
    """The segments to load, the entry, and the symbols, of a little-endian file whose places nothing
    has checked but for the file's end. Raises InputError."""
    _check_identification(image, path)
    loads, entry, symbols = _read(image, path)
    for load in loads:
        _check_extent(image, load, f"the segment at {load.linear:#x}", path)
    return loads, entry, symbols


def check_place(start: int, end: int, what: str, path: str, room: range) -> None:
    """Check that memory from ``start`` to ``end`` is in RAM at ``room``. Raises InputError."""
    if start < room.start:
        raise InputError(f"{what} lies below {room.start:#x}, where programs begin", path)
    if end > room.stop:
        raise InputError(f"{what} ends outside RAM ({room.stop:#x} bytes; --ram makes it larger)", path)
    if start < _ROM.stop and end > _ROM.start:
        raise InputError(f"{what} lies in 0xa0000-0xfffff, where a PC has its screen and ROM", path)


def _check_identification(image: bytes, path: str) -> None:
    if len(image) < _IDENTIFICATION:
        raise InputError("truncated: shorter than an ELF header", path)
    if image[4] not in (1, 2) or image[5] not in (1, 2):
        raise InputError("damaged: neither a 32- nor a 64-bit ELF file of either byte order", path)


def _read(image: bytes, path: str) -> tuple[list[Load], int, dict[str, int]]:
    """The segments to load, the entry, and the symbols, of a little-endian file."""
    layout = _LAYOUTS[image[4]]
    if len(image) < layout.header.size:
        raise InputError("truncated: shorter than an ELF header", path)
    fields = layout.header.unpack_from(image)
    _, _, _, entry, ph_at, sh_at, _, _, ph_size, ph_count, sh_size, sh_count, _ = fields
    if ph_count and ph_size != layout.program.size:
        raise InputError(
            f"damaged: program headers of {ph_size} bytes instead of {layout.program.size}", path
        )
    if ph_at + ph_count * ph_size > len(image):
        raise InputError("truncated: the program headers lie beyond the end of the file", path)
    headers = (layout.program.unpack_from(image, ph_at + i * ph_size) for i in range(ph_count))
    ordered = (tuple(header[place] for place in layout.program_fields) for header in headers)
    loads = [Load(*fields[1:]) for fields in ordered if fields[0] == _PT_LOAD and fields[6]]
    return loads, entry, dict(_symbols(image, layout, sh_at, sh_size, sh_count))


def _segments(image: bytes, loads: list[Load], path: str, room: range) -> tuple[Segment, ...]:
    """The segments by physical address, in order of address."""
    found: list[Load] = []
    for whole in loads:
        load = _without_headers(whole, room)
        if load is None:
            continue
        gpa, end = load.physical, load.physical + load.in_memory
        where = f"the segment at {gpa:#x}"
        _check_extent(image, load, where, path)
        check_place(gpa, end, where, path, room)
        found.append(load)
    if not found:
        raise InputError("empty: nothing in it is to be loaded", path)
    found.sort(key=lambda load: load.physical)
    for low, high in pairwise(found):
        if low.physical + low.in_memory > high.physical:
            raise InputError(f"the segments at {low.physical:#x} and {high.physical:#x} overlap", path)
    # Copied last: 65,534 headers may name the same bytes, and only here are overlaps excluded.
    return tuple(
        Segment(load.physical, image[load.offset : load.offset + load.in_file], load.in_memory)
        for load in found
    )


def _without_headers(load: Load, room: range) -> Load | None:
    """The segment without the file's own headers, where these lie below the memory that it can be
    loaded to: `ld -Ttext=0x100000` puts them a page before the text, in a segment of their own (None)
    or in the text's (`-z noseparate-code`). No program reads them there, and GRUB leaves a kernel's to
    the ROM."""
    begin = _ROM.stop if load.physical in _ROM else room.start
    headers = begin - load.physical
    if load.offset or headers <= 0:
        return load
    if load.in_memory <= headers:
        return None if load.flags == _PF_R else load
    if headers > _PAGE or load.flags & _PF_W or load.in_file < headers:
        return load
    return replace(
        load, offset=headers, linear=load.linear + headers, physical=begin,
        in_file=load.in_file - headers, in_memory=load.in_memory - headers,
    )  # fmt: skip


def _check_extent(image: bytes, load: Load, where: str, path: str) -> None:
    if load.in_file > load.in_memory:
        raise InputError(f"damaged: {where} is larger in the file than in memory", path)
    if load.offset + load.in_file > len(image):
        raise InputError(f"truncated: {where} lies beyond the end of the file", path)


def _symbols(
    image: bytes, layout: _Layout, at: int, size: int, count: int
) -> Iterator[tuple[str, int]]:
    """Names and addresses from .symtab. A program runs without them: damaged ones are left out."""
    if size != layout.section.size or at + count * size > len(image):
        return
    sections = [layout.section.unpack_from(image, at + i * size) for i in range(count)]
    for _, kind, _, _, offset, length, link, _, _, entry_size in sections:
        if kind != _SHT_SYMTAB or entry_size != layout.symbol.size or link >= count:
            continue
        _, _, _, _, names, names_length, *_ = sections[link]
        end = min(names + names_length, len(image))
        stop = min(offset + length, len(image)) - layout.symbol.size
        for place in range(offset, stop + 1, layout.symbol.size):
            symbol = layout.symbol.unpack_from(image, place)
            name, info, section, value = (symbol[field] for field in layout.symbol_fields)
            if name == 0 or section == 0 or info & 15 not in _SYMBOL_TYPES:
                continue
            start = names + name
            close = image.find(b"\0", start, min(end, start + _LONGEST_NAME))
            if close > start:
                yield image[start:close].decode("utf-8", "replace"), value
        return  # a second table would only repeat the work
