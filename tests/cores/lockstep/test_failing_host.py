"""A killed vCPU process stops its own machine only, whatever is being done."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from machine_lab import needs_assembler, program

from cores.debugging import saved_session as saved
from cores.debugging.live_session import LiveSession
from cores.engines import registry
from cores.engines.kvm.engine import KvmEngine
from cores.lockstep.options import Options
from cores.lockstep.session import Session
from cores.machine.machine import Machine
from cores.pc.stop import Stop

NATIVE = "trap:native"
pytestmark = [
    needs_assembler,
    pytest.mark.skipif(
        not registry.availability(NATIVE).available,
        reason=f"{NATIVE}: {registry.availability(NATIVE).reason}",
    ),
]

COUNTS = "again: inc rbx\ntest ebx, 0x3ff\njnz again\nmov al, 46\nout 0xe9, al\njmp again"
COMPUTES = "again: inc rbx\ncvtsi2sd xmm0, rbx\naddsd xmm1, xmm0\njmp again"
HERE = 7_000
"""Instructions: behind the first checkpoint, where machines are led."""


def native(session: LiveSession | Session) -> Machine:
    return next(machine for machine in session.machines if machine.core == NATIVE)


def kill(machine: Machine) -> None:
    found = re.search(r"process (\d+)", machine.engine.where())
    assert found is not None
    os.kill(int(found[1]), signal.SIGKILL)


def kill_after(monkeypatch: pytest.MonkeyPatch, machine: Machine, method: str) -> None:
    """Kill the process after its engine's first call of that method."""
    does = getattr(machine.engine, method)

    def done_and_killed(*arguments: Any, **named: Any) -> Any:
        result = does(*arguments, **named)
        monkeypatch.undo()
        kill(machine)
        return result

    monkeypatch.setattr(machine.engine, method, done_and_killed)


@pytest.fixture(params=[None, ("interpreter", "trap")], ids=["all", "named"])
def live(request: pytest.FixtureRequest) -> Iterator[LiveSession]:
    """Machines at ``HERE``, one of whose processes has just been killed, unnoticed so far."""
    with closing(LiveSession(program(COUNTS), Options(cores=request.param))) as session:
        session.go_to(HERE)
        kill(native(session))
        yield session


WAYS: dict[str, tuple[Callable[[LiveSession], object], int]] = {
    "step": (lambda s: s.step(), HERE + 1),
    "step back": (lambda s: s.step_back(), HERE - 1),
    "ahead": (lambda s: s.go_to(HERE + 3_000), HERE + 3_000),
    "far back": (lambda s: s.go_to(10), 10),
    "previous exit": (lambda s: s.previous_exit(), 6_148),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_others_arrive(way: str, live: LiveSession) -> None:
    """The other machines reach their target, and going on finds no divergence, except that a machine
    asked for by name has stopped."""
    go, there = WAYS[way]
    go(live)
    live.step()
    assert native(live).stop is Stop.ERROR
    assert {m.vmm.instructions for m in live.machines if m is not native(live)} == {there + 1}
    assert live.snapshot().divergence is None or live.options.cores is not None
    assert native(live).vmm.reason == "the vCPU process was killed (signal 9)"


def test_a_session_can_still_be_saved(live: LiveSession, tmp_path: Path) -> None:
    """The session is saved, and reopened with the other machines' states whole."""
    saved.save(live, str(tmp_path / "file"))
    with closing(saved.reopen(str(tmp_path / "file"))) as again:
        assert native(again).stop is Stop.ERROR
        again.go_to(HERE + 10)
        assert again.machines[0].vmm.instructions == HERE + 10


def test_over_again(live: LiveSession) -> None:
    """A restart gives the machine a new process."""
    live.step()
    live.restart()
    live.go_to(100)
    assert {(m.stop, m.vmm.instructions) for m in live.machines} == {(None, 100)}


def test_killed_while_it_is_led(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process killed while led makes the comparison go back, and on without it."""
    with closing(Session(program(COUNTS), Options(budget=20_000))) as session:
        kill_after(monkeypatch, native(session), "run")
        session.run_to_end()
        assert native(session).stop is Stop.ERROR
        assert session.divergence is None
        assert {m.stop for m in session.machines if m is not native(session)} == {Stop.BUDGET}


@pytest.mark.parametrize("cores", [None, ("interpreter", "trap")], ids=["all", "named"])
def test_killed_between_a_step_and_its_comparison(
    cores: tuple[str, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost x87 and SSE registers are not reported as a divergence."""
    with closing(Session(program(COMPUTES), Options(cores=cores, budget=1_000))) as session:
        for _ in range(2):
            session.step()
        kill_after(monkeypatch, native(session), "step_to")
        session.run_to_end()
        assert native(session).stop is Stop.ERROR
        differs = session.divergence.differs if session.divergence else ()
        assert differs == (() if cores is None else ("rip", "stop"))
        assert session.machines[0].stop is Stop.BUDGET


@pytest.mark.skipif(
    not registry.availability("kvm").available, reason=str(registry.availability("kvm").reason)
)
@pytest.mark.parametrize("way", [Machine.step, Machine.fpu, Machine.save, lambda m: m.run_free(0.1)])
def test_kvm_revoked(way: Callable[[Machine], object]) -> None:
    """Whichever call the kernel refuses, the KVM machine stops with a reason, and can be closed."""
    with closing(Session(program(COUNTS), Options(cores=("kvm",)))) as session:
        session.step()
        (machine,) = session.machines
        assert isinstance(machine.engine, KvmEngine)
        vcpu = machine.engine._vcpu  # its descriptor becomes one that knows nothing of KVM
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), vcpu.fd)
        way(machine)
        assert machine.stop is Stop.ERROR
        assert "Inappropriate ioctl" in machine.vmm.reason
