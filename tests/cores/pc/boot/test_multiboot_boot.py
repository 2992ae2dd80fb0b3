"""The first states of Multiboot kernels, disks and ROMs, as specifications and firmware have them."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from cores.pc.boot import mp_tables, multiboot, real_mode
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.ram import MIB, Ram
from cores.programs.program import Module, Program, Segment
from cores.x86.mode import Mode, mode
from cores.x86.registers import CS, RAX, RBX, RDX, SS
from cores.x86.virtual_cpu import VirtualCpu


@pytest.fixture
def memory() -> Iterator[PhysicalMemory]:
    ram = Ram(8 * MIB)
    yield PhysicalMemory(ram)
    ram.close()


def kernel(*segments: Segment, append: bytes = b"", modules: tuple[Module, ...] = ()) -> Program:
    return Program(
        "k", "multiboot", segments[0].gpa, segments, "", append=append, modules=modules, ram=8 * MIB
    )


def words(memory: PhysicalMemory, at: int, count: int) -> tuple[int, ...]:
    return struct.unpack_from(f"<{count}I", memory.view, at)


def text(memory: PhysicalMemory, at: int) -> bytes:
    return bytes(memory.view[at : at + 5000]).split(b"\0")[0]


def test_multiboot_state(memory: PhysicalMemory) -> None:
    """32-bit protected mode, flat segments 8 and 0x10 from a valid GDT, EAX and EBX, no paging."""
    cpu = VirtualCpu()
    multiboot.boot(kernel(Segment(MIB, b"code", 0x3000)), memory, cpu)
    assert mode(cpu) is Mode.PROTECTED_32
    assert (cpu.cr0, cpu.cr4, cpu.efer, cpu.rflags, cpu.rip, cpu.cpl) == (0x11, 0, 0, 2, MIB, 0)
    assert (cpu.gpr[RAX], [s.selector for s in cpu.segments]) == (0x2BADB002, [16, 8, 16, 16, 16, 16])
    gdt = struct.unpack_from("<3Q", memory.view, cpu.gdtr.base)
    assert gdt == (0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF)
    assert (cpu.gdtr.limit, cpu.segments[CS].limit, cpu.segments[SS].base) == (23, 0xFFFFFFFF, 0)
    assert bytes(memory.view[MIB : MIB + 5]) == b"code\0"


def test_multiboot_information(memory: PhysicalMemory) -> None:
    """Memory sizes and map, command line, modules on pages behind the kernel, the loader's name."""
    cpu = VirtualCpu()
    modules = Module(b"first", b"file one"), Module(b"x" * 5000, b"two"), Module(b"", b"none")
    multiboot.boot(kernel(Segment(MIB, b"k", 0x3001), append=b"a=1 b", modules=modules), memory, cpu)
    at = cpu.gpr[RBX]
    flags, lower, upper, _, line, count, listed = words(memory, at, 7)
    assert (flags, lower, upper, count) == (0x24D, 640, 7 * 1024, 3)
    assert text(memory, line) == b"a=1 b"
    assert text(memory, words(memory, at + 64, 1)[0]) == b"Ringscope"
    told = [words(memory, listed + 16 * number, 4) for number in range(3)]
    assert [(start, end) for start, end, _, _ in told] == [
        (0x104000, 0x104005), (0x105000, 0x105000 + 5000), (0x107000, 0x107000),
    ]  # fmt: skip
    assert [text(memory, string) for _, _, string, _ in told] == [b"file one", b"two", b"none"]
    assert bytes(memory.view[0x104000:0x104006]) == b"first\0"
    length, regions = words(memory, at + 44, 2)
    found = [struct.unpack_from("<IQQI", memory.view, regions + 24 * n) for n in range(length // 24)]
    assert found == [
        (20, 0, 0xA0000, 1), (20, 0xA0000, 0x60000, 2), (20, MIB, 7 * MIB, 1),
    ]  # fmt: skip


def test_information_avoids_the_kernel(memory: PhysicalMemory) -> None:
    """Information, strings and GDT lie from 0x10000 up, where neither kernel nor module does."""
    for taken, place in (
        ([Segment(MIB, b"", 4096)], 0x10000),
        ([Segment(0x8000, b"", 0x9800), Segment(MIB, b"", 1)], 0x12000),
        ([Segment(0x1000, b"", 0x9F000), Segment(MIB, b"", 0x5001)], MIB + 0x6000),
    ):
        cpu = VirtualCpu()
        multiboot.boot(kernel(*taken), memory, cpu)
        assert cpu.gdtr.base == place
        assert cpu.gpr[RBX] == place + 24


def test_mp_tables(memory: PhysicalMemory) -> None:
    """The floating pointer leads to a table of one CPU, one bus, one I/O APIC and 17 interrupts; both
    add up to zero."""
    mp_tables.write(memory)
    pointer = bytes(memory.view[0xF0000:0xF0010])
    assert (pointer[:4], sum(pointer) & 0xFF) == (b"_MP_", 0)
    (at,) = struct.unpack_from("<I", pointer, 4)
    length, entries, local = struct.unpack_from("<H28xHI", memory.view, at + 4)
    table = bytes(memory.view[at : at + length])
    assert (table[:4], sum(table) & 0xFF, local) == (b"PCMP", 0, 0xFEE00000)
    kinds, place = [], 44
    while place < length:
        kinds.append(table[place])
        place += 20 if table[place] == 0 else 8
    assert (len(kinds), kinds) == (entries, [0, 1, 2, *[3] * 15, 4, 4])
    assert place == length
    assert struct.pack("<BBHBBBB", 3, 0, 0, 0, 0, 0, 2) in table, "IRQ 0 at input 2"
    assert memory.read(0x413, 2) == (640).to_bytes(2, "little")


def test_disk_state(memory: PhysicalMemory) -> None:
    """The boot sector at 0000:7C00 in real mode, DL = 0x80; vectors of zero: there is no BIOS."""
    cpu = VirtualCpu()
    sector = bytes(range(256)) * 2
    real_mode.boot_disk(Program("d", "disk", 0x7C00, (Segment(0x7C00, sector, 512),), ""), memory, cpu)
    assert mode(cpu) is Mode.REAL
    assert (cpu.rip, cpu.gpr[RDX], cpu.segments[CS].base, cpu.rflags) == (0x7C00, 0x80, 0, 0x202)
    assert bytes(memory.view[0x7C00:0x7E00]) == sector
    assert not any(memory.view[:0x400])


def test_rom_state(memory: PhysicalMemory) -> None:
    """F000:FFF0 in the copy below 1 MiB, and a read-only one that ends at 4 GiB."""
    cpu = VirtualCpu()
    rom = bytes(range(256)) * 256
    real_mode.boot_rom(
        Program("r", "rom", 0xFFFF0, (Segment(0xF0000, rom, len(rom)),), ""), memory, cpu
    )
    assert (cpu.rip, cpu.segments[CS].selector, cpu.segments[CS].base) == (0xFFF0, 0xF000, 0xF0000)
    assert memory.read(0xFFFF0, 16) == memory.read(0xFFFFFFF0, 16) == bytes(range(0xF0, 0x100))
    memory.write(0xFFFFFFF0, b"lost")
    assert memory.read(0xFFFFFFF0, 2) == b"\xf0\xf1"
