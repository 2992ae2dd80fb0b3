"""A bootable raw disk of a guest program: for QEMU, Bochs, VirtualBox, VMware, and a real PC.

    LBA 0      the boot sector
    1-48       the platform's low memory, 0x10000-0x15FFF, as ``long_mode.boot`` lays it out; the
               loader hides in the boot information's page
    then       the program, in runs of 4 KiB pages; what is only zeros (.bss) is not stored
    then       the data disk, from a multiple of 4 KiB on; ``boot_information`` tells where
    the end    zeros up to a whole cylinder of 16 heads and 63 sectors, as Bochs wants

The boot code is in cores/pc/boot. It hands the CPU over in the boot state of contract.md; the rest of
RAM is zeros. What stays different: clocks have run, and the chipset's other devices exist.
"""

from __future__ import annotations

import os
import struct
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import BinaryIO

from cores.atomic_file import Kind, replacing
from cores.errors import InputError
from cores.pc.boot import disk_bootcode as boot_code
from cores.pc.boot.long_mode import boot
from cores.pc.boot.protocols import protocol_of
from cores.pc.devices.storage.disk import SECTOR, Disk, DiskError
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.platform import (
    BOOT_INFORMATION,
    DEFAULT_RAM,
    FREE_RAM,
    GDT,
    INITIAL_FPU,
    LOAD_ADDRESS,
    TASK,
)
from cores.pc.ram import Ram
from cores.programs.program import Program
from cores.x86.registers import RSP, Efer
from cores.x86.virtual_cpu import VirtualCpu

HEADS, SECTORS_PER_TRACK = 16, 63
CYLINDER = HEADS * SECTORS_PER_TRACK
"""Sectors."""

LOW_MEMORY = range(BOOT_INFORMATION, FREE_RAM.start)
PROGRAM_LBA = 1 + len(LOW_MEMORY) // SECTOR
PAGE = 4096
_PAGE_SECTORS = PAGE // SECTOR

# Offsets in the boot information's page, as in cores/pc/boot/loader.s and entry.s.
_RUNS, _FPU, _LOADER, _ENTRY, _PARAMETERS = 0x100, 0x500, 0x800, 0xB00, 0xFC0
MOST_RUNS = (_FPU - _RUNS) // 16 - 1  # the last one ends the list
_AVAILABLE_TSS = 0x89  # LTR wants this type, and changes it to 0x8B, busy
_PARTITION_TABLE, _SIGNATURE = 446, b"\x55\xaa"
_PARTITION_TYPE = 0xDA  # "data that is no file system"


def _is_one(head: bytes) -> bool:
    """Whether the first sector has the signature and the partition that ``_boot_sector`` writes."""
    partition = head[_PARTITION_TABLE : _PARTITION_TABLE + 16]
    return head[SECTOR - 2 : SECTOR] == _SIGNATURE and partition[4:5] == bytes([_PARTITION_TYPE])


KIND = Kind("a bootable disk of ours", _is_one)
_COPIED_AT_ONCE = 2048  # sectors


@dataclass(frozen=True, slots=True)
class Run:
    """Part of the program: ``sectors`` from guest physical address ``gpa`` and from ``lba``."""

    gpa: int
    sectors: int
    lba: int


@dataclass(frozen=True, slots=True)
class Layout:
    """The layout of the disk, in sectors. first_lba: of the data disk, 0 without one."""

    runs: tuple[Run, ...]
    first_lba: int
    disk_sectors: int
    sectors: int


def check_bootable(program: Program) -> None:
    """Raises InputError for a program that the image's loader cannot start."""
    if protocol_of(program) is not boot:
        raise InputError(
            "a bootable disk is written of assembly, flat images and plain ELF64 files; this is"
            f" {program.recognized}", program.path,
        )  # fmt: skip


def write_image(
    program: Program,
    path: str,
    *,
    ram: int = DEFAULT_RAM,
    disk: str | None = None,
    overwrite: bool = False,
) -> Layout:
    """Write the bootable disk to ``path``, a file or a device.

    ram: bytes of RAM in the boot information; the machine must have as much. disk: the data disk's
    image. overwrite: write over any file, see ``replacing``. Raises InputError when the program cannot
    boot on a PC, or a file cannot be used.
    """
    check_bootable(program)
    with ExitStack() as stack:
        data = stack.enter_context(closing(Disk(disk))) if disk is not None else None
        for source in (disk, program.path):
            if source is not None and _is_same(source, path):
                raise InputError("the image would overwrite what it is made from", path)
        layout = plan(program, data.sectors if data else 0)
        try:
            with replacing(path, KIND, overwrite=overwrite) as file:
                _write(file, program, ram, layout, data)
        except DiskError as error:
            raise InputError(f"cannot be read: {error}", disk) from None
        except OSError as error:
            raise InputError(f"cannot be written: {error.strerror}", path) from None
    return layout


