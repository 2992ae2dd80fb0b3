"""World switches as rows of text: three views of the same events."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from app import narration
from app.narration import CPU, GUEST, HOST
from cores.report import MachineSnapshot
from cores.trace import ExitEvent

from .glyphs import Glyphs
from .rows import EMPTY, Row, fit, printable, raised, row, row_width, spread, width_of

VIEWS = ("log", "dialogue", "chart")

SPEAKERS = {GUEST: "interpreter", CPU: "trap", HOST: "kvm"}
"""Speaker -> role: three voices, three hues, and always the name beside."""

NO_EXITS = "Nothing has left the guest yet. Step with n, go to the first exit with e."
INTERPRETER_ALONE = (
    "An interpreter has no world to switch: every instruction is the emulator's own work."
)


@dataclass(frozen=True, slots=True)
class Events:
    """The machine whose events are shown. selected: index in ``machine.events``; None: the newest."""

    machine: MachineSnapshot
    selected: int | None = None

    @property
    def total(self) -> int:
        """Every event so far, those not counted as exits included."""
        return sum(self.machine.exits_by_reason.values())

    def number(self, index: int) -> int:
        """Which event of the machine that is, from 1."""
        return self.total - len(self.machine.events) + index + 1

    @property
    def current(self) -> int | None:
        """The index that is shown or marked: the chosen one, else the newest."""
        count = len(self.machine.events)
        if not count:
            return None
        return count - 1 if self.selected is None else max(0, min(self.selected, count - 1))


def switch_rows(view: str, shown: Events | None, width: int, height: int, glyphs: Glyphs) -> list[Row]:
    """The body of the panel in one of the views."""
    if shown is None:
        return []
    if shown.current is None:
        words = INTERPRETER_ALONE if shown.machine.core == "interpreter" else NO_EXITS
        return [row((line, "dim")) for line in textwrap.wrap(words, width)]
    if view == "log":
        return log_rows(shown, width, height, glyphs)
    if view == "dialogue":
        return dialogue_rows(shown, width, height, glyphs)
    return chart_rows(shown.machine, width, height, glyphs)


def log_rows(shown: Events, width: int, height: int, glyphs: Glyphs) -> list[Row]:
    """A tail of fixed length; the chosen event stays in sight."""
    events, at = shown.machine.events, shown.current
    assert at is not None
    first = max(
        0, min(len(events) - height, at - height // 2 if shown.selected is not None else len(events))
    )
    rows = []
    for i in range(first, min(len(events), first + height)):
        line = log_row(events[i], width, glyphs)
        rows.append(raised(line) if i == at and shown.selected is not None else line)
    return rows


def log_row(event: ExitEvent, width: int, glyphs: Glyphs) -> Row:
    """When, where, why, which instruction, what was done, what it cost."""
    wide = width >= 100
    cost = f"{narration.microseconds(event.ns):>9}"
    asm = fit(printable(narration.subject(event)), 30 if wide else 20, glyphs.more)
    left = row(
        (f"{event.n:>9,} " if wide else f"{event.n:>6,} ", "dim"),
        (f"{event.rip:>8x}  " if wide else f"{event.rip:>7x}  ", "text"),
        (fit(event.reason.value, 11), "exit"),
        (asm + "  ", "text"),
    )
    room = width - row_width(left) - len(cost)
    what = printable(event.detail)
    if wide and room > 70:
        return row(
            *left, (fit(what, 38, glyphs.more) + "  ", "text"),
            (fit(printable(event.handled), room - 40, glyphs.more), "dim"), cost,
        )  # fmt: skip
    return row(*left, (fit(what, room, glyphs.more), "dim"), cost)


def dialogue_rows(shown: Events, width: int, height: int, glyphs: Glyphs) -> list[Row]:
    """The three talk about one event."""
    at = shown.current
    assert at is not None
    event = shown.machine.events[at]
    rows: list[Row] = []
    lines = narration.dialogue(event, shown.machine.core)
    tight = height <= len(lines)  # each in one row, whatever it costs
    for line in lines:
        aside = line.aside if width >= 110 and len(line.aside) * 5 < width * 3 else ""
        if width_of(line.text) + len(aside) + 13 > width:  # what is said goes before
            aside = ""
        room = width - 11 - (len(aside) + 2 if aside else 0)
        words = printable(line.text)
        wrapped = (
            [fit(words, room, glyphs.more)] if tight else textwrap.wrap(words, max(20, room)) or [""]
        )
        for i, part in enumerate(wrapped):
            head = row((fit(line.speaker if i == 0 else "", 11), SPEAKERS[line.speaker]), part)
            rows.append(spread(head, row((aside, "dim")), width) if aside and i == 0 else head)
    if len(rows) < height - 1:
        asm = narration.subject(event)
        what = f"exit {shown.number(at):,} of {shown.total:,}, after {event.n:,} instructions: {asm}"
        rows = [row((fit(what, width), "dim")), *rows]
    elif width < 110 and len(rows) < height:
        rows.append(row((" " * 11 + narration.microseconds(event.ns), "dim")))
    return rows[:height]


def chart_rows(m: MachineSnapshot, width: int, height: int, glyphs: Glyphs) -> list[Row]:
    """By reason: count, mean cost, share of the time that all exits took."""
    counts = sorted(m.exits_by_reason.items(), key=lambda item: (-item[1], item[0]))
    spent = m.ns_by_reason or _sampled(m)
    total = sum(spent.values()) or 1
    most = counts[0][1] if counts else 1
    columns = 2 if len(counts) > height - 1 and width >= 120 else 1
    room = (width - 3 * (columns - 1)) // columns
    bar_room = max(4, room - 46)
    head = row((fit("reason", 12) + f"{'count':>10}{'mean':>11}{'of time':>9}", "dim"))
    lines: list[Row] = []
    for reason, count in counts:
        ns = spent.get(reason, 0)
        bar = glyphs.block * max(1, round(bar_room * count / most))
        mean = narration.microseconds(ns // count) if ns and count else ""
        share = f"{100 * ns / total:.0f} %" if ns else ""
        lines.append(
            row(
                (fit(reason, 12), "exit"),
                f"{count:>10,}{mean:>11}{share:>9}   ",
                (fit(bar, bar_room), "bar"),
            )
        )
    per_column = height - 1
    rows = [tuple(p for c in range(columns) for p in (*_padded(head, room), ("   ", "text")))]
    for y in range(min(per_column, len(lines))):
        parts: Row = EMPTY
        for c in range(columns):
            at = c * per_column + y
            parts += (*_padded(lines[at] if at < len(lines) else EMPTY, room), ("   ", "text"))
        rows.append(parts)
    return rows


def _padded(line: Row, width: int) -> Row:
    return spread(line, EMPTY, width)


def _sampled(m: MachineSnapshot) -> dict[str, int]:
    """Time by reason from the newest events alone, scaled to the counts."""
    ns: dict[str, int] = {}
    seen: dict[str, int] = {}
    for event in m.events:
        key = event.reason.value
        ns[key] = ns.get(key, 0) + event.ns
        seen[key] = seen.get(key, 0) + 1
    return {key: ns[key] * m.exits_by_reason.get(key, seen[key]) // seen[key] for key in ns}
