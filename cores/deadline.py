"""Time limit on the host's work for one guest instruction.

A REP instruction repeats up to 2**64 times and counts as one, so a budget of instructions does not
bound it. Every loop that the VMM or an engine runs for one instruction calls ``Deadline.check``.
"""

from __future__ import annotations

from time import perf_counter

from cores.x86.faults import Unsupported

LONGEST = 10.0
"""Seconds of host time. The longest lawful instructions, over 512 MiB of RAM, take about one."""


class Deadline:
    """The limit of one instruction; the time begins when the object is made."""

    __slots__ = ("_end",)

    def __init__(self) -> None:
        self._end = perf_counter() + LONGEST

    def check(self) -> None:
        """Raises Unsupported, which stops the machine, once the limit has passed."""
        if perf_counter() > self._end:
            raise Unsupported(
                f"one instruction has kept the host at work for {LONGEST:g} seconds: it repeats, over "
                "memory or devices, nearly without end"
            )
