"""The log of exits: one record for each exit from the guest to the host, and their counts.

It is also the one place where exits are timed:

    left()    an exit begins: the engine has returned, or the VMM emulates without entering it
    record()  the reason and what was done; one exit from the engine may have several records
    close()   the guest is about to be entered again: the last record's time ends
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from operator import itemgetter
from time import perf_counter_ns
from typing import NamedTuple

from cores.x86.isa.instruction import Reason
from cores.x86.mmu.segmentation import code_address
from cores.x86.mode import Mode, code_bits, mode
from cores.x86.registers import CS
from cores.x86.virtual_cpu import VirtualCpu

UNCOUNTED = frozenset({Reason.SHADOW, Reason.SCAN, Reason.CALLOUT})
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


class Site(NamedTuple):
    """The exits at one guest address. own: those that the instruction there caused; outside: interrupts
    of devices, which met it; hidden: faults that are no exits (``UNCOUNTED``). ns: of ``own`` and
    ``outside`` together, see ``ExitEvent``."""

    own: int
    outside: int
    hidden: int
    ns: int


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


Repeated = tuple[ExitEvent, str, int]
"""An exit at a known site (cores/vmm/known_exits.py), logged in the fewest steps: the record of an
earlier exit there, its own detail, and its ``vmm_ns``. It becomes an ``ExitEvent`` when ``events`` is
read, and is counted by ``tally``."""

_RECORD = itemgetter(0)


class Trace:
    """The log and the counters of one machine.

    exits: how often the VMM intervened; by_reason: the same by reason, with ``UNCOUNTED`` ones added.
    bridged: instructions completed in software though the CPU should have run them.
    dropped: how many events are gone that were older than the newest ``limit``.
    by_address: exits at each guest address; a rewind to before ``events`` begins these counts anew.
    ns_by_reason, vmm_ns_by_reason: ``ns`` and ``vmm_ns`` of all exits so far.
    world_switch: nanoseconds to enter the guest and leave it, calibrated once for a machine
        (cores/vmm/calibration.py) and part of every exit's ``ns``: no clock of the host's can measure
        the moment at which the guest stops.
    pending: a recorded exit whose time is not yet known.
    begun: an exit has begun in this step (cores/vmm/vmm.py).
    rewinds: how often ``rewind`` was called.
    log: the newest exits. Known sites append to it; ``tally`` has to follow before counters are read.
    """

    __slots__ = (
        "_left", "_place", "_plain", "_tallied", "begun", "bridged", "by_address", "by_reason",
        "dropped", "exits", "limit", "log", "ns_by_reason", "pending", "rewinds",
        "vmm_ns_by_reason", "world_switch",
    )  # fmt: skip

    def __init__(self, *, limit: int = 1_000_000, world_switch: int = 0) -> None:
        self.limit, self.world_switch = limit, world_switch
        self.log: list[ExitEvent | Repeated] = []
        self._plain = self._tallied = 0  # so many from the first on are ExitEvents, are counted
        self.by_reason: Counter[Reason] = Counter()
        self.by_address: Counter[int] = Counter()
        self.ns_by_reason: Counter[Reason] = Counter()
        self.vmm_ns_by_reason: Counter[Reason] = Counter()
        self.exits = self.bridged = self.dropped = self.rewinds = 0
        self.pending: Pending | None = None
        self.begun = False
        self._left = 0
        self._place = IN_LONG_MODE

    @property
    def events(self) -> list[ExitEvent]:
        """The newest exits, oldest first: at least ``limit`` where there were so many."""
        log = self.log
        if self._tallied < len(log):
            self.tally()
        for at in range(self._plain, len(log)):
            event = log[at]
            if not isinstance(event, ExitEvent):
                record, detail, vmm_ns = event
                ns = vmm_ns + self.world_switch
                log[at] = record._replace(detail=detail, ns=ns, vmm_ns=vmm_ns)
        self._plain = len(log)
        return log  # type: ignore[return-value]

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
        log = self.log
        log.append(tuple.__new__(ExitEvent, (*pending, ns, vmm_ns, self._place)))  # 1/3 of the time
        if len(log) > self.limit + self.limit // 8:
            self.trim()

    @property
    def newest(self) -> ExitEvent | None:
        """The pending exit, without its times."""
        return None if self.pending is None else ExitEvent(*self.pending, 0, 0, self._place)

    def tally(self) -> None:
        """Count the exits that known sites have logged."""
        fresh = [event for event in self.log[self._tallied :] if not isinstance(event, ExitEvent)]
        for record, count in Counter(map(_RECORD, fresh)).items():
            self.by_reason[record.reason] += count
            self.by_address[record.rip] += count
            if record.reason not in UNCOUNTED:
                self.exits += count
            self.ns_by_reason[record.reason] += count * self.world_switch
        for record, _, vmm_ns in fresh:
            self.ns_by_reason[record.reason] += vmm_ns
            self.vmm_ns_by_reason[record.reason] += vmm_ns
        self._tallied = len(self.log)

    def trim(self) -> None:
        """Count all events, and drop the oldest ones."""
        self.tally()
        gone = max(0, len(self.log) - self.limit)
        self.dropped += gone
        del self.log[:gone]
        self._plain, self._tallied = max(0, self._plain - gone), len(self.log)

    def mark(self) -> TraceMark:
        """The present length and counters, to rewind to."""
        self.close()
        self.tally()
        return TraceMark(
            self.dropped + len(self.log), self.by_reason.copy(), self.exits, self.bridged,
            self.ns_by_reason.copy(), self.vmm_ns_by_reason.copy(),
        )  # fmt: skip

    def take(self) -> list[ExitEvent]:
        """The newest exits, which are then gone from the log."""
        events = self.events.copy()
        self.log.clear()
        self._plain = self._tallied = 0
        return events

    def copy(self) -> Trace:
        """An independent copy."""
        other = Trace()
        other.assign(self)
        for name in ("log", "by_reason", "by_address", "ns_by_reason", "vmm_ns_by_reason"):
            setattr(other, name, getattr(self, name).copy())
        return other

    def assign(self, other: Trace) -> None:
        """Share everything with ``other``."""
        for name in Trace.__slots__:
            setattr(self, name, getattr(other, name))

    def rewind(self, mark: TraceMark) -> None:
        """Forget what came after ``mark``. Where ``events`` does not reach back to it, all events
        go."""
        self.close()
        self.rewinds += 1
        events = self.events
        keep = mark.length - self.dropped
        if 0 <= keep <= len(events):
            for event in events[keep:]:
                self.by_address[event.rip] -= 1
            del events[keep:]
        else:
            events.clear()
            self.by_address.clear()
            self.dropped = mark.length
        self._plain = self._tallied = len(events)
        self.by_reason, self.ns_by_reason = mark.by_reason.copy(), mark.ns_by_reason.copy()
        self.vmm_ns_by_reason = mark.vmm_ns_by_reason.copy()
        self.exits, self.bridged = mark.exits, mark.bridged
