"""Time limit for one guest instruction.

A REP instruction repeats up to 2**64 times and counts as one, so a budget of instructions does not
bound it. Each loop over a count that the guest gives calls ``Deadline.check``; where the CPU itself
repeats, ``interrupted_late`` makes the engine return.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

from cores.errors import EngineError
from cores.x86.faults import Unsupported

LONGEST = 10.0
"""Seconds of host time. The longest REP instructions, over 512 MiB of RAM, take about one."""
MANY_ITERATIONS = 1 << 24
"""A REP with fewer iterations takes any CPU at most a few milliseconds over RAM."""


class Deadline:
    """The time limit of one instruction; it begins with the construction."""

    __slots__ = ("_end",)

    def __init__(self) -> None:
        self._end = perf_counter() + LONGEST

    def check(self) -> None:
        """Raises Unsupported, which stops the machine, when the limit has passed."""
        if perf_counter() > self._end:
            raise Unsupported(
                f"one instruction has kept the host at work for {LONGEST:g} seconds: it repeats, over "
                "memory or devices, nearly without end"
            )


@contextmanager
def interrupted_late(interrupt: Callable[[], None]) -> Iterator[None]:
    """Call ``interrupt`` from another thread if the block lasts longer than the limit. Raises
    EngineError if the host cannot start a thread (some 60 us, so only for ``MANY_ITERATIONS``)."""
    timer = threading.Timer(LONGEST, interrupt)
    timer.daemon = True
    try:
        timer.start()
    except RuntimeError as error:
        raise EngineError(f"this host gives no thread to keep the time: {error}") from None
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
