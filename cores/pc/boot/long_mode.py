"""The boot state of platform v1: 64-bit mode, with page tables, GDT and TSS in RAM.

``boot`` loads a program into RAM and sets the CPU's first state, the same on every core. The guest may
change the tables: they lie in its own memory.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from cores.pc.network.link import Link
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.platform import (
    BOOT_INFORMATION,
    FIRST_MAPPED,
    GDT,
    GDT_LIMIT,
    KERNEL_CODE,
    KERNEL_DATA,
    MIB,
    PAGE_DIRECTORY,
    PAGE_TABLE,
    PDPT,
    PML4,
    TASK,
    TSS,
    TSS_LIMIT,
)
from cores.programs.program import Program
from cores.x86.mmu import paging_formats as paging
from cores.x86.registers import CS, DS, ES, FS, GS, RDI, RSP, SS, Cr0, Cr4, Efer
from cores.x86.virtual_cpu import Segment, TableRegister, VirtualCpu

BOOT_CR0 = Cr0.PG | Cr0.AM | Cr0.WP | Cr0.NE | Cr0.ET | Cr0.MP | Cr0.PE
BOOT_CR4 = Cr4.PAE | Cr4.OSFXSR | Cr4.OSXMMEXCPT
BOOT_EFER = Efer.LMA | Efer.LME | Efer.NXE | Efer.SCE
BOOT_RFLAGS = 2

_GDT_ENTRIES = (
    0,
    0,
    0x00AF9B000000FFFF,  # 0x10 kernel code: 64-bit, execute/read, accessed
    0x00CF93000000FFFF,  # 0x18 kernel data: read/write, accessed
    0,  # 0x20 is 8 below user data, for SYSRET: STAR[63:48] = 0x20
    0x00CFF3000000FFFF,  # 0x28 user data
    0x00AFFB000000FFFF,  # 0x30 user code
    0,
    0x00008B0000000000 | (TSS & 0xFFFFFF) << 16 | TSS_LIMIT,  # 0x40 busy 64-bit TSS
    0,  # its upper half: bits 32-63 of the base
)
# Accessed and dirty are set from the start, so that execution changes no byte of these tables.
_TABLE_ENTRY = paging.PRESENT | paging.WRITABLE | paging.ACCESSED
_PAGE_ENTRY = _TABLE_ENTRY | paging.DIRTY


def boot(
    program: Program,
    memory: PhysicalMemory,
    cpu: VirtualCpu,
    *,
    disk_sectors: int = 0,
    first_lba: int = 0,
    links: Sequence[Link] = (),
    disks: Sequence[object] = (),
) -> None:
    """Load ``program`` into (zeroed) RAM and set ``cpu`` to the boot state.

    disk_sectors, first_lba: of the data disk, for the boot information. The x87/SSE state is the
    engine's: give it ``INITIAL_FPU``. The program fits into RAM: cores/programs/program.py has checked.
    """
    _write_tables(memory)
    information = (memory.size, program.start, program.end, disk_sectors, first_lba, 0)
    _store(memory, BOOT_INFORMATION, struct.pack("<6Q", *information))
    for segment in program.segments:
        _store(memory, segment.gpa, segment.data + bytes(segment.size - len(segment.data)))
    stack = memory.size - 8
    _store(memory, stack, bytes(8))
    cpu.assign(_boot_cpu(program.entry, stack))


def _store(memory: PhysicalMemory, gpa: int, data: bytes) -> None:
    """Store bytes before the guest begins; they are not among the VMM's recorded stores."""
    memory.view[gpa : gpa + len(data)] = data


def _write_tables(memory: PhysicalMemory) -> None:
    """GDT, TSS, and page tables that map RAM from 0x10000 and the hole to their own addresses."""
    _store(memory, GDT, struct.pack("<10Q", *_GDT_ENTRIES))
    _store(memory, TSS + 0x66, struct.pack("<H", TSS_LIMIT + 1))  # no I/O permission map
    _store(memory, PML4, struct.pack("<Q", PDPT | _TABLE_ENTRY))
    _store(memory, PDPT, struct.pack("<Q", PAGE_DIRECTORY | _TABLE_ENTRY))
    directory = [PAGE_TABLE | _TABLE_ENTRY]
    directory += [gpa | _PAGE_ENTRY | paging.LARGE for gpa in range(2 * MIB, memory.size, 2 * MIB)]
    _store(memory, PAGE_DIRECTORY, struct.pack(f"<{len(directory)}Q", *directory))
    pages = [gpa | _PAGE_ENTRY if gpa >= FIRST_MAPPED else 0 for gpa in range(0, 2 * MIB, paging.PAGE)]
    _store(memory, PAGE_TABLE, struct.pack("<512Q", *pages))


def _boot_cpu(entry: int, stack: int) -> VirtualCpu:
    cpu = VirtualCpu(
        rip=entry, rflags=BOOT_RFLAGS, cr0=BOOT_CR0, cr3=PML4, cr4=BOOT_CR4, efer=BOOT_EFER,
        gdtr=TableRegister(GDT, GDT_LIMIT), idtr=TableRegister(0, 0),
        ldtr=Segment(0, 0, 0, 0),
        tr=Segment(TASK, TSS, TSS_LIMIT, 0x8B),
    )  # fmt: skip
    cpu.gpr[RDI] = BOOT_INFORMATION
    cpu.gpr[RSP] = stack
    cpu.segments[CS] = Segment(KERNEL_CODE, 0, 0xFFFFFFFF, 0xA09B)
    for number in (ES, SS, DS, FS, GS):
        cpu.segments[number] = Segment(KERNEL_DATA, 0, 0xFFFFFFFF, 0xC093)
    return cpu
