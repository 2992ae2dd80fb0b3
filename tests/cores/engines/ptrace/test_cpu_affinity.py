"""The CPU affinity of a thread that steps a vCPU process."""

from __future__ import annotations

import os
from contextlib import closing

import pytest

from app.bench import guests
from cores.engines.ptrace import cpu_affinity
from cores.engines.registry import availability
from cores.lockstep.options import Options
from cores.lockstep.session import start


def test_held_and_released() -> None:
    """A held thread may use one CPU; released, all that it might before."""
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this host has no sched_setaffinity")
    before = os.sched_getaffinity(0)
    cpu_affinity.hold(min(before))
    assert os.sched_getaffinity(0) == {min(before)}
    assert cpu_affinity.cpus() == before
    cpu_affinity.release()
    cpu_affinity.release()
    assert os.sched_getaffinity(0) == before


def test_a_session_leaves_no_trace() -> None:
    """After a machine has been stepped, run and closed, its thread may use all CPUs again."""
    here = availability("trap:native")
    if not here.available:
        pytest.skip(f"trap:native: {here.reason}")
    before = os.sched_getaffinity(0)
    with closing(start(guests.speak(9), "trap:native", Options())) as machine:
        machine.step()
        machine.run_free(1)
    assert os.sched_getaffinity(0) == before
