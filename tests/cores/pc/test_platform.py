"""The platform's boot state, byte by byte, and its CPUID."""

from __future__ import annotations

import struct

import pytest

from cores.pc import cpuid, platform
from cores.pc.boot import long_mode
from cores.pc.physical_memory import HOLE, PhysicalMemory
from cores.pc.ram import Ram
from cores.programs.program import Program, Segment
from cores.x86.faults import GuestFault
from cores.x86.mmu.paging import Mmu, walk
from cores.x86.registers import CS, DS, GPR_NAMES, SS, STATE_NAMES
from cores.x86.system.descriptors import read_descriptor, to_segment
from cores.x86.virtual_cpu import VirtualCpu

MIB = 1 << 20
PROGRAM = Program(
    "-", "flat", 0x100004, (Segment(0x100000, b"code", 0x2000), Segment(0x180000, b"more", 4)), ""
)


def booted(ram: int = 16 * MIB, **disk: int) -> tuple[PhysicalMemory, VirtualCpu]:
    memory, cpu = PhysicalMemory(Ram(ram)), VirtualCpu()
    long_mode.boot(PROGRAM, memory, cpu, **disk)
    return memory, cpu


@pytest.mark.parametrize("size", [2, 4, 16, 512])
def test_page_tables_cover_ram_and_nothing_else(size):
    """RAM from 0x10000 and the hole are mapped; addresses below and beyond RAM are not."""
    memory, cpu = booted(size * MIB)
    edges = [0x10000, HOLE.start, HOLE.stop - 1, 2 * MIB - 1, size * MIB // 2, size * MIB - 1]
    for gva in edges:
        page = walk(memory, cpu, gva, write=True, execute=True)
        assert page.gpa == gva
        assert page.size == (4096 if gva < 2 * MIB else 2 * MIB)
        assert (page.writable, page.executable, page.user) == (True, True, False)
    for gva in (0, 0xFFFF, size * MIB, 1 << 30, 1 << 39, 1 << 46):
        with pytest.raises(GuestFault) as caught:
            walk(memory, cpu, gva)
        assert caught.value.error == 0


def test_running_on_the_boot_tables_changes_no_byte_of_them():
    """A and D bits are set from the start."""
    memory, cpu = booted()
    before = memory.ram.contents()
    for gva in range(0x10000, 16 * MIB, 0x1000):
        walk(memory, cpu, gva, write=True)
    assert memory.ram.contents() == before


def test_gdt_and_tss():
    """The descriptors decode to the hidden parts of the boot state."""
    memory, cpu = booted()
    mmu = Mmu(memory, cpu)
    assert (cpu.gdtr.base, cpu.gdtr.limit) == (0x11000, 0x4F)
    for index, selector in ((CS, 0x10), (SS, 0x18), (DS, 0x18)):
        assert cpu.segments[index] == to_segment(selector, read_descriptor(mmu, cpu, selector))
    attributes = {s: read_descriptor(mmu, cpu, s).attributes for s in (0x10, 0x18, 0x28, 0x30)}
    assert attributes == {0x10: 0xA09B, 0x18: 0xC093, 0x28: 0xC0F3, 0x30: 0xA0FB}
    tss = read_descriptor(mmu, cpu, 0x40, wide=True)
    assert (tss.base, tss.limit, tss.type, tss.present) == (0x11080, 0x67, 11, True)
    assert (cpu.tr.selector, cpu.tr.base, cpu.tr.limit, cpu.tr.attributes) == (
        0x40,
        0x11080,
        0x67,
        0x8B,
    )
    assert memory.read(0x11080, 0x68) == bytes(0x66) + b"\x68\x00"


def test_program_information_and_stack():
    """RAM holds the segments, a zeroed .bss, the boot information and the return address."""
    memory, _ = booted(disk_sectors=7, first_lba=3)
    assert memory.read(0x100000, 8) == b"code" + bytes(4)
    assert memory.read(0x180000, 4) == b"more"
    information = struct.unpack("<6Q", memory.read(0x10000, 48))
    assert information == (16 * MIB, 0x100000, 0x180004, 7, 3, 0)
    assert memory.read(16 * MIB - 8, 8) == bytes(8)


def test_registers():
    """Every compared register has the contract's value."""
    _, cpu = booted()
    state = dict(zip(STATE_NAMES, cpu.state(), strict=True))
    expected = dict.fromkeys(GPR_NAMES, 0) | {
        "rdi": 0x10000, "rsp": 16 * MIB - 8, "rip": 0x100004, "rflags": 2,
        "cs": 0x10, "ss": 0x18, "ds": 0x18, "es": 0x18, "fs": 0x18, "gs": 0x18,
        "cr0": 0x80050033, "cr2": 0, "cr3": 0x12000, "cr4": 0x620, "cr8": 0, "efer": 0xD01,
        "fs_base": 0, "gs_base": 0,
    }  # fmt: skip
    assert state == expected
    assert (cpu.idtr.base, cpu.idtr.limit, cpu.ldtr.selector) == (0, 0, 0)
    assert (cpu.debug[6], cpu.debug[7]) == (0xFFFF0FF0, 0x400)


def test_boot_replaces_whatever_the_cpu_held():
    """Booting twice gives the same state."""
    memory, cpu = booted()
    first = cpu.copy()
    cpu.gpr[0], cpu.cr2, cpu.interrupt_shadow, cpu.tsc_offset = 5, 6, True, 7
    long_mode.boot(PROGRAM, memory, cpu)
    assert cpu == first


def test_initial_fpu():
    """FCW, MXCSR and its mask are at FXSAVE's offsets; all else is zero."""
    image = platform.INITIAL_FPU
    assert len(image) == 512
    assert struct.unpack_from("<HHB", image) == (0x37F, 0, 0)
    assert struct.unpack_from("<II", image, 24) == (0x1F80, 0xFFFF)
    assert image[32:] == bytes(480)


def text(*words: int) -> bytes:
    return struct.pack("<3I", *words)


def test_cpuid():
    """Vendor strings, exactly the contract's features, and zero for every other leaf."""
    top, ebx, ecx, edx = cpuid.cpuid(0)
    assert (top, text(ebx, edx, ecx)) == (1, b"RingscopeCPU")
    top, ebx, ecx, edx = cpuid.cpuid(0x40000000)
    assert (top, text(ebx, ecx, edx)) == (0x40000000, b"RingscopeVMM")
    _, _, ecx, edx = cpuid.cpuid(1)
    assert edx == 0x0700A379
    assert ecx == 0x80982201
    assert cpuid.cpuid(0x80000000) == (0x80000001, 0, 0, 0)
    assert cpuid.cpuid(0x80000001) == (0, 0, 1, 0x24100800)
    for leaf in (2, 7, 0xD, 0x40000001, 0x80000002, 0x80000008, 0xFFFFFFFF):
        assert cpuid.cpuid(leaf, 0) == (0, 0, 0, 0)
