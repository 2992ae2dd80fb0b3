"""The local APIC alone: priorities, the timer, own IPIs, errors, and the PICs' wire."""

from __future__ import annotations

import pytest

from cores.pc.devices.board import Board
from cores.pc.devices.local_apic import (
    CURRENT_COUNT,
    DIVIDE,
    EOI,
    ERROR,
    ESR,
    ICR_HIGH,
    ICR_LOW,
    ID,
    INITIAL_COUNT,
    IRR,
    ISR,
    LDR,
    LINT0,
    LINT1,
    MASKED,
    PERIODIC,
    PPR,
    SVR,
    TIMER,
    TMR,
    TPR,
    VERSION,
)
from cores.pc.physical_memory import PhysicalMemory
from cores.x86.registers import ApicBase
from tests.cores.pc.devices.test_board import start_pics

DFR = 0x0E
SELF = 1 << 18


class Guest:
    """The accesses that a kernel makes, by register number."""

    def __init__(self, board: Board, memory: PhysicalMemory) -> None:
        self.board, self.memory = board, memory

    def read(self, number: int) -> int:
        return int.from_bytes(self.memory.read(ApicBase.ADDRESS + number * 16, 4), "little")

    def write(self, number: int, value: int) -> None:
        self.memory.write(ApicBase.ADDRESS + number * 16, value.to_bytes(4, "little"))


@pytest.fixture
def apic(board: Board, memory: PhysicalMemory) -> Guest:
    return Guest(board, memory)


def test_first_state(apic: Guest) -> None:
    """It starts as QEMU's firmware leaves it: enabled, LINT0 ExtINT, LINT1 NMI, all else masked."""
    shown = {
        ID: 0, VERSION: 0x50014, TPR: 0, PPR: 0, LDR: 0, DFR: 0xFFFFFFFF, SVR: 0x1FF, ESR: 0,
        TIMER: MASKED, LINT0: 0x8700, LINT1: 0x8400, ERROR: MASKED, INITIAL_COUNT: 0, DIVIDE: 0,
    }  # fmt: skip
    assert {number: apic.read(number) for number in shown} == shown
    assert all(apic.read(first + word) == 0 for first in (ISR, TMR, IRR) for word in range(8))
    assert apic.board.accesses == len(shown) + 24


def test_width_of_accesses(apic: Guest) -> None:
    """Registers are 32 bits at multiples of 16: narrow and unaligned stores are lost, loads of any
    width read the page."""
    memory, tpr = apic.memory, ApicBase.ADDRESS + TPR * 16
    memory.write(tpr, b"\x20")
    memory.write(tpr + 4, b"\x20\0\0\0")
    assert apic.read(TPR) == 0
    memory.write(tpr, b"\x20\0\0\0" + bytes(12))
    assert memory.read(tpr, 1) == b"\x20"
    assert memory.read(tpr - 4, 12) == bytes(4) + b"\x20" + bytes(7)
    assert len(memory.device_peek(ApicBase.ADDRESS, 4096)) == 4096


def test_pics_through_lint0(apic: Guest) -> None:
    """The PICs' interrupt passes as long as LINT0 is ExtINT and the APIC is enabled; no priority holds
    it back, and it needs no EOI here."""
    board = apic.board
    start_pics(board, 0xFD)
    apic.write(TPR, 0xFF)
    board.type_text(b"a")
    assert board.interrupt_pending
    apic.write(LINT0, 0x8700 | MASKED)
    assert not board.interrupt_pending
    apic.write(LINT0, 0x8700)
    assert board.interrupt_pending
    apic.write(SVR, 0xFF)
    assert apic.read(LINT0) & MASKED
    assert not board.interrupt_pending
    apic.write(SVR, 0x1FF)
    apic.write(LINT0, 0x8700)
    assert board.acknowledge() == 0x21
    assert apic.read(ISR + 1) == 0


def test_lint0_as_a_fixed_interrupt(apic: Guest) -> None:
    """LINT0 in fixed mode makes each rise of the PICs' output an interrupt of its own vector."""
    start_pics(apic.board, 0xFD)
    apic.write(LINT0, 0x41)
    apic.board.type_text(b"a")
    assert apic.board.acknowledge() == 0x41


