"""The exits of ``trace`` for other programs: a spreadsheet, a flame graph, Perfetto.

    csv        a row for each exit, as RFC 4180 has it
    folded     stacks with their nanoseconds (flamegraph.pl, speedscope): core, ring, reason, place
    perfetto   the Trace Event Format (JSON), for ui.perfetto.dev and chrome://tracing

Each takes the lines of one core after the other, and gives text as it goes: nothing is kept but what
the format needs.
"""

from __future__ import annotations

import csv
import io
import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Protocol

from app.text.reports_json import Value, trace_line
from cores.machine.report import ExitLine

FIELDS = (
    "core", "n", "rip", "linear", "bytes", "asm", "cpu_mode", "reason", "detail", "handled", "ring",
    "ns", "vmm_ns", "source",
)  # fmt: skip
DEVICES = frozenset({"io", "mmio"})


class Format(Protocol):
    """What a format makes of exits. All of them give text without an end of line to add."""

    def heading(self) -> str: ...
    def core(self, name: str, number: int) -> str:
        """The exits of this core follow; ``number`` counts from 1."""
        ...

    def line(self, exit: ExitLine) -> str: ...
    def ending(self) -> str: ...


class Csv:
    """A row for each exit."""

    def __init__(self) -> None:
        self._core = ""

    def heading(self) -> str:
        return _row(FIELDS)

    def core(self, name: str, number: int) -> str:
        self._core = name
        return ""

    def line(self, exit: ExitLine) -> str:
        values: dict[str, Value] = {"core": self._core, **trace_line(exit)}
        return _row("" if (value := values.get(name)) is None else value for name in FIELDS)

    def ending(self) -> str:
        return ""


class Folded:
    """Stacks, and the time of all their exits."""

    def __init__(self, symbols: Mapping[str, int]) -> None:
        self._places = Places(symbols)
        self._core = ""
        self._ns: Counter[tuple[str, ...]] = Counter()

    def heading(self) -> str:
        return ""

    def core(self, name: str, number: int) -> str:
        self._core = name
        return ""

    def line(self, exit: ExitLine) -> str:
        place = self._places.name(exit.rip)
        frames = (self._core, f"ring {exit.ring}", exit.reason, place, exit.asm or exit.detail)
        self._ns[frames] += exit.ns
        return ""

    def ending(self) -> str:
        stacks = (";".join(frame.replace(";", ",") for frame in frames) for frames in self._ns)
        return "".join(f"{stack} {ns}\n" for stack, ns in zip(stacks, self._ns.values(), strict=True))


class Perfetto:
    """Tracks for each core: its exits, its ring, its devices, and what the exits have cost so far.

    The time of the axis is the guest's own in exact mode: one completed instruction is a microsecond
    of virtual time, and an exit as long as its instruction. In free mode nobody has counted: there the
    exits stand end to end, with the time that each took, and what lies between them is left out.
    """

    EXITS, RING, DEVICES = 1, 2, 3

    def __init__(self) -> None:
        self._first = True
        self._core = 0
        self._now = self._cost = 0.0
        self._ring: tuple[int, float] | None = None

    def heading(self) -> str:
        return '{"displayTimeUnit":"ms","traceEvents":[\n'

    def core(self, name: str, number: int) -> str:
        before = self._ring_ended()
        self._core, self._now, self._cost, self._ring = number, 0.0, 0.0, None
        tracks = {self.EXITS: "exits", self.RING: "virtual ring", self.DEVICES: "device accesses"}
        return (
            before
            + self._event(name="process_name", ph="M", args={"name": name})
            + "".join(
                self._event(name="thread_name", ph="M", tid=tid, args={"name": track})
                for tid, track in tracks.items()
            )
        )

    def line(self, exit: ExitLine) -> str:
        if exit.n is None:
            start, length = self._now, exit.ns / 1000
        else:
            start, length = float(exit.n), 1.0
        self._now = start + length
        self._cost += exit.ns / 1000
        facts = {name: value for name, value in trace_line(exit).items() if value not in (None, "")}
        name = exit.asm or exit.detail or exit.reason
        found = self._event(
            name=name, cat=exit.reason, ph="X", ts=start, dur=length, tid=self.EXITS, args=facts
        )
        found += self._event(
            name="host time in exits", ph="C", ts=start, args={"us": round(self._cost, 3)}
        )
        if exit.reason in DEVICES:
            found += self._event(
                name=exit.detail or exit.asm, cat=exit.reason, ph="X", ts=start, dur=length,
                tid=self.DEVICES, args={"asm": exit.asm},
            )  # fmt: skip
        if self._ring is None or self._ring[0] != exit.ring:
            found += self._ring_ended(start)
            self._ring = exit.ring, start
        return found

    def ending(self) -> str:
        return f"{self._ring_ended()}\n]}}\n"

    def _ring_ended(self, at: float | None = None) -> str:
        if self._ring is None:
            return ""
        ring, start = self._ring
        length = max(0.0, (self._now if at is None else at) - start)
        return self._event(name=f"ring {ring}", cat="ring", ph="X", ts=start, dur=length, tid=self.RING)

    def _event(self, **fields: object) -> str:
        event = {"pid": self._core, "tid": 0, **fields}
        separator, self._first = "" if self._first else ",\n", False
        return separator + json.dumps(event, separators=(",", ":"))


class Places:
    """Names of addresses: the last symbol before them."""

    def __init__(self, symbols: Mapping[str, int]) -> None:
        known = sorted((address, name) for name, address in symbols.items())
        self._starts = [address for address, _ in known]
        self._names = [name for _, name in known]

    def function(self, address: int) -> str | None:
        """The symbol that ``address`` belongs to, None before the first one."""
        at = bisect_right(self._starts, address) - 1
        return None if at < 0 else self._names[at]

    def name(self, address: int) -> str:
        """ "print", "print+0x12"; the address itself before the first symbol."""
        at = bisect_right(self._starts, address) - 1
        if at < 0:
            return hex(address)
        offset = address - self._starts[at]
        return f"{self._names[at]}+{offset:#x}" if offset else self._names[at]


def _row(values: Iterable[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()
