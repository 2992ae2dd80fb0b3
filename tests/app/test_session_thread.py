"""The thread that owns the machines of a session."""

from __future__ import annotations

import threading

import pytest
from fake_session import FakeSession

from app.any_session import AnySession
from app.session_thread import Worker
from cores.debugging.breakpoints import Breakpoint
from cores.errors import EngineError
from cores.x86.isa.instruction import Reason

PATIENCE = 120.0
"""Seconds until an answer that must come has failed to come."""


class Broken(FakeSession):
    """A session that fails at a step, as after a killed vCPU process."""

    def step(self) -> None:
        raise EngineError("the vCPU process was killed")


class Far(FakeSession):
    """A session in which no place is reached before ``gate`` is open."""

    gate = threading.Event()

    def next_exit(
        self, reason: Reason | None, limit: float, breakpoints: frozenset[Breakpoint]
    ) -> bool:
        return self.gate.is_set() and super().next_exit(reason, limit, breakpoints)

    def seek(self, instruction: int, seconds: float) -> bool:
        return self.gate.is_set() and super().seek(instruction, seconds)


def opened(kind: type[FakeSession] = FakeSession, **fields: object) -> tuple[Worker, list[FakeSession]]:
    sessions: list[FakeSession] = []

    def opener() -> AnySession:
        sessions.append(kind(**fields))  # type: ignore[arg-type]  # the caller's keywords
        return sessions[-1]

    worker = Worker(opener)
    worker.pause().result(PATIENCE)
    return worker, sessions


def test_commands_run_in_the_session_s_own_thread() -> None:
    """Commands run in the session's thread (the fake asserts it), and the snapshot shows their
    results."""
    worker, sessions = opened()
    worker.step().result(PATIENCE)
    assert worker.snapshot is not None
    assert worker.snapshot.machines[0].instructions == 1
    worker.close()
    assert sessions[0].closed


def test_a_run_is_answered_between_slices() -> None:
    """A spinning guest does not delay a command; the run is interrupted for it."""
    worker, sessions = opened(spin=True)
    worker.run().result(PATIENCE)
    worker.type("x").result(PATIENCE)
    assert sessions[0].typed == "x"
    assert not worker.idle
    worker.pause().result(PATIENCE)
    assert worker.idle
    assert "interrupt" in sessions[0].calls
    worker.close()


def test_an_error_stops_the_run_and_is_said() -> None:
    """A failure of the host becomes a message; the session stays open."""
    worker, sessions = opened(Broken)
    with pytest.raises(EngineError):
        worker.step().result(PATIENCE)
    assert worker.failure == "the vCPU process was killed"
    worker.restart().result(PATIENCE)
    assert worker.failure == ""
    worker.close()
    assert sessions[0].closed


def test_closing_twice_leaves_no_thread() -> None:
    """close ends the thread, also when called twice; later commands are cancelled."""
    before = threading.active_count()
    worker, _ = opened(spin=True)
    worker.run()
    worker.close()
    worker.close()
    assert threading.active_count() == before
    assert worker.step().cancelled()


def test_a_session_that_cannot_be_opened() -> None:
    """A session that cannot be opened keeps its reason and cancels waiting commands."""

    def fails() -> AnySession:
        raise EngineError("no memory")

    worker = Worker(fails)
    worker.close()
    assert worker.failure == "no memory"
    assert worker.snapshot is None
    assert worker.step().cancelled()


def test_a_key_comes_before_the_machines() -> None:
    """make_way cuts a slice short; with keys pressed all the time the machines still get half of it."""
    worker, sessions = opened(spin=True)
    worker.run().result(PATIENCE)
    before = sessions[0].calls.count("interrupt")
    worker.make_way()
    worker.make_way()
    assert sessions[0].calls.count("interrupt") == before + 1
    spun = sessions[0].spun
    while sessions[0].spun == spun:
        worker.make_way()
        threading.Event().wait(0.001)
    worker.close()


@pytest.mark.parametrize("ends", [False, True])
def test_keys_pressed_on_the_way_are_obeyed_at_its_end(ends: bool) -> None:
    """Exit after exit, back and a step, asked for while the machines are still on the way to the first,
    lead where they lead one by one; a pause takes the place of all of them."""
    Far.gate.clear()
    worker, sessions = opened(Far)
    worker.next_exit().result(PATIENCE)
    later = [worker.next_exit(), worker.step_back(), worker.step_back(), worker.step()]
    assert not worker.idle
    if ends:
        worker.pause().result(PATIENCE)
        Far.gate.set()
        assert all(future.cancelled() for future in later)
    else:
        Far.gate.set()
        later[-1].result(PATIENCE)
    assert sessions[0].n == (0 if ends else 2 - 1)
    assert worker.idle
    worker.close()
