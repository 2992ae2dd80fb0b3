"""How long one instruction of the guest's may keep the host at work.

A REP instruction repeats up to 2**64 times and counts as one, so a budget of instructions does not
bound it. Whatever the VMM does for one instruction in a loop asks here whether to go on.
"""

from __future__ import annotations

from time import perf_counter

from cores.x86.faults import Unsupported

LONGEST = 10.0
"""Seconds of host time. The longest lawful ones, over 512 MiB of RAM, take about one."""


class Patience:
    """With one instruction; it begins now."""

    __slots__ = ("_end",)

    def __init__(self) -> None:
        self._end = perf_counter() + LONGEST

    def ask(self) -> None:
        """Raises Unsupported, which stops the machine, when it has lasted too long."""
        if perf_counter() > self._end:
            raise Unsupported(
                f"one instruction has kept the host at work for {LONGEST:g} seconds: it repeats, over "
                "memory or devices, nearly without end"
            )