def _is_same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):
        return False


def plan(program: Program, disk_sectors: int) -> Layout:
    """The layout of the program and its data disk."""
    runs, lba = [], PROGRAM_LBA
    for start, end in _stretches(program):
        runs.append(Run(start, (end - start) // SECTOR, lba))
        lba += runs[-1].sectors
    first_lba = -(-lba // _PAGE_SECTORS) * _PAGE_SECTORS if disk_sectors else 0
    end = first_lba + disk_sectors if disk_sectors else lba
    return Layout(tuple(runs), first_lba, disk_sectors, -(-end // CYLINDER) * CYLINDER)


def _stretches(program: Program) -> list[tuple[int, int]]:
    """The address ranges (start, end) that hold bytes of the file: whole pages, or larger blocks when
    there would be too many ranges."""
    block = PAGE
    while True:
        found: list[tuple[int, int]] = []
        for segment in sorted(program.segments, key=lambda s: s.gpa):
            start = segment.gpa // block * block
            end = -(-(segment.gpa + len(segment.data)) // block) * block
            if not segment.data:
                continue
            if found and start <= found[-1][1]:
                found[-1] = found[-1][0], max(end, found[-1][1])
            else:
                found.append((max(start, LOAD_ADDRESS), end))
        if len(found) <= MOST_RUNS:
            return found
        block *= 2


def _write(file: BinaryIO, program: Program, ram: int, layout: Layout, data: Disk | None) -> None:
    with closing(Ram(ram)) as space:
        memory = PhysicalMemory(space)
        cpu = VirtualCpu()
        boot(program, memory, cpu, disk_sectors=layout.disk_sectors, first_lba=layout.first_lba)
        _add_loader(memory, cpu, layout)
        file.write(_boot_sector(layout))
        file.write(bytes(memory.view[LOW_MEMORY.start : LOW_MEMORY.stop]))
        for run in layout.runs:
            size = run.sectors * SECTOR
            stored = bytes(memory.view[run.gpa : min(run.gpa + size, memory.size)])
            file.write(stored.ljust(size, b"\0"))
    written = layout.runs[-1].lba + layout.runs[-1].sectors if layout.runs else PROGRAM_LBA
    if data is not None:
        file.write(bytes((layout.first_lba - written) * SECTOR))
        for lba in range(0, data.sectors, _COPIED_AT_ONCE):
            file.write(data.read(lba, min(_COPIED_AT_ONCE, data.sectors - lba)))
        written = layout.first_lba + data.sectors
    file.write(bytes((layout.sectors - written) * SECTOR))


def _add_loader(memory: PhysicalMemory, cpu: VirtualCpu, layout: Layout) -> None:
    """Put the boot code, its parameters and the list of runs into the boot information's page."""
    runs = b"".join(struct.pack("<4I", run.gpa, run.sectors, run.lba, 0) for run in layout.runs)
    efer = cpu.efer & ~Efer.LMA  # the CPU sets LMA itself
    parameters = cpu.rip, cpu.gpr[RSP], memory.size, cpu.cr0, cpu.cr3, cpu.cr4, efer
    parts = {
        _RUNS: runs,
        _FPU: INITIAL_FPU,
        _LOADER: boot_code.code("loader"),
        _ENTRY: boot_code.code("entry"),
        _PARAMETERS: struct.pack("<7Q", *parameters),
    }
    for offset, part in parts.items():
        at = BOOT_INFORMATION + offset
        memory.view[at : at + len(part)] = part
    memory.view[GDT + TASK + 5] = _AVAILABLE_TSS


def _boot_sector(layout: Layout) -> bytes:
    """The boot sector, with a partition table, without which some BIOSes do not boot a disk."""
    code = boot_code.code("sector")
    no_chs = b"\xfe\xff\xff"
    size = min(layout.sectors - 1, 0xFFFFFFFF)
    partition = struct.pack("<B3sB3sII", 0x80, no_chs, _PARTITION_TYPE, no_chs, 1, size)
    return (code.ljust(_PARTITION_TABLE, b"\0") + partition).ljust(SECTOR - 2, b"\0") + _SIGNATURE
