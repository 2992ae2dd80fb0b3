"""CPU affinity of a thread that steps vCPU processes; it affects speed only.

A tracer and its tracee never run at once, so they are fastest on one CPU. Where another one is idle,
Linux wakes the waiting tracer there, away from its tracee, and a step costs 90 us instead of 30. So the
thread is bound to its CPU for as long as it steps, or exits often.
"""

from __future__ import annotations

import contextlib
import os
import threading


class _Own(threading.local):
    """cpus: the CPUs that this thread may use when it is not bound; None: it is not bound."""

    cpus: set[int] | None = None


_own = _Own()


def cpus() -> set[int]:
    """The CPUs that this thread may use when it is not bound."""
    return _own.cpus or os.sched_getaffinity(0)


def hold(cpu: int) -> None:
    """Bind this thread to ``cpu``."""
    with contextlib.suppress(OSError):
        if _own.cpus is None:
            _own.cpus = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {cpu})


def release() -> None:
    """Let the scheduler place this thread again."""
    if _own.cpus is not None:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, _own.cpus)
        _own.cpus = None
