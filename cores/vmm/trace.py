"""The log of exits: one record for each exit from the guest to the host, and their counts.

It is also the one place where exits are timed:

    left()    an exit begins: the engine has returned, or the VMM emulates without entering it
    record()  the reason and what was done; one exit from the engine may have several records
    close()   the guest is about to be entered again: the last record's time ends
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from time import perf_counter_ns
from typing import NamedTuple

from cores.x86.isa.instruction import Reason
from cores.x86.mmu.segmentation import code_address
from cores.x86.mode import Mode, code_bits, mode
from cores.x86.registers import CS
from cores.x86.virtual_cpu import VirtualCpu

UNCOUNTED = frozenset({Reason.SHADOW, Reason.SCAN})
"""In ``exits_by_reason``, but not in ``exits`` (contract.md, Counting)."""


class Place(NamedTuple):
    """The mode of an instruction that left the guest, and where it is.

    bits: the width of the code. linear: its linear address where that is not RIP, else None."""

    mode: Mode
    bits: int
    linear: int | None


IN_LONG_MODE = Place(Mode.LONG, 64, None)


def place_of(cpu: VirtualCpu) -> Place:
    """The place of the instruction at RIP."""
    bits = code_bits(cpu)
    if bits == 64:
        return IN_LONG_MODE
    return Place(mode(cpu), bits, code_address(cpu, cpu.rip) if cpu.segments[CS].base else None)


class ExitEvent(NamedTuple):
    """One exit. A NamedTuple since it is made on the hot path (0.3 us; a frozen dataclass: 1.1 us).

    n: instructions completed before it, None where the CPU ran on its own and they were not counted.
    rip: the offset in CS; ``place`` says the rest. code: the instruction's bytes, empty for events that
    belong to none (irq). reason: the kind of exit. detail: the event ("out 0xe9, 0x48"). handled: what
    the VMM did ("emulated: console"). ring: the virtual CPL it came from.
    ns: host time from leaving the guest to entering it again, world switches included, nanoseconds.
    vmm_ns: the VMM's part of ``ns``.
    """

    n: int | None
    rip: int
    code: bytes
    reason: Reason
    detail: str
    handled: str
    ring: int
    ns: int
    vmm_ns: int
    place: Place = IN_LONG_MODE


Pending = tuple[int | None, int, bytes, Reason, str, str, int]
"""The fields of an ``ExitEvent`` but for its times and ``place``."""


@dataclass(frozen=True, slots=True)
class TraceMark:
    """The length and the counters of a trace at one moment, for ``Trace.rewind``."""

    length: int
    by_reason: Counter[Reason]
    exits: int
    bridged: int
    ns_by_reason: Counter[Reason]
    vmm_ns_by_reason: Counter[Reason]


@dataclass(slots=True)
class Trace:
    """The log and the counters of one machine.

    events: the newest ``limit`` exits, oldest first. dropped: how many older ones are gone.
    exits: how often the VMM intervened; by_reason: the same by reason, with shadow and scan added.
    bridged: instructions completed in software though the CPU should have run them.
    by_address: exits at each guest address; a rewind to before ``events`` begins these counts anew.
    ns_by_reason, vmm_ns_by_reason: ``ns`` and ``vmm_ns`` of all exits so far.
    world_switch: nanoseconds to enter the guest and leave it, calibrated once for a machine
        (cores/vmm/calibration.py) and part of every exit's ``ns``: no clock of the host's can measure
        the moment at which the guest stops.
    pending: a recorded exit whose time is not yet known.
    begun: an exit has begun in this step (cores/vmm/vmm.py).
    """

    limit: int = 1_000_000
    events: list[ExitEvent] = field(default_factory=list)
    by_reason: Counter[Reason] = field(default_factory=Counter)
    exits: int = 0
    bridged: int = 0
    dropped: int = 0
    by_address: Counter[int] = field(default_factory=Counter)
    ns_by_reason: Counter[Reason] = field(default_factory=Counter)
    vmm_ns_by_reason: Counter[Reason] = field(default_factory=Counter)
    world_switch: int = 0
    pending: Pending | None = None
    begun: bool = False
    _left: int = 0
    _place: Place = IN_LONG_MODE

    def left(self) -> None:
        """An exit begins: the guest has been left."""
        if self.pending is not None:
            self.close()
        self.begun = True
        self._left = perf_counter_ns()

    def record(
        self,
        n: int | None,
        rip: int,
        code: bytes,
        reason: Reason,
        detail: str,
        handled: str,
        ring: int,
        place: Place = IN_LONG_MODE,
    ) -> None:
        """Record an exit; its time ends with the next record or at ``close``."""
        if self.pending is not None:
            self.close()
        self.by_reason[reason] += 1
        self.by_address[rip] += 1
        if reason not in UNCOUNTED:
            self.exits += 1
        self.pending = n, rip, code, reason, detail, handled, ring
        self._place = place

    def close(self) -> None:
        """End the time of the pending exit. A record that follows without ``left`` begins here."""
        pending = self.pending
        if pending is None:
            return
        now = perf_counter_ns()
        vmm_ns, self._left, self.pending = now - self._left, now, None
        ns = vmm_ns + self.world_switch
        self.ns_by_reason[pending[3]] += ns
        self.vmm_ns_by_reason[pending[3]] += vmm_ns
        events = self.events
        events.append(tuple.__new__(ExitEvent, (*pending, ns, vmm_ns, self._place)))  # 1/3 of the time
        if len(events) > self.limit + self.limit // 8:
            self.dropped += len(events) - self.limit
            del events[: len(events) - self.limit]

    def mark(self) -> TraceMark:
        """The present length and counters, to rewind to."""
        self.close()
        return TraceMark(
            self.dropped + len(self.events), self.by_reason.copy(), self.exits, self.bridged,
            self.ns_by_reason.copy(), self.vmm_ns_by_reason.copy(),
        )  # fmt: skip

    def copy(self) -> Trace:
        """An independent copy."""
        return replace(
            self, events=self.events.copy(), by_reason=self.by_reason.copy(),
            by_address=self.by_address.copy(), ns_by_reason=self.ns_by_reason.copy(),
            vmm_ns_by_reason=self.vmm_ns_by_reason.copy(),
        )  # fmt: skip

    def rewind(self, mark: TraceMark) -> None:
        """Forget what came after ``mark``. Where ``events`` does not reach back to it, all events
        go."""
        self.close()
        keep = mark.length - self.dropped
        if 0 <= keep <= len(self.events):
            for event in self.events[keep:]:
                self.by_address[event.rip] -= 1
            del self.events[keep:]
        else:
            self.events.clear()
            self.by_address.clear()
            self.dropped = mark.length
        self.by_reason, self.ns_by_reason = mark.by_reason.copy(), mark.ns_by_reason.copy()
        self.vmm_ns_by_reason = mark.vmm_ns_by_reason.copy()
        self.exits, self.bridged = mark.exits, mark.bridged