def test_ipi_to_itself(apic: Guest) -> None:
    """By shorthand, by its number, by broadcast and by its logical name; not to any other."""
    apic.write(LDR, 0x02 << 24)
    for high, low in ((0, SELF), (0, 2 << 18), (0, 0), (0xFF << 24, 0), (0x03 << 24, 1 << 11)):
        apic.write(ICR_HIGH, high)
        apic.write(ICR_LOW, low | 0x45)
        assert apic.read(ICR_LOW) == low | 0x45
        assert apic.read(IRR + 2) == 1 << 5
        assert apic.board.acknowledge() == 0x45
        assert (apic.read(IRR + 2), apic.read(ISR + 2), apic.read(PPR)) == (0, 1 << 5, 0x40)
        apic.write(EOI, 0)
        assert apic.read(ISR + 2) == 0
    for high, low in ((0, 3 << 18), (1 << 24, 0), (0x04 << 24, 1 << 11), (0, 0xC4500), (0, 0xC4600)):
        apic.write(ICR_HIGH, high)
        apic.write(ICR_LOW, low | 0x45)
        assert not apic.board.interrupt_pending


def test_cluster_destinations(apic: Guest) -> None:
    """DFR 0: the upper half of the logical name is a cluster, the lower a set of its members."""
    apic.write(DFR, 0x0FFFFFFF)
    apic.write(LDR, 0x21 << 24)
    for destination, reached in ((0x21, True), (0x2F, True), (0x22, False), (0x11, False)):
        apic.write(ICR_HIGH, destination << 24)
        apic.write(ICR_LOW, 1 << 11 | 0x50)
        assert apic.board.interrupt_pending is reached
        if reached:
            apic.board.acknowledge()
            apic.write(EOI, 0)


def test_priorities(apic: Guest) -> None:
    """A request passes only above the classes of TPR and of the vectors in service; highest first."""
    board = apic.board
    for vector in (0x31, 0x52, 0x58):
        apic.write(ICR_LOW, SELF | vector)
    apic.write(TPR, 0x50)
    assert not board.interrupt_pending
    apic.write(TPR, 0x4F)
    assert [board.acknowledge(), board.interrupt_pending] == [0x58, False]
    assert apic.read(PPR) == 0x50
    apic.write(ICR_LOW, SELF | 0x61)
    assert board.acknowledge() == 0x61
    apic.write(EOI, 0)
    assert not board.interrupt_pending, "0x58 is in service"
    apic.write(EOI, 0)
    assert board.acknowledge() == 0x52
    apic.write(TPR, 0)
    apic.write(EOI, 0)
    assert board.acknowledge() == 0x31


def test_spurious(apic: Guest) -> None:
    """An acknowledge cycle without a request gives the spurious vector, and nothing is in service."""
    apic.write(LINT0, MASKED)
    apic.write(SVR, 0x1EF)
    assert apic.board.acknowledge() == 0xEF
    assert all(apic.read(ISR + word) == 0 for word in range(8))


