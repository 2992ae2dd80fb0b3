"""The bootable disk: its layout, and refusals. tests/agreement/test_peers.py boots it."""

from __future__ import annotations

import struct
from itertools import pairwise
from pathlib import Path

import pytest

from cores.errors import InputError
from cores.pc.boot import disk_bootcode as boot
from cores.pc.boot import disk_image as bootimage
from cores.pc.boot.disk_image import CYLINDER, MOST_RUNS, PROGRAM_LBA, plan, write_image
from cores.pc.boot.long_mode import boot as boot_platform
from cores.pc.devices.storage.disk import SECTOR
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.platform import BOOT_INFORMATION, DEFAULT_RAM, GDT, PAGE_TABLE
from cores.pc.ram import Ram
from cores.programs.assembler.keystone import assemble, installed
from cores.programs.program import Program, Segment
from cores.x86.virtual_cpu import VirtualCpu

MIB = 1 << 20


def program(*segments: Segment, kind: str = "elf") -> Program:
    return Program("guest", kind, segments[0].gpa, segments, "0" * 64)


def image(tmp_path: Path, guest: Program, ram: int = DEFAULT_RAM, disk: bytes | None = None) -> bytes:
    """The bootable disk's bytes."""
    target = tmp_path / "boot.img"
    source = None
    if disk is not None:
        source = tmp_path / "data.img"
        source.write_bytes(disk)
    write_image(guest, str(target), ram=ram, disk=str(source) if source else None)
    return target.read_bytes()


@pytest.mark.skipif(not installed(), reason="Keystone, the assembler, has no package here")
@pytest.mark.parametrize("part", boot.ORIGINS)
def test_bytes_are_those_of_the_source(part: str) -> None:
    """The boot code in the tree is what its source assembles to."""
    source = (boot.HERE / f"{part}.s").read_text()
    assert assemble(source, part, boot.ORIGINS[part]).code == boot.code(part)


def test_boot_code_fits() -> None:
    """No part of the boot information's page reaches into the next one."""
    assert len(boot.code("sector")) <= 446
    assert bootimage._LOADER + len(boot.code("loader")) <= bootimage._ENTRY
    assert bootimage._ENTRY + len(boot.code("entry")) <= bootimage._PARAMETERS
    assert bootimage._RUNS + 16 * (MOST_RUNS + 1) <= bootimage._FPU


def test_boot_sector(tmp_path: Path) -> None:
    """The boot sector has a BIOS's signature and one active partition, and the size is whole
    cylinders."""
    disk = image(tmp_path, program(Segment(MIB, b"\xf4", 1)))
    assert disk[510:512] == b"\x55\xaa"
    assert disk[446] == 0x80
    assert struct.unpack_from("<II", disk, 446 + 8) == (1, len(disk) // SECTOR - 1)
    assert len(disk) % (CYLINDER * SECTOR) == 0


def test_low_memory_is_the_platform(tmp_path: Path) -> None:
    """The stored tables are those that every core boots with, except for the TSS that LTR makes
    busy."""
    guest = program(Segment(MIB, b"\xf4", 1))
    stored = bytearray(image(tmp_path, guest)[SECTOR : PROGRAM_LBA * SECTOR])
    stored[GDT - BOOT_INFORMATION + 0x45] |= 2
    ram = Ram(DEFAULT_RAM)
    memory = PhysicalMemory(ram)
    boot_platform(guest, memory, VirtualCpu())
    expected = bytes(memory.view[BOOT_INFORMATION : PAGE_TABLE + 0x1000])
    ram.close()
    assert stored[:48] == expected[:48]
    assert stored[0x1000:] == expected[0x1000:]


def test_program_and_disk(tmp_path: Path) -> None:
    """The program is stored in its run, the data disk at the LBA of the boot information."""
    code, data = bytes(range(256)) * 40, b"data" * 1000
    disk = image(tmp_path, program(Segment(MIB, code, len(code) + 5 * MIB)), disk=data)
    assert disk[PROGRAM_LBA * SECTOR :].startswith(code)
    sectors, first = struct.unpack_from("<2Q", disk, SECTOR + 24)
    assert sectors == -(-len(data) // SECTOR)
    assert first % 8 == 0
    assert disk[first * SECTOR : (first + sectors) * SECTOR] == data.ljust(sectors * SECTOR, b"\0")
    assert len(disk) == CYLINDER * SECTOR  # .bss takes no room


def test_end_of_ram(tmp_path: Path) -> None:
    """A program may extend to the end of RAM, where the first stack slot is."""
    code = b"\x90" * (MIB - 9)
    assert code in image(tmp_path, program(Segment(MIB, code, MIB)), ram=2 * MIB)


def test_many_segments() -> None:
    """A program of many scattered segments fits the list of runs, with every byte."""
    segments = [Segment(MIB + n * 0x5000 + n % 7, b"x" * (n * 31 % 9000), 9000) for n in range(400)]
    runs = plan(program(*segments), 0).runs
    assert len(runs) <= MOST_RUNS
    for segment in segments:
        end = segment.gpa + len(segment.data)
        assert not segment.data or any(
            run.gpa <= segment.gpa and end <= run.gpa + run.sectors * SECTOR for run in runs
        )
    places = [(run.lba, run.lba + run.sectors) for run in runs]
    assert places[0][0] == PROGRAM_LBA
    assert all(a[1] == b[0] for a, b in pairwise(places))
    assert all(run.gpa >= MIB for run in runs)


@pytest.mark.parametrize(
    ("target", "disk", "kind", "reason"),
    [
        ("a.img", None, "m68k", "a PC cannot boot it"),
        ("a.img", None, "multiboot", "a bootable disk is written of"),
        ("no/such/folder.img", None, "elf", "cannot be written"),
        ("a.img", "a.img", "elf", "would overwrite"),
        ("a.img", "missing.img", "elf", "no such disk image"),
    ],
)
def test_refused(tmp_path: Path, target: str, disk: str | None, kind: str, reason: str) -> None:
    """An impossible image is refused in a sentence, and an existing file is unchanged."""
    (tmp_path / "a.img").write_bytes(b"precious")
    guest = program(Segment(MIB, b"\xf4", 1), kind=kind)
    with pytest.raises(InputError, match=reason):
        write_image(guest, str(tmp_path / target), disk=str(tmp_path / disk) if disk else None)
    assert (tmp_path / "a.img").read_bytes() == b"precious"
