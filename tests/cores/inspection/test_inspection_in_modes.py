"""The views of page tables, descriptors and registers in the CPU's older modes."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import closing

import pytest

from app.tui.rows.registers import register_file
from cores.inspection import snapshot
from cores.inspection.page_tables import paging_view
from cores.inspection.tables_devices import tables_view
from cores.lockstep.options import Options
from cores.lockstep.session import start
from cores.machine.machine import Machine
from cores.programs.program import Program, Segment
from cores.x86.mode import Mode
from cores.x86.registers import CS, Cr0, Cr4

MIB = 1 << 20


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A Multiboot kernel of one instruction, `mov eax, 0x12345678`, before its first."""
    code = Segment(MIB, b"\xb8\x78\x56\x34\x12\xf4", 0x1000)
    program = Program("k", "multiboot", MIB, (code,), "", ram=8 * MIB)
    with closing(start(program, "interpreter", Options(ram=8 * MIB))) as machine:
        yield machine


def put(machine: Machine, at: int, *words: int, form: str = "I") -> None:
    struct.pack_into(f"<{len(words)}{form}", machine.memory.view, at, *words)


def test_without_paging(machine: Machine) -> None:
    """A kernel begins without paging; its code is decoded as 32-bit code, and its registers are named
    so; each segment is shown with base and limit."""
    view = paging_view(machine, 0x1234)
    assert (view.format, view.gpa, view.walk) == ("", 0x1234, ())
    shown = snapshot.take(machine, machine.cpu.state())
    assert shown.mode is Mode.PROTECTED_32
    assert next(line.text for line in shown.code if line.address == MIB) == "mov eax, 0x12345678"
    file = register_file(shown)
    assert (file.span, file.title("rip", 0)) == ("eax to esp", "eip")
    tables = tables_view(machine)
    assert [(s.name, s.base, s.limit) for s in tables.loaded][1] == ("cs", 0, 0xFFFFFFFF)
    assert [entry.kind for entry in tables.segments] == ["32-bit code", "data, read/write"]


def test_two_levels_of_tables(machine: Machine) -> None:
    """32-bit paging: a walk of two entries, a 4-MiB page with CR4.PSE, and the ranges."""
    cpu = machine.cpu
    cpu.cr3, cpu.cr0, cpu.cr4 = 0x200000, cpu.cr0 | Cr0.PG, cpu.cr4 | Cr4.PSE
    put(machine, 0x200000, 0x400083, 0x201007)  # a large page; a table for users
    put(machine, 0x201000, 0x300003, 0x301005)
    view = paging_view(machine, 0x401234)
    assert view.format == "two levels of tables"
    assert [entry.table for entry in view.walk] == ["page directory", "page table"]
    assert view.gpa == 0x301234
    assert [(r.start, r.length, r.gpa, r.user, r.writable) for r in view.ranges] == [
        (0, 4 * MIB, 0x400000, False, True), (0x400000, 0x1000, 0x300000, False, True),
        (0x401000, 0x1000, 0x301000, True, False),
    ]  # fmt: skip
    cpu.cr4 &= ~Cr4.PSE
    assert paging_view(machine, 0x1000).walk[0].verdict == ""  # PS counts with CR4.PSE alone


def test_pae(machine: Machine) -> None:
    """PAE: four pointers without rights of their own, then tables of 8-byte entries."""
    cpu = machine.cpu
    cpu.cr3, cpu.cr0, cpu.cr4 = 0x200020, cpu.cr0 | Cr0.PG, cpu.cr4 | Cr4.PAE
    put(machine, 0x200020, 0x201001, 0, 0, 0, form="Q")
    put(machine, 0x201000, 0x400087, 1 << 63 | 0x202003, form="Q")
    put(machine, 0x202000, 0x300001, form="Q")
    view = paging_view(machine, 0x200010)
    assert view.format == "PAE, three levels"
    assert [entry.table for entry in view.walk] == ["PDPT", "page directory", "page table"]
    assert view.gpa == 0x300010
    first, second = view.ranges
    assert (first.length, first.user, first.writable) == (2 * MIB, True, True)
    assert (second.writable, second.executable) == (False, False)


def test_gates_of_8_bytes_and_vectors_of_4(machine: Machine) -> None:
    """In protected mode a gate has 8 bytes and the TSS ESP0 and SS0; in real mode the IDT is a table of
    far pointers, and 16-bit registers are called AX as long as nothing is above."""
    cpu = machine.cpu
    put(machine, 0x3000, 0x0008_1111, 0x0010_8E00, 0x0008_2222, 0x0010_EF00)
    cpu.idtr.base, cpu.idtr.limit = 0x3000, 15
    gates = tables_view(machine).gates
    assert [(g.vector, g.kind, g.offset, g.dpl) for g in gates] == [
        (0, "interrupt gate", 0x101111, 0), (1, "trap gate", 0x102222, 3),
    ]  # fmt: skip
    assert tables_view(machine).tss == ()
    cpu.cr0 &= ~Cr0.PE
    cpu.segments[CS].attributes &= ~(1 << 14)
    put(machine, 0x3000, 0xF000_1234, 0, 0, 0)
    real = tables_view(machine)
    assert [(g.kind, g.selector, g.offset) for g in real.gates] == [("vector", 0xF000, 0x1234)]
    shown = snapshot.take(machine, cpu.state())
    file = register_file(shown)
    assert [file.title("rax", value) for value in (0x1234, 0x12345)] == ["ax", "eax"]
