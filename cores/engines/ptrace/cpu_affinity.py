"""Where a thread runs while it steps its vCPU processes: a matter of speed only.

A tracer and its tracee never run at once, so they do best on one CPU. Where another one is idle, Linux
wakes the waiting tracer there, away from its tracee, and a step costs 90 us in place of 30. So for as
long as it steps, or is called back often, the thread is kept where it is.
"""

from __future__ import annotations

import contextlib
import os
import threading


class _Own(threading.local):
    """cpus: what this thread may use when it is not held; None: it is not held."""

    cpus: set[int] | None = None


_own = _Own()


def cpus() -> set[int]:
    """The CPUs that this thread may use when it is not held."""
    return _own.cpus or os.sched_getaffinity(0)


def hold(cpu: int) -> None:
    """Keep this thread on that CPU."""
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
