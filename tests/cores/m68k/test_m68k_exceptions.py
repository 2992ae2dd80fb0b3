"""Exceptions of the 68000 enter the guest's handlers, with the User's Manual's frames."""

from __future__ import annotations

import pytest
from m68k_lab import HANDLER, RAM, STOP, machine, put, run, words_at

from cores.m68k.registers import SUPERVISOR, TRACE
from cores.pc.stop import Stop

NEXT, SAME = 2, 0
SHORT = [
    ("4e43", 35, NEXT),  # trap #3
    ("4e76", 7, NEXT),  # trapv, with V set
    ("4afc", 4, SAME),  # illegal
    ("42c0", 4, SAME),  # move ccr, d0: an instruction of the 68010's
    ("49c0", 4, SAME),  # extb.l: one of the 68020's
    ("a123", 10, SAME),
    ("f200", 11, SAME),
    ("80c1", 5, NEXT),  # divu d1, d0
    ("4181", 6, NEXT),  # chk d1, d0
]


@pytest.mark.parametrize(("words", "vector", "after"), SHORT, ids=lambda v: str(v))
def test_short_frames(words: str, vector: int, after: int) -> None:
    """SR and PC are pushed: the next instruction's PC for traps, its own for faults."""
    with machine(f"{words} 4e71", sr=0x2702, d0=5, **{f"vector{vector}": HANDLER}) as m:
        put(m, HANDLER, STOP)
        run(m)
        assert m.stop is Stop.HALTED
        assert m.cpu.ssp == RAM - 6
        sr, *pc = words_at(m, RAM - 6, 3)
        assert sr & 0xFFE0 == 0x2700
        assert pc == [0, 0x1000 + after]


@pytest.mark.parametrize(
    "words", ["4e72 2000", "4e73", "4e70", "46c0", "027c 0000", "007c 0700", "4e60", "4e68"]
)
def test_privilege(words: str) -> None:
    """A privileged instruction in user mode enters vector 8 in supervisor mode, on the supervisor's
    stack."""
    with machine(words, vector8=HANDLER, sr=0, a7=0x8000) as m:
        put(m, HANDLER, STOP)
        m.step()
        assert m.vmm.last is not None
        assert m.stop is Stop.HALTED
        assert (m.cpu.supervisor, m.cpu.usp, m.cpu.ssp) == (True, 0x8000, RAM - 6)
        assert words_at(m, RAM - 6, 3) == [0, 0, 0x1000]


def test_reading_sr_is_no_privilege() -> None:
    """MOVE from SR runs in user mode on a 68000."""
    with machine("40c0", sr=0x0015) as m:
        m.step()
        assert m.cpu.d[0] == 0x15


@pytest.mark.parametrize(
    ("words", "address", "status"),
    [
        ("3011", 0x3001, 0x15),  # move.w (a1), d0: supervisor data, read
        ("3280", 0x3001, 0x05),  # move.w d0, (a1): write
        ("2280", 0x3001, 0x05),  # move.l d0, (a1)
        ("48d1 0003", 0x3001, 0x05),  # movem.l d0-d1, (a1)
        ("4ed1", 0x3001, 0x16),  # jmp (a1): the fetch after it
    ],
)
def test_address_errors(words: str, address: int, status: int) -> None:
    """A word at an odd address pushes a long frame, and memory is unchanged."""
    with machine(words, a1=address, d0=0x12345678, vector3=HANDLER) as m:
        put(m, HANDLER, STOP)
        run(m)
        frame = words_at(m, m.cpu.ssp, 7)
        opcode = int(words[:4], 16) if status != 0x16 else None
        assert m.cpu.ssp == RAM - 14
        assert frame[:3] == [status, 0, address]
        assert frame[4] & 0xFFE0 == 0x2700
        assert opcode is None or frame[3] == opcode
        assert not any(m.bus.view[0x3000:0x3010])


@pytest.mark.parametrize("words", ["3011", "3280", "4ed1"])
def test_bus_errors(words: str) -> None:
    """An access outside RAM and devices enters vector 2, with the address in the frame."""
    with machine(words, a1=0x800000, vector2=HANDLER) as m:
        put(m, HANDLER, STOP)
        run(m)
        assert m.stop is Stop.HALTED
        assert words_at(m, m.cpu.ssp + 2, 2) == [0x80, 0]


def test_an_instruction_that_faults_has_stored_nothing() -> None:
    """The stores that MOVEM made before its bus error are undone."""
    with machine("48d1 00ff", a1=RAM - 8, vector2=HANDLER, a7=0x8000, d0=1, d1=2, d2=3) as m:
        put(m, HANDLER, STOP)
        run(m)
        assert not any(m.bus.view[RAM - 8 : RAM])
        assert m.cpu.a[1] == RAM - 8


def test_return_from_exception() -> None:
    """RTE restores the user's mode, flags and stack after TRAP; RTR restores only flags."""
    with machine(f"4e40 4e40 {STOP}", vector32=HANDLER, sr=0x0015, a7=0x8000, vector8=0x2100) as m:
        put(m, HANDLER, "5280 4e73")
        put(m, 0x2100, STOP)
        run(m)
        assert m.cpu.d[0] == 2
        assert m.cpu.usp == 0x8000
        assert words_at(m, m.cpu.ssp, 3) == [0x15, 0, 0x1004]  # STOP is privileged
    with machine(f"4e71 {STOP}", a7=0x8000) as m:
        put(m, 0x8000, "ffff 0000 1002")
        put(m, 0x1000, "4e77")
        m.step()
        assert (m.cpu.sr, m.cpu.pc, m.cpu.a[7]) == (0x271F, 0x1002, 0x8006)


def test_trace() -> None:
    """With T set a trace exception follows each instruction; its handler runs untraced."""
    with machine(f"7001 7002 {STOP}", sr=SUPERVISOR | TRACE, vector9=HANDLER) as m:
        put(m, HANDLER, "5281 0c81 0000 0002 6604 4e72 2700 4e73")
        run(m)
        assert (m.cpu.d[0], m.cpu.d[1]) == (2, 2)
        assert words_at(m, m.cpu.ssp + 2, 2) == [0, 0x1004]


def test_no_handler_is_a_shutdown_in_words() -> None:
    """An exception whose vector is 0 stops the machine with a reason that names it."""
    with machine("80c1") as m:
        run(m)
        assert m.stop is Stop.SHUTDOWN
        assert "divide by zero at 0x1002, and no handler" in m.vmm.reason
        assert m.vmm.instructions == 0


def test_double_bus_fault() -> None:
    """A bus error while its frame is pushed halts a 68000."""
    with machine("3011", a1=0x3001, a7=0x800001, vector2=HANDLER, vector3=HANDLER) as m:
        run(m)
        assert m.stop is Stop.SHUTDOWN
        assert "double bus fault" in m.vmm.reason


def test_a_guest_that_faults_for_ever_ends() -> None:
    """Deliveries count against the budget."""
    with machine("4afc", vector4=0x1000) as m:
        run(m, budget=50)
        assert m.stop is Stop.BUDGET
        assert (m.vmm.instructions, m.vmm.deliveries) == (0, 50)
