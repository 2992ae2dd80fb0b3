"""The log of exits: its bound, and rewinding it."""

from __future__ import annotations

import pytest

from cores.vmm.trace import ExitEvent, Trace
from cores.x86.isa.instruction import Reason


def go_on(trace: Trace, first: int, end: int) -> None:
    for n in range(first, end):
        trace.left()
        trace.record(n, 0x1000 + n % 7, b"", Reason.IO, "", "", 0)
        trace.close()


@pytest.mark.parametrize(("to", "log"), [(0, 0), (20, 0), (60, 21), (130, 91)])
def test_back_and_on(to: int, log: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counters, log and numbers agree after every rewind, also to before the log begins, and after
    going on."""
    trace = Trace(limit=100, world_switch=3)
    monkeypatch.setattr("cores.vmm.trace.perf_counter_ns", lambda: 0)
    go_on(trace, 0, to)
    mark = trace.mark()
    go_on(trace, to, 140)
    later = trace.mark()
    assert trace.dropped == 39
    trace.rewind(mark)
    assert (trace.exits, trace.ns_by_reason[Reason.IO]) == (to, 3 * to)
    assert (len(trace.events), trace.dropped + len(trace.events)) == (log, to)
    assert sum(trace.by_address.values()) == (to if log else 0)
    go_on(trace, to, to + 5)
    assert [event.n for event in trace.events[log:]] == list(range(to, to + 5))
    trace.rewind(later)
    assert (trace.exits, trace.dropped + len(trace.events)) == (140, 140)
    go_on(trace, 140, 150)
    trace.rewind(later)
    assert (trace.exits, trace.dropped + len(trace.events)) == (140, 140)


def test_known_sites_are_counted_like_others() -> None:
    """What a known site has logged becomes events with the earlier record's fields, and is counted
    once, whether it is read, counted or taken first."""
    trace = Trace(world_switch=3)
    go_on(trace, 0, 1)
    record = ExitEvent(None, 0x2000, b"\xe6\xe9", Reason.IO, "first", "refused", 3, 0, 0)
    for turn in range(3):
        trace.log.append((record, f"detail {turn}", 10))
        if turn == 0:
            trace.tally()
        newest = trace.events[-1]
        assert (newest.rip, newest.detail, newest.ring) == (0x2000, f"detail {turn}", 3)
        assert (newest.ns, newest.vmm_ns) == (13, 10)
    go_on(trace, 1, 2)
    trace.tally()
    assert (trace.exits, trace.by_reason[Reason.IO], trace.by_address[0x2000]) == (5, 5, 3)
    assert trace.ns_by_reason[Reason.IO] == sum(event.ns for event in trace.events)
    assert len(trace.take()) == 5
    trace.log.append((record, "later", 10))
    trace.tally()
    assert (trace.exits, [event.detail for event in trace.events]) == (6, ["later"])


def test_the_log_of_known_sites_is_bounded() -> None:
    """Trimming counts what is dropped."""
    trace = Trace(limit=10)
    record = ExitEvent(None, 0x2000, b"\xe6\xe9", Reason.IO, "", "", 0, 0, 0)
    trace.log += [(record, "", 1)] * 35
    trace.trim()
    assert (trace.exits, len(trace.events), trace.dropped) == (35, 10, 25)


def test_hidden_faults_at_known_sites_are_no_exits() -> None:
    """A hidden fault that a known site has logged is counted by its reason, and not in ``exits``."""
    trace = Trace()
    record = ExitEvent(None, 0x2000, b"\xab", Reason.SHADOW, "page 0x3000", "mapped", 0, 0, 0)
    trace.log.append((record, "page 0x4000", 10))
    trace.tally()
    assert (trace.exits, trace.by_reason[Reason.SHADOW], trace.by_address[0x2000]) == (0, 1, 1)
