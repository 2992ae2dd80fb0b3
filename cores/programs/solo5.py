"""Solo5 unikernels for the target hvt, ABI version 2: the program, its manifest and its first memory.

Everything that the guest finds in RAM when it begins is laid out here, as segments: the program, page
tables in which no page is both writable and executable, a GDT, the boot information, the manifest and
the command line. Addresses below 1 MiB are those of Solo5's own hvt, but for the program's page tables.

Source: Solo5, include/hvt_abi.h, elf_abi.h and mft_abi.h, tenders/hvt/hvt_cpu_x86_64.h.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cores.errors import InputError
from cores.plural import counted
from cores.programs import debug_lines, elf, elf_kind
from cores.programs.program import LOAD_ADDRESS, Module, Program, Segment, StartOptions
from cores.x86.mmu import paging_formats as paging

GDT, PML4, _PDPT, _DIRECTORY, BOOT_INFORMATION = 0x1000, 0x2000, 0x3000, 0x4000, 0x10000
_TABLES = range(0x20000, 0xA0000)
"""Page tables of the program's first pages: enough for 256 MiB of it."""
GDT_ENTRIES = (0, 0x00AF99000000FFFF, 0x00CF93000000FFFF)
"""Null; code, 64-bit; data."""

MANIFEST_AT = BOOT_INFORMATION + 56
"""Address of the manifest's copy, behind struct hvt_boot_info."""
_ENTRY = struct.Struct("<68sIQH6xQ?7x")
"""struct mft_entry: name, type, capacity, block size; the host's own; attached."""
_HEADER = struct.Struct("<II")
_VERSION, _MOST_DEVICES = 1, 64
BLOCK, NETWORK = 1, 2
MTU = 1500
"""Bytes of the largest packet, without Ethernet's header."""
_RESERVED = 1 << 30
"""From here on entries are the host's own; the first of each manifest is one."""
_LONGEST_COMMAND_LINE = 8191
_FREQUENCY = 1_000_000_000
"""Hz of the time-stamp counter: contract.md, Virtual time."""
_LARGE = 2 << 20
_PAGE = paging.PAGE
_LEAST_FREE = 1 << 20
"""RAM behind the program for its stack and heap, at least."""

_TABLE = paging.PRESENT | paging.WRITABLE | paging.ACCESSED
_DATA = _TABLE | paging.DIRTY | paging.NO_EXECUTE
_PF_X, _PF_W = 1, 2


@dataclass(frozen=True, slots=True)
class Entry:
    """A device of the manifest. kind: BLOCK, NETWORK, or from 1 << 30 on none."""

    name: str
    kind: int


def load(content: bytes, path: str, ram: int, options: StartOptions) -> Program:
    """A unikernel, for ``ram`` bytes of RAM. Raises InputError in one sentence."""
    if len(options.append) > _LONGEST_COMMAND_LINE or b"\0" in options.append:
        raise InputError(
            f"--append: longer than {_LONGEST_COMMAND_LINE} bytes, or there is a NUL in it"
        )
    manifest = elf_kind.solo5_manifest(content)
    if manifest is None:
        raise InputError("a Solo5 unikernel without a manifest", path)
    entries_of(manifest, path)
    loads, entry_point, symbols = elf.read_loads(content, path)
    loads.sort(key=lambda load: load.linear)
    _check(loads, entry_point, path, ram)
    end = _up(loads[-1].linear + loads[-1].in_memory)
    program = tuple(
        Segment(x.linear, content[x.offset : x.offset + x.in_file], x.in_memory) for x in loads
    )
    information = struct.pack(
        "<5QIIQ", ram, end, _FREQUENCY, MANIFEST_AT + len(manifest), MANIFEST_AT, 0, 0, 0
    )
    first = information + manifest + options.append + b"\0"
    low = [
        Segment(GDT, struct.pack("<3Q", *GDT_ENTRIES), 24),
        Segment(BOOT_INFORMATION, first, len(first)),
        *_page_tables(loads, end, ram, BOOT_INFORMATION + len(first)),
    ]
    return Program(
        path, "solo5", entry_point, (*low, *program), hashlib.sha256(content).hexdigest(), symbols,
        ram=ram, append=options.append, modules=(Module(manifest, b"manifest"),),
        image=content if debug_lines.has(content) else b"", folder=os.path.dirname(path),
    )  # fmt: skip


def entries_of(manifest: bytes, path: str = "") -> tuple[Entry, ...]:
    """The manifest's devices, in its order. Raises InputError where it is damaged."""
    if len(manifest) < _HEADER.size:
        raise InputError("the Solo5 manifest is truncated", path)
    version, count = _HEADER.unpack_from(manifest)
    if version != _VERSION or count > _MOST_DEVICES:
        raise InputError(f"a Solo5 manifest of version {version} with {counted(count, 'device')}", path)
    if len(manifest) < _HEADER.size + count * _ENTRY.size:
        raise InputError("the Solo5 manifest is truncated", path)
    fields = _ENTRY.iter_unpack(manifest[_HEADER.size : _HEADER.size + count * _ENTRY.size])
    return tuple(Entry(name.split(b"\0")[0].decode("latin-1"), kind) for name, kind, *_ in fields)


