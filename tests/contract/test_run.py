"""The contract of free running, on every engine."""

from __future__ import annotations

import random
import threading

import pytest
from contract_guest import CODE, DATA, Guest

from cores.engines.base import BUDGET_SPENT, INTERCEPT, INTERRUPTED, STEPPED, Fault, Halted
from cores.x86.registers import RAX, RBX, RCX, RDI, RSI, Vector

HLT = b"\xf4"


def until_halt(guest: Guest) -> None:
    """Run up to the HLT, which each kind of engine reports in its own way."""
    exit = guest.engine.run(guest.cpu)
    traits = guest.engine.traits
    if traits.delivers:
        assert exit == Halted()
        guest.cpu.rip -= 1
    elif traits.deprivileged:
        assert isinstance(exit, Fault)
        assert exit.vector == Vector.GP
    else:
        assert exit == INTERCEPT


def needs_counts(guest: Guest) -> None:
    if not guest.engine.traits.counts:
        pytest.skip(f"{guest.engine.traits.core} does not count what runs freely")


def test_runs_up_to_the_halt(guest: Guest) -> None:
    """A loop runs to its end, and the engine returns at the first instruction that it must not
    execute."""
    guest.code(b"\xb9\xe8\x03\x00\x00" + b"\x48\xff\xc0" + b"\xff\xc9" + b"\x75\xf9" + HLT)
    until_halt(guest)
    assert (guest.cpu.gpr[RAX], guest.cpu.gpr[RCX], guest.cpu.rip) == (1000, 0, CODE + 12)
    assert guest.engine.executed in (None, 1 + 3 * 1000)


def test_goes_on_after_the_exit(guest: Guest) -> None:
    """After the VMM moves RIP past an instruction, the run continues behind it."""
    guest.code(HLT + b"\x48\xff\xc0" + HLT)
    until_halt(guest)
    guest.cpu.rip += 1
    until_halt(guest)
    assert (guest.cpu.gpr[RAX], guest.cpu.rip) == (1, CODE + 4)


def test_interrupted_from_another_thread(guest: Guest) -> None:
    """A spinning guest is interrupted from another thread."""
    guest.code(b"\xeb\xfe")
    for _ in range(3):
        stop = threading.Thread(target=guest.engine.interrupt)
        stop.start()
        assert guest.engine.run(guest.cpu) == INTERRUPTED
        stop.join()
        assert guest.cpu.rip == CODE


def test_faults_end_a_run(faulting: Guest) -> None:
    """A fault in the middle of a block is reported at its instruction, with the earlier ones
    complete."""
    faulting.code(b"\x48\xff\xc0" * 3 + b"\x48\x8b\x1e" + b"\x48\xff\xc0" + HLT)
    faulting.cpu.gpr[RSI] = 0x7000_0000
    exit = faulting.engine.run(faulting.cpu)
    assert isinstance(exit, Fault)
    assert (exit.vector, exit.address) == (Vector.PF, 0x7000_0000)
    assert (faulting.cpu.rip, faulting.cpu.gpr[RAX]) == (CODE + 9, 3)
    assert faulting.engine.executed in (None, 3)
    faulting.cpu.gpr[RSI] = DATA
    until_halt(faulting)
    assert (faulting.cpu.gpr[RAX], faulting.engine.executed) in ((4, None), (4, 2))


def test_budgets_are_exact(guest: Guest) -> None:
    """Exactly the budget's number of instructions is completed, a REP counting as one."""
    needs_counts(guest)
    cpu = guest.cpu
    loop = b"\x48\xff\xc0\xb9\x07\x00\x00\x00\xbf" + DATA.to_bytes(4, "little") + b"\xf3\xaa\xeb\xef"
    guest.code(loop)  # inc rax; mov ecx, 7; mov edi, DATA; rep stosb; jmp back
    places = [0, 3, 8, 13, 15]
    total = 0
    for budget in (1, 2, 3, 1, 5, 7, 11, 4, 100, 1, 1003):
        assert guest.engine.run(cpu, budget) == BUDGET_SPENT
        assert guest.engine.executed == budget
        total += budget
        assert cpu.rip == CODE + places[total % 5]
        assert cpu.gpr[RAX] == (total + 4) // 5
        assert cpu.gpr[RCX] == (7 if total % 5 in (2, 3) else 0)


