"""The log of exits: its bound, and rewinding it."""

from __future__ import annotations

import pytest

from cores.vmm.trace import Trace
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