@pytest.mark.parametrize(("code", "divisor"), [(0, 2), (1, 4), (3, 16), (0xB, 1), (0xA, 128), (8, 32)])
def test_timer_once(apic: Guest, code: int, divisor: int) -> None:
    """One-shot: 1 GHz divided, down to zero, one interrupt at the tick after it."""
    board, count = apic.board, 10_000
    apic.write(DIVIDE, code)
    apic.write(TIMER, 0x40)
    apic.write(INITIAL_COUNT, count)
    end = count * divisor // 1000
    assert board.next_event() == board.deadline == end
    board.advance(end // 2)
    assert apic.read(CURRENT_COUNT) == count - end // 2 * 1000 // divisor
    board.advance(end - 1)
    assert not board.interrupt_pending
    board.advance(end)
    assert board.acknowledge() == 0x40
    apic.write(EOI, 0)
    assert apic.read(CURRENT_COUNT) == 0
    assert board.next_event() is None
    assert apic.read(INITIAL_COUNT) == count


def test_timer_periodic(apic: Guest) -> None:
    """Periodic: it loads itself again; periods that pass while the request waits are one interrupt."""
    board = apic.board
    apic.write(DIVIDE, 0xB)
    apic.write(TIMER, PERIODIC | 0x20)
    apic.write(INITIAL_COUNT, 10_500)
    ticks = []
    for _ in range(4):
        event = board.next_event()
        assert event is not None
        ticks.append(event)
        board.advance(event)
        assert board.acknowledge() == 0x20
        apic.write(EOI, 0)
    assert ticks == [11, 21, 32, 42], "multiples of 10.5 us, rounded up"
    board.advance(100)
    assert board.acknowledge() == 0x20
    apic.write(EOI, 0)
    assert not board.interrupt_pending
    assert board.next_event() == 105


def test_masked_timer(apic: Guest) -> None:
    """A masked timer counts and interrupts nothing; a count of 0 stops it; a new divisor goes on from
    the present count."""
    board = apic.board
    apic.write(DIVIDE, 0xB)
    apic.write(INITIAL_COUNT, 1_000_000)
    assert board.next_event() is None
    board.advance(400)
    assert apic.read(CURRENT_COUNT) == 600_000
    apic.write(DIVIDE, 0)
    board.advance(600)
    assert apic.read(CURRENT_COUNT) == 500_000
    apic.write(INITIAL_COUNT, 0)
    board.advance(700)
    assert apic.read(CURRENT_COUNT) == 0
    apic.write(TIMER, 0x40)
    assert board.next_event() is None


def test_timer_below_the_priority(apic: Guest) -> None:
    """A timer whose vector TPR holds back is no event for a sleeping CPU, but is requested."""
    apic.write(TPR, 0x40)
    apic.write(TIMER, 0x40)
    apic.write(INITIAL_COUNT, 1000)
    assert apic.board.next_event() is None
    apic.board.advance(50)
    assert apic.read(IRR + 2) == 1
    apic.write(TPR, 0)
    assert apic.board.interrupt_pending


def test_errors(apic: Guest) -> None:
    """Illegal vectors and registers are collected, shown by ESR after a store to it, and interrupt by
    the error entry."""
    apic.write(ICR_LOW, SELF | 5)
    assert apic.read(ESR) == 0
    apic.write(ESR, 0)
    assert apic.read(ESR) == 1 << 5
    apic.write(ESR, 0)
    assert apic.read(ESR) == 0
    apic.write(ERROR, 0x77)
    assert apic.read(0x3F) == 0
    apic.write(ESR, 0)
    assert apic.read(ESR) == 1 << 7
    assert apic.board.acknowledge() == 0x77


def test_nmi(apic: Guest) -> None:
    """An NMI to itself is a pin of its own, whatever the priority, and while disabled by SVR, too."""
    apic.write(TPR, 0xFF)
    apic.write(SVR, 0xFF)
    apic.write(ICR_LOW, SELF | 4 << 8)
    assert (apic.board.nmi_pending, apic.board.interrupt_pending) == (True, False)
    apic.board.take_nmi()
    assert not apic.board.nmi_pending


def test_disabled_by_svr(apic: Guest) -> None:
    """SVR without its enable bit masks all local entries and holds requests until it is set again."""
    apic.write(TIMER, 0x40)
    apic.write(ICR_LOW, SELF | 0x55)
    apic.write(SVR, 0xFF)
    assert apic.read(TIMER) == 0x40 | MASKED
    assert not apic.board.interrupt_pending
    apic.write(TIMER, 0x40)
    assert apic.read(TIMER) & MASKED
    apic.write(SVR, 0x1FF)
    assert apic.board.acknowledge() == 0x55


def test_disabled_by_its_base(apic: Guest) -> None:
    """IA32_APIC_BASE.EN clear: no registers, and the PICs' output is the CPU's pin. Set again, it is in
    the state after power-up."""
    board = apic.board
    start_pics(board, 0xFD)
    apic.write(LINT0, MASKED)
    board.follow_cpu(0, apic_enabled=False)
    assert apic.read(SVR) == 0xFFFFFFFF
    apic.write(SVR, 0)
    board.type_text(b"a")
    assert board.interrupt_pending
    board.follow_cpu(0, apic_enabled=True)
    assert not board.interrupt_pending
    assert (apic.read(SVR), apic.read(LINT0)) == (0xFF, MASKED)


def test_cr8_is_tpr(apic: Guest) -> None:
    """CR8 and bits 4-7 of TPR are one register, in both directions."""
    told: list[int] = []
    apic.board.local_apic.prioritized = told.append
    apic.board.follow_cpu(5, apic_enabled=True)
    assert apic.read(TPR) == 0x50
    apic.write(TPR, 0x7C)
    assert told == [7]
