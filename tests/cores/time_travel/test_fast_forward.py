"""Fast forward: led sessions reach the states of stepped ones, with checkpoints as dense."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from machine_lab import EXIT, needs_assembler, program, require

from cores.debugging.breakpoints import AtAddress
from cores.debugging.live_session import LiveSession
from cores.lockstep.leader import Lead
from cores.lockstep.options import Options
from cores.machine.machine import Machine
from cores.time_travel import fast_forward
from cores.x86.isa.instruction import Reason
from tests.sampling import all_but

pytestmark = needs_assembler

LOOP = """
    mov ecx, {turns}
1:  add rax, rcx
    mov [0x50000], rax
    dec ecx
    jnz 1b
"""
AT_OUT = 2 * (1 + 4 * 4_000) + 2
SECOND, OUT = 0x10001B, 0x100030
"""Addresses of the second loop's first instruction, and of the OUT behind it."""
SOURCE = LOOP.format(turns=4_000) * 2 + "mov al, 65\nmov dl, al\nout 0xe9, al\nin al, 0x64\n" + EXIT


@pytest.fixture(params=all_but(["trap:native", "trap:portable", "kvm"], "trap:native", "kvm"))
def session(request: pytest.FixtureRequest) -> Iterator[LiveSession]:
    """The interpreter and a core that runs here."""
    require(request.param)
    options = Options(cores=("interpreter", request.param), ram=2 << 20)
    with closing(LiveSession(program(SOURCE), options)) as live:
        yield live


def run(live: LiveSession) -> None:
    """Run to the end."""
    while live.run(0.5):
        assert live.snapshot().divergence is None


def states(live: LiveSession) -> list[tuple[int, ...]]:
    return [machine.cpu.state() for machine in live.machines]


def test_it_comes_where_steps_come(session: LiveSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """Registers, counts and exits are those of stepping, at the end and in the middle."""
    run(session)
    ends = states(session), [machine.vmm.trace.by_reason for machine in session.machines]
    session.go_to(20_001)
    middle = states(session)
    monkeypatch.setattr(Lead, "may_lead", lambda machines: False)
    session.restart()
    session.go_to(20_001)
    assert states(session) == middle
    run(session)
    assert (states(session), [machine.vmm.trace.by_reason for machine in session.machines]) == ends


def test_it_hurries(session: LiveSession, led: list[int]) -> None:
    """Most of a long run is led, with a checkpoint every 5,000 instructions."""
    session.go_to(AT_OUT)
    assert sum(led) > 0.8 * AT_OUT
    assert max(led) <= fast_forward.INTERVAL
    assert [machine.vmm.instructions for machine in session.machines] == [AT_OUT] * 2


def test_a_breakpoint_is_come_to_at_full_speed(session: LiveSession, led: list[int]) -> None:
    """A run is led up to a breakpoint, and stops before it at each pass of a loop."""
    session.run(30.0, frozenset({AtAddress(OUT)}))
    assert [machine.vmm.instructions for machine in session.machines] == [AT_OUT] * 2
    assert sum(led) > 0.8 * AT_OUT
    session.restart()
    session.run(30.0, frozenset({AtAddress(SECOND)}))
    for turn in range(3):
        counts = [machine.vmm.instructions for machine in session.machines]
        assert counts == [1 + 4 * (4_000 + turn) + 1] * 2
        session.run(30.0, frozenset({AtAddress(SECOND)}))


def test_the_next_exit_is_not_passed(session: LiveSession) -> None:
    """A run to the next exit stops all machines behind it and no further."""
    while not session.next_exit(Reason.IO):
        pass
    assert [machine.vmm.instructions for machine in session.machines] == [AT_OUT + 1] * 2
    assert all(machine.board.console == b"A" for machine in session.machines)


def test_what_was_typed_comes_at_its_time(session: LiveSession) -> None:
    """Text typed in the middle of a led run comes at the same instruction after going back."""
    session.go_to(15_000)
    session.key("a")
    run(session)
    after = states(session)
    session.go_to(3_000)
    run(session)
    assert states(session) == after


def test_going_back_is_exact(session: LiveSession) -> None:
    """Every instruction of a led stretch can be reached, one by one."""
    session.go_to(AT_OUT)
    session.step_back()
    before = states(session)
    session.step_back()
    session.step()
    assert states(session) == before


def test_ram_is_compared(session: LiveSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte that differs after a stretch is noticed, and the stretch is repeated by steps."""
    spoilt = lambda: session.machines[1].memory.view[0x70000]  # noqa: E731
    go = Lead._go

    def spoil(self: Lead, limit: int) -> None:
        go(self, limit)
        if session.machines[1].vmm.instructions < 8_000:
            session.machines[1].memory.view[0x70000] = 1

    monkeypatch.setattr(Lead, "_go", spoil)
    run(session)
    assert spoilt() == 0
    assert session.machines[0].memory_image() == session.machines[1].memory_image()


def test_ram_is_compared_at_the_end(session: LiveSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """RAM that differs at the end of all machines is a divergence."""
    monkeypatch.setattr(Lead, "may_lead", lambda machines: False)
    session.go_to(AT_OUT)
    session.machines[1].memory.view[0x70000] = 1
    while session.run(0.5):
        pass
    divergence = session.snapshot().divergence
    assert divergence is not None
    assert "mem:0x70000" in divergence.differs


def test_a_step_doubts_what_was_led(led: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that reads a byte left different by a stretch, before RAM was compared, reports no
    divergence and is still made."""
    require("trap:native")
    follow = Lead._follow

    def spoiling(self: Lead, machine: Machine, leader: Machine, done: int) -> None:
        follow(self, machine, leader, done)
        machine.memory.view[0x60000] = 1

    monkeypatch.setattr(Lead, "_follow", spoiling)
    source = LOOP.format(turns=1_100) + "mov bl, [0x60000]\n" + EXIT
    options = Options(cores=("interpreter", "trap:native"), ram=2 << 20)
    with closing(LiveSession(program(source), options)) as live:
        there = 4_401
        live.go_to(there)
        assert sum(led) > 1_000
        live.step()
        assert live.snapshot().divergence is None
        assert [machine.vmm.instructions for machine in live.machines] == [there + 1] * 2


def test_stores_are_recorded_only_where_compared() -> None:
    """Stores are recorded only where they are compared: not for one machine, nor in free mode."""
    for names in (("interpreter",), ("interpreter", "trap:portable")):
        with closing(LiveSession(program("1: jmp 1b"), Options(cores=names, ram=2 << 20))) as live:
            live.run_free(0.01)
            assert live.machines[0].memory.writes is None