def assigned(manifest: bytes, kind: int, names: Sequence[str], path: str = "") -> dict[int, int]:
    """The disk or network of each device of that kind in the manifest: its number in ``names`` by the
    device's handle. One without a name is for the first device that none is named for. Raises
    InputError where a device has none, or a named one no device."""
    option, what, value = _OPTIONS[kind]
    wanted = {i: one.name for i, one in enumerate(entries_of(manifest, path)) if one.kind == kind}
    unknown = next((name for name in names if name and name not in wanted.values()), None)
    if unknown is not None:
        there = ", ".join(map(repr, wanted.values())) or "none"
        raise InputError(f"{option} {unknown}: its manifest has {what} devices: {there}", path)
    free = [number for number, name in enumerate(names) if not name]
    found = {}
    for handle, name in wanted.items():
        if name in names:
            found[handle] = names.index(name)
        elif free:
            found[handle] = free.pop(0)
        else:
            raise InputError(
                f"its manifest wants the {what} device {name!r}: {option} {name}={value}, say, gives"
                " one",
                path,
            )
    return found


_OPTIONS = {BLOCK: ("--disk", "block", "FILE"), NETWORK: ("--net", "network", "user")}


def named_disk(given: str) -> tuple[str, str]:
    """The name of a block device, and the image, of ``--disk NAME=FILE``; "" for no name."""
    name, equals, file = given.partition("=")
    return (name, file) if equals and "/" not in name and not os.path.lexists(given) else ("", given)


def attached(
    manifest: bytes, sizes: Mapping[int, int], block: int, cards: Mapping[int, bytes]
) -> bytes:
    """The manifest with its devices attached. sizes: the block devices' bytes, in blocks of ``block``;
    cards: the network devices' addresses; both by handle."""
    made = bytearray(manifest)
    for handle in range(len(entries_of(manifest))):
        at = _HEADER.size + handle * _ENTRY.size
        name, kind, _, _, own, is_attached = _ENTRY.unpack_from(manifest, at)
        if kind == BLOCK:
            _ENTRY.pack_into(made, at, name, kind, sizes[handle], block, own, True)
        elif kind == NETWORK:  # struct mft_net_basic: the address, and two bytes for the MTU
            address = int.from_bytes(cards[handle] + MTU.to_bytes(2, "little"), "little")
            _ENTRY.pack_into(made, at, name, kind, address, 0, own, True)
        elif kind >= _RESERVED:
            _ENTRY.pack_into(made, at, name, kind, 0, 0, own, is_attached)
    return bytes(made)


def _check(loads: list[elf.Load], entry: int, path: str, ram: int) -> None:
    """Check the segments against each other and against RAM. Raises InputError."""
    if not loads:
        raise InputError("empty: nothing in it is to be loaded", path)
    end = 0
    for load in loads:
        where = f"the segment at {load.linear:#x}"
        elf.check_place(
            load.linear,
            load.linear + load.in_memory,
            where,
            path,
            range(LOAD_ADDRESS, ram - _LEAST_FREE),
        )
        if load.linear // _PAGE * _PAGE < end:
            raise InputError(f"{where} shares a page with the one before", path)
        if load.flags & _PF_W and load.flags & _PF_X:
            raise InputError(f"{where} is both writable and executable", path)
        end = _up(load.linear + load.in_memory)
    if end > len(_TABLES) // _PAGE * _LARGE:
        raise InputError(f"too big: it ends at {end:#x}, behind 256 MiB", path)
    if not any(x.linear <= entry < x.linear + x.in_memory for x in loads):
        raise InputError(f"the entry {entry:#x} lies in none of its segments", path)


def _page_tables(loads: list[elf.Load], end: int, ram: int, read_only: int) -> Iterator[Segment]:
    """Identity mappings: pages of 4 KiB with the segments' rights, behind them of 2 MiB. Nothing below
    the boot information, which ends at ``read_only``."""
    rights = {}
    for load in loads:
        bits = _DATA if load.flags & _PF_W else _DATA & ~paging.WRITABLE
        if load.flags & _PF_X:
            bits &= ~paging.NO_EXECUTE
        for page in range(load.linear // _PAGE * _PAGE, load.linear + load.in_memory, _PAGE):
            rights[page] = bits
    rights.update(dict.fromkeys(range(BOOT_INFORMATION, read_only, _PAGE), _DATA & ~paging.WRITABLE))
    tables = -(-end // _LARGE)
    directory = [_TABLES.start + i * _PAGE | _TABLE for i in range(tables)]
    directory += [at | _DATA | paging.LARGE for at in range(tables * _LARGE, ram, _LARGE)]
    pages = []
    for page in range(0, tables * _LARGE, _PAGE):
        bits = rights.get(page, _DATA if page >= LOAD_ADDRESS else 0)
        pages.append(page | bits if bits else 0)
    for at, entries in (
        (PML4, [_PDPT | _TABLE]), (_PDPT, [_DIRECTORY | _TABLE]), (_DIRECTORY, directory),
        (_TABLES.start, pages),
    ):  # fmt: skip
        yield Segment(at, struct.pack(f"<{len(entries)}Q", *entries), 8 * len(entries))


def _up(address: int) -> int:
    return -(-address // _PAGE) * _PAGE
