"""The thread that owns the session."""

from __future__ import annotations

import threading

import pytest
from fake_session import FakeSession

from app.session_thread import AnySession, Worker
from cores.errors import EngineError

PATIENCE = 120.0
"""Seconds until an answer that must come has failed to come."""


class Broken(FakeSession):
    """Fails at a step, as a host that kills the vCPU process would make it."""

    def step(self) -> None:
        raise EngineError("the vCPU process was killed")


def opened(kind: type[FakeSession] = FakeSession, **fields: object) -> tuple[Worker, list[FakeSession]]:
    sessions: list[FakeSession] = []

    def opener() -> AnySession:
        sessions.append(kind(**fields))  # type: ignore[arg-type]  # the caller's keywords
        return sessions[-1]

    worker = Worker(opener)
    worker.pause().result(PATIENCE)
    return worker, sessions


def test_commands_run_in_the_session_s_own_thread() -> None:
    """The fake asserts its thread; the picture shows each command's outcome."""
    worker, sessions = opened()
    worker.step().result(PATIENCE)
    assert worker.snapshot is not None
    assert worker.snapshot.machines[0].instructions == 1
    worker.close()
    assert sessions[0].closed


def test_a_run_is_answered_between_slices() -> None:
    """A guest that spins does not keep a command waiting, and is interrupted for it."""
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
    """The host's failure becomes words; the session stays open for another try."""
    worker, sessions = opened(Broken)
    with pytest.raises(EngineError):
        worker.step().result(PATIENCE)
    assert worker.failure == "the vCPU process was killed"
    worker.restart().result(PATIENCE)
    assert worker.failure == ""
    worker.close()
    assert sessions[0].closed


def test_closing_twice_leaves_no_thread() -> None:
    """close ends the thread; commands after it are cancelled, not lost in silence."""
    before = threading.active_count()
    worker, _ = opened(spin=True)
    worker.run()
    worker.close()
    worker.close()
    assert threading.active_count() == before
    assert worker.step().cancelled()


def test_a_session_that_cannot_be_opened() -> None:
    """Its reason is kept, and waiting commands are cancelled."""

    def fails() -> AnySession:
        raise EngineError("no memory")

    worker = Worker(fails)
    worker.close()
    assert worker.failure == "no memory"
    assert worker.snapshot is None
    assert worker.step().cancelled()


def test_a_key_comes_before_the_machines() -> None:
    """make_way cuts a slice short; pressed without end, keys leave the machines half of the time."""
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