def test_an_empty_budget_does_nothing(guest: Guest) -> None:
    """A budget of 0 executes nothing."""
    needs_counts(guest)
    guest.code(b"\x48\xff\xc0")
    assert guest.engine.run(guest.cpu, 0) == BUDGET_SPENT
    assert (guest.engine.executed, guest.cpu.rip) == (0, CODE)


def test_self_modifying_code_is_counted_once(guest: Guest) -> None:
    """A store that changes its own block happens once and counts once."""
    needs_counts(guest)
    # again: add byte [rip+1], 1; mov al, 5; inc rbx; cmp rbx, 100; jne again; hlt
    guest.code(b"\x80\x05\x01\x00\x00\x00\x01\xb0\x05\x48\xff\xc3\x48\x83\xfb\x64\x75\xee" + HLT)
    until_halt(guest)
    assert (guest.cpu.gpr[RAX], guest.cpu.gpr[RBX]) == (105, 100)
    assert guest.engine.executed == 500


def test_rep_that_faults_is_counted_when_complete(guest: Guest) -> None:
    """A REP interrupted by a fault is counted once, when it is complete."""
    needs_counts(guest)
    cpu, end = guest.cpu, 4 << 20
    guest.code(b"\x90\xf3\xaa\x90" + HLT)
    cpu.gpr[RCX], cpu.gpr[RDI] = 20, end - 5
    exit = guest.engine.run(cpu)
    assert isinstance(exit, Fault)
    assert (guest.engine.executed, cpu.gpr[RCX], cpu.rip) == (1, 15, CODE + 1)
    cpu.gpr[RDI] = DATA
    until_halt(guest)
    assert (guest.engine.executed, cpu.gpr[RCX]) == (2, 0)


# Each entry is one instruction; none leaves the program but by running into the HLT behind it.
PIECES = (
    b"\x48\xff\xc0", b"\x48\x01\xc3", b"\x90", b"\x48\x31\xd8", b"\x50", b"\x5a",
    b"\xf3\xaa", b"\xf3\xa4", b"\xf3\xa6", b"\xf2\xae", b"\xf3\xab",
    b"\xb9\x05\x00\x00\x00", b"\xb9\x00\x00\x00\x00",
    b"\x48\x8d\x3d\x03\x00\x00\x00",   # lea rdi, [rip+3]: into the code itself
    b"\x48\x8d\x35\x00\x00\x00\x00",   # lea rsi, [rip]
    b"\xbf\x00\x00\x20\x00", b"\xbe\x00\x01\x20\x00",
    b"\x75\x01", b"\x74\x03", b"\xeb\x02", b"\xe3\x01",  # jumps into the middle of instructions too
    b"\xc6\x05\x05\x00\x00\x00\x90", b"\x80\x05\x00\x00\x00\x00\x00", b"\xfe\x05\x09\x00\x00\x00",
    b"\xe8\x00\x00\x00\x00", b"\x48\x83\xc4\x08",
)  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_running_equals_stepping(stepping: Guest, seed: int) -> None:
    """Random programs, with REPs, self-modification and jumps into instructions, reach the same state
    after the same count in random bursts and stepped."""
    needs_counts(stepping)
    guest, engine = stepping, stepping.engine
    choose = random.Random(seed)
    program = b"".join(choose.choice(PIECES) for _ in range(60)) + HLT * 16
    boot = guest.cpu.copy()
    boot.rip = CODE

    def begin() -> None:
        guest.cpu.assign(boot)
        guest.memory.view[DATA : DATA + 4096] = bytes(4096)
        guest.code(program)

    begin()
    states = [guest.cpu.state()]
    while len(states) < 400 and guest.memory.view[guest.cpu.rip] != HLT[0]:
        if engine.step(guest.cpu) != STEPPED:
            break
        states.append(guest.cpu.state())
    memory = bytes(guest.memory.view[CODE : CODE + 4096])
    begin()
    done = 0
    while done < len(states) - 1:
        budget = min(choose.choice((1, 2, 3, 7, 30)), len(states) - 1 - done)
        exit = engine.run(guest.cpu, budget)
        assert engine.executed is not None
        done += engine.executed
        assert guest.cpu.state() == states[done], (exit, done)
        assert exit == BUDGET_SPENT
    assert bytes(guest.memory.view[CODE : CODE + 4096]) == memory
