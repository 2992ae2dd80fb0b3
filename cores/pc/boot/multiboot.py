"""The boot state of a Multiboot 1 kernel: 32-bit protected mode without paging.

Source: Multiboot Specification 0.6.96, 3.2 and 3.3. Where it leaves a choice, this is QEMU's: CS 8 and
data segments 0x10, in a GDT that stays valid (a kernel such as xv6 never loads CS anew), and memory
information, command line, modules, memory map and the loader's name in the information structure.
Kernel and modules come first; information, strings and GDT lie where neither does, from 0x10000 up.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from cores.pc.boot import mp_tables
from cores.pc.network.link import Link
from cores.pc.physical_memory import HOLE, PhysicalMemory
from cores.programs.program import Program
from cores.x86.registers import CS, DS, ES, FS, GS, RAX, RBX, RSP, SS, Cr0
from cores.x86.virtual_cpu import Segment, TableRegister, VirtualCpu

MAGIC = 0x2BADB002
CODE, DATA = 0x08, 0x10
_GDT = struct.pack("<3Q", 0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF)

MEMORY, COMMAND_LINE, MODULES, MAP, LOADER = 1 << 0, 1 << 2, 1 << 3, 1 << 6, 1 << 9
_INFORMATION = struct.Struct("<4I3I16xII12xI48x")
"""flags, lower, upper, boot device; command line, modules (count, address), no symbols; map (length,
address), no drives; loader name; no APM, VBE and frame buffer."""
_MODULE = struct.Struct("<4I")
_REGION = struct.Struct("<IQQI")
AVAILABLE, RESERVED = 1, 2
_LOWEST = 0x10000
_MIB, _PAGE = 1 << 20, 4096
_STACK = 0x7000
"""The specification says nothing; firmware leaves some such stack, and some kernels push on it."""
NAME = b"Ringscope"


def boot(
    program: Program, memory: PhysicalMemory, cpu: VirtualCpu, *, disk_sectors: int = 0,
    links: Sequence[Link] = (), disks: Sequence[object] = (),
) -> None:  # fmt: skip
    """Load kernel and modules into zeroed RAM, and set the CPU's first state."""
    mp_tables.write(memory)
    taken: list[range] = []
    for segment in program.segments:
        _store(memory, segment.gpa, segment.data)
        taken.append(range(segment.gpa, segment.gpa + segment.size))
    modules = []
    at = _aligned(max(_MIB, *(place.stop for place in taken)))
    for module in program.modules:
        _store(memory, at, module.data)
        modules.append((range(at, at + len(module.data)), module.text))
        taken.append(modules[-1][0])
        at = _aligned(at + len(module.data))
    gdt, information = _information(program.append, modules, memory, taken)
    cpu.assign(_boot_cpu(program.entry, gdt, information))


def _information(
    append: bytes, modules: list[tuple[range, bytes]], memory: PhysicalMemory, taken: list[range]
) -> tuple[int, int]:
    """Write GDT, information structure, module list, memory map and strings, in that order; returns the
    addresses of the first two."""
    regions = _map(memory.size)
    strings = [append, NAME, *(text for _, text in modules)]
    fixed = len(_GDT) + _INFORMATION.size + _MODULE.size * len(modules) + _REGION.size * len(regions)
    start = _free(fixed + sum(len(text) + 1 for text in strings), taken)
    information = start + len(_GDT)
    listed = information + _INFORMATION.size
    mapped = listed + _MODULE.size * len(modules)
    at, places = start + fixed, []
    for text in strings:
        _store(memory, at, text + b"\0")
        places.append(at)
        at += len(text) + 1
    flags = MEMORY | COMMAND_LINE | MODULES | MAP | LOADER
    lower, upper = HOLE.start >> 10, memory.size - _MIB >> 10
    _store(memory, start, _GDT + _INFORMATION.pack(
        flags, lower, upper, 0, places[0], len(modules), listed,
        len(regions) * _REGION.size, mapped, places[1],
    ))  # fmt: skip
    for number, (place, _) in enumerate(modules):
        record = _MODULE.pack(place.start, place.stop, places[2 + number], 0)
        _store(memory, listed + number * _MODULE.size, record)
    for number, (first, length, kind) in enumerate(regions):
        record = _REGION.pack(_REGION.size - 4, first, length, kind)
        _store(memory, mapped + number * _REGION.size, record)
    return start, information


def _map(ram: int) -> tuple[tuple[int, int, int], ...]:
    """(address, length, kind) of the regions below and above the screen and the ROMs."""
    below = (0, HOLE.start, AVAILABLE), (HOLE.start, _MIB - HOLE.start, RESERVED)
    return *below, (_MIB, ram - _MIB, AVAILABLE)


def _free(size: int, taken: Iterable[range]) -> int:
    """The lowest page from 0x10000 up from which ``size`` bytes are neither taken nor in the hole."""
    at = _LOWEST
    for place in sorted([*taken, range(HOLE.start, _MIB)], key=lambda place: place.start):
        if at + size <= place.start:
            break
        at = max(at, _aligned(place.stop))
    return at


def _boot_cpu(entry: int, gdt: int, information: int) -> VirtualCpu:
    cpu = VirtualCpu(
        rip=entry, cr0=Cr0.PE | Cr0.ET,
        gdtr=TableRegister(gdt, len(_GDT) - 1), idtr=TableRegister(0, 0),
        ldtr=Segment(0, 0, 0, 0x82), tr=Segment(0, 0, 0xFFFF, 0x8B),
    )  # fmt: skip
    cpu.gpr[RAX], cpu.gpr[RBX], cpu.gpr[RSP] = MAGIC, information, _STACK
    cpu.segments[CS] = Segment(CODE, 0, 0xFFFFFFFF, 0xC09B)
    for number in (ES, SS, DS, FS, GS):
        cpu.segments[number] = Segment(DATA, 0, 0xFFFFFFFF, 0xC093)
    return cpu


def _aligned(address: int) -> int:
    return -(-address // _PAGE) * _PAGE


def _store(memory: PhysicalMemory, gpa: int, data: bytes) -> None:
    """Store bytes before the guest begins; they are not among the VMM's recorded stores."""
    memory.view[gpa : gpa + len(data)] = data
