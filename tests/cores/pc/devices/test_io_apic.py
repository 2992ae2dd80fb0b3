"""The I/O APIC alone: its table, edges, levels and masks."""

from __future__ import annotations

import pytest

from cores.pc.devices.board import Board
from cores.pc.devices.io_apic import BASE, INPUTS, LEVEL, MASKED, REMOTE_IRR
from cores.pc.devices.local_apic import EOI, TMR
from cores.pc.physical_memory import PhysicalMemory
from cores.x86.registers import ApicBase


class Guest:
    """The accesses that a kernel makes."""

    def __init__(self, board: Board, memory: PhysicalMemory) -> None:
        self.board, self.memory = board, memory

    def read(self, register: int) -> int:
        self.memory.write(BASE, register.to_bytes(4, "little"))
        return int.from_bytes(self.memory.read(BASE + 0x10, 4), "little")

    def write(self, register: int, value: int) -> None:
        self.memory.write(BASE, register.to_bytes(4, "little"))
        self.memory.write(BASE + 0x10, value.to_bytes(4, "little"))

    def route(self, number: int, entry: int) -> None:
        self.write(0x11 + 2 * number, entry >> 32)
        self.write(0x10 + 2 * number, entry & 0xFFFFFFFF)

    def line(self, number: int, level: bool) -> None:
        self.board.io_apic.set_line(number, level)

    def end(self) -> None:
        self.memory.write(ApicBase.ADDRESS + EOI * 16, bytes(4))


@pytest.fixture
def apic(board: Board, memory: PhysicalMemory) -> Guest:
    return Guest(board, memory)


def test_registers(apic: Guest) -> None:
    """24 entries, all masked; the identification keeps its four bits, the version is read only."""
    assert apic.read(0x01) == 0x170011
    assert [apic.read(0x10 + 2 * n) for n in range(INPUTS)] == [MASKED] * INPUTS
    assert apic.read(0x40) == apic.read(0x05) == 0
    apic.write(0x00, 0xFFFFFFFF)
    apic.write(0x01, 0)
    assert (apic.read(0x00), apic.read(0x01), apic.read(0x02)) == (0x0F000000, 0x170011, 0x0F000000)
    apic.write(0x12, 0xFFFFFFFF)
    apic.write(0x13, 0xFFFFFFFF)
    assert (apic.read(0x12), apic.read(0x13)) == (0x1AFFF, 0xFF000000)


def test_edges(apic: Guest) -> None:
    """A rising edge is one interrupt; one at a masked input is lost."""
    apic.line(5, True)
    apic.route(5, 0x45)
    assert not apic.board.interrupt_pending
    apic.line(5, False)
    apic.line(5, True)
    apic.line(5, True)
    assert apic.board.acknowledge() == 0x45
    apic.end()
    assert not apic.board.interrupt_pending


def test_levels(apic: Guest) -> None:
    """A level interrupts until its source is satisfied, once for each EOI, also one that rose while it
    was masked."""
    apic.line(9, True)
    apic.route(9, LEVEL | 0x61)
    for _ in range(2):
        assert apic.read(0x10 + 18) & REMOTE_IRR
        assert apic.board.acknowledge() == 0x61
        assert not apic.board.interrupt_pending
        assert apic.memory.read(ApicBase.ADDRESS + (TMR + 3) * 16, 4) == b"\x02\0\0\0"
        apic.end()
    assert apic.board.acknowledge() == 0x61
    apic.line(9, False)
    apic.end()
    assert not apic.board.interrupt_pending
    assert not apic.read(0x10 + 18) & REMOTE_IRR


def test_destinations(apic: Guest) -> None:
    """Entries for APIC 0 and for all interrupt; one for another APIC does not."""
    for destination, reached in ((0, True), (0xFF, True), (1, False)):
        apic.line(4, False)
        apic.route(4, destination << 56 | 0x44)
        apic.line(4, True)
        assert apic.board.interrupt_pending is reached
        if reached:
            apic.board.acknowledge()
            apic.end()


def test_nmi(apic: Guest) -> None:
    """An entry with delivery mode NMI is an NMI, without a vector."""
    apic.route(3, 4 << 8)
    apic.line(3, True)
    assert apic.board.nmi_pending
    assert not apic.board.interrupt_pending


def test_timer_is_input_2(apic: Guest) -> None:
    """IRQ 0 arrives at input 2, the keyboard at 1, with the PICs masked; HLT knows when."""
    board = apic.board
    apic.route(2, 0x50)
    apic.route(1, 0x31)
    for port, value in ((0x43, 0x34), (0x40, 0xA9), (0x40, 0x04)):  # 1193 clocks
        board.write(port, 1, value)
    event = board.next_event()
    assert event == 1000
    board.advance(event)
    assert board.acknowledge() == 0x50
    assert board.next_event() is None, "0x50 is in service"
    apic.end()
    assert board.next_event() == 2000
    board.type_text(b"k")
    assert board.acknowledge() == 0x31


def test_states_are_saved(apic: Guest) -> None:
    """A saved state brings table, lines and requests back, and the pins with them."""
    apic.route(9, LEVEL | 0x61)
    apic.line(9, True)
    state = apic.board.save()
    apic.board.acknowledge()
    apic.line(9, False)
    apic.end()
    assert not apic.board.interrupt_pending
    apic.board.restore(state)
    assert apic.board.is_lawful()
    assert apic.board.acknowledge() == 0x61
    assert apic.read(0x10 + 18) & REMOTE_IRR
