"""What happened: one record for each time the guest was left for the host, and their counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from .x86.instruction import Reason

UNCOUNTED = frozenset({Reason.SHADOW, Reason.SCAN})
"""In ``exits_by_reason``, but not in ``exits`` (contract.md, Counting)."""


class ExitEvent(NamedTuple):
    """One exit. A NamedTuple since it is made on the hot path (0.3 us; a frozen dataclass: 1.1 us).

    n: instructions completed before it. rip: guest linear address. code: the instruction's bytes,
    empty for events that belong to none (irq). reason: why. detail: what exactly ("out 0xe9, 0x48").
    handled: what the VMM did ("emulated: console"). ring: the virtual CPL it came from.
    ns: host time from the stop to the decision to resume, nanoseconds.
    """

    n: int
    rip: int
    code: bytes
    reason: Reason
    detail: str
    handled: str
    ring: int
    ns: int


@dataclass(slots=True)
class Trace:
    """The log and the counters of one machine.

    events: every exit so far, oldest first, the newest ``limit`` of them kept.
    exits: how often the VMM intervened; by_reason: the same split, with shadow and scan added.
    device_accesses: port and MMIO accesses, REP iterations included.
    bridged: instructions completed in software though the CPU should have run them.
    """

    limit: int = 1_000_000
    events: list[ExitEvent] = field(default_factory=list)
    by_reason: Counter[Reason] = field(default_factory=Counter)
    exits: int = 0
    device_accesses: int = 0
    bridged: int = 0
    dropped: int = 0

    def record(self, event: ExitEvent) -> None:
        self.by_reason[event.reason] += 1
        if event.reason not in UNCOUNTED:
            self.exits += 1
        events = self.events
        events.append(event)
        if len(events) > self.limit + self.limit // 8:
            self.dropped += len(events) - self.limit
            del events[: len(events) - self.limit]
