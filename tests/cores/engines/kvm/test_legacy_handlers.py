"""Handlers and frames outside long mode, held against the shared delivery of exceptions."""

from __future__ import annotations

from struct import pack

import pytest

from cores.engines.kvm.legacy_handlers import LegacyHandlers
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.ram import Ram
from cores.x86.mmu.paging import Mmu
from cores.x86.mmu.segmentation import code_address
from cores.x86.registers import CS, RSP, SS, Cr0, Flag, Vector
from cores.x86.system.interrupts import deliver
from cores.x86.virtual_cpu import Segment, VirtualCpu

IDT, GDT, TSS, CODE_BASE = 0x2000, 0x3000, 0x4000, 0x50000
HANDLED = (Vector.DE, Vector.UD, Vector.SS, Vector.GP, Vector.PF)
FLAGS = 0x2 | Flag.CF | Flag.IF


def guest(*, protected: bool, gate: int = 0xE, ring: int = 0, stack_32: bool = True) -> Mmu:
    """A CPU before an instruction that may fault, with one handler for all exceptions in a segment of
    base CODE_BASE. gate: the type of the IDT's gates."""
    cpu, memory = VirtualCpu(), PhysicalMemory(Ram(2 << 20))
    cpu.rip, cpu.gpr[RSP], cpu.rflags = 0x1234, 0x8000, FLAGS
    cpu.idtr.base = IDT
    if not protected:
        cpu.cr0, cpu.idtr.limit = 0, 0x3FF
        cpu.segments[CS] = Segment(0x100, 0x1000, 0xFFFF, 0x9B)
        cpu.segments[SS] = Segment(0x700, 0x7000, 0xFFFF, 0x93)
        memory.write(IDT, pack("<HH", 0x10, CODE_BASE >> 4) * 32)
        return Mmu(memory, cpu)
    cpu.cr0, cpu.idtr.limit = Cr0.PE, 20 * 8 - 1
    cpu.gdtr.base, cpu.gdtr.limit = GDT, 0x2F
    big = 1 << 54 if stack_32 else 0
    code, data = 0x00409B050000FFFF, 0x000093000000FFFF | big
    user = (0x6 << 44) | 0xFFFF
    memory.write(GDT, pack("<6Q", 0, code, data, code | user, data | user, 0))
    cpu.segments[CS] = Segment(0x1B if ring else 8, 0, 0xFFFF, 0x40FB if ring else 0x409B)
    shown = 0x4000 if stack_32 else 0
    cpu.segments[SS] = Segment(0x23 if ring else 0x10, 0, 0xFFFF, shown | (0xF3 if ring else 0x93))
    cpu.tr = Segment(0x28, TSS, 0x67, 0x8B)
    memory.write(TSS + 4, pack("<II", 0x9000, 0x10))
    memory.write(IDT, pack("<HHBBH", 0x10, 8, 0, 0x80 | gate, 0) * 20)
    return Mmu(memory, cpu)


@pytest.mark.parametrize("vector", HANDLED)
@pytest.mark.parametrize(
    "mmu",
    [
        guest(protected=False),
        guest(protected=True),
        guest(protected=True, ring=3),
        guest(protected=True, gate=7, stack_32=False),
        guest(protected=True, gate=6, ring=3),
    ],
    ids=["real", "32-bit", "32-bit, from ring 3", "16-bit stack and gate", "16-bit gate, from ring 3"],
)
def test_the_frame_tells_what_was_delivered(mmu: Mmu, vector: Vector) -> None:
    """Of a delivery that the CPU made, entry, error code and flags are found, and whether the vector
    has an error code, though all share one handler."""
    before, handlers = mmu.cpu, LegacyHandlers()
    after = before.copy()
    deliver(Mmu(mmu.memory, after), after, vector, 0x18)
    entries = handlers.entries(mmu, before)
    assert [entries[v] for v in HANDLED] == [code_address(after, after.rip)] * len(HANDLED)
    arrival = handlers.arrived(mmu, before, after, list(HANDLED))
    has_error = bool(before.cr0) and vector not in (Vector.DE, Vector.UD)
    assert arrival.error == (0x18 if has_error else None)
    assert vector in arrival.vectors
    assert arrival.rflags == before.rflags
    if before.cr0:
        alike = {v for v in HANDLED if (v in (Vector.DE, Vector.UD)) is not has_error}
        assert set(arrival.vectors) == alike


@pytest.mark.parametrize(
    ("gate", "selector"), [(0x0E, 8), (0x85, 8), (0x8E, 0x10), (0x8E, 0x40), (0x8E, 0)],
    ids=["not present", "task gate", "data segment", "beyond the GDT", "null"],
)  # fmt: skip
def test_a_gate_that_the_cpu_refuses_is_no_entry(gate: int, selector: int) -> None:
    """Where delivery would fault, there is no breakpoint."""
    mmu = guest(protected=True)
    mmu.memory.write(IDT + 13 * 8, pack("<HHBBH", 0x10, selector, 0, gate, 0))
    entries = LegacyHandlers().entries(mmu, mmu.cpu)
    assert entries[13] is None
    assert entries[12] == CODE_BASE + 0x10


def test_a_table_that_changes_is_read_anew() -> None:
    """Entries follow the IDT, the GDT and the mode."""
    mmu, handlers = guest(protected=True), LegacyHandlers()
    assert handlers.entries(mmu, mmu.cpu)[0] == CODE_BASE + 0x10
    mmu.memory.write(GDT + 8, pack("<Q", 0x00409B060000FFFF))
    assert handlers.entries(mmu, mmu.cpu)[0] == 0x60010
    mmu.memory.write(IDT, pack("<H", 0x20))
    assert handlers.entries(mmu, mmu.cpu)[0] == 0x60020
    mmu.cpu.cr0 = 0
    assert handlers.entries(mmu, mmu.cpu)[0] == 0x80 + 0x20
    mmu.cpu.idtr.limit = 0
    assert handlers.entries(mmu, mmu.cpu) == [None] * 20
