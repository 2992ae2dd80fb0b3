"""World switches as rows of text: three views of the same events."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from app.text import narration
from app.text.narration import CPU, GUEST, HOST
from app.tui.rows.glyphs import Glyphs
from app.tui.rows.machine_parts import short_count
from app.tui.rows.rows import EMPTY, Row, fit, printable, raised, row, row_width, spread, width_of
from cores.machine.report import MachineSnapshot
from cores.vmm.trace import ExitEvent

VIEWS = ("log", "dialogue", "chart")

SPEAKERS = {GUEST: "interpreter", CPU: "trap", HOST: "kvm"}
"""Speaker -> role: three voices, three hues, and always the name beside."""

NO_EXITS = "Nothing has left the guest yet. Step with n, go to the first exit with e."
INTERPRETER_ALONE = (
    "An interpreter has no world to switch: every instruction is the emulator's own work."
)


@dataclass(frozen=True, slots=True)
class Events:
    """The machine whose events are shown. selected: number of the chosen one (0: the machine's
    first); None: the newest. fetched: a stretch of the log from number ``begin`` on, where the
    newest, which the snapshot has, are not enough."""

    machine: MachineSnapshot
    selected: int | None = None
    fetched: tuple[ExitEvent, ...] = ()
    begin: int = 0

    @property
    def total(self) -> int:
        """Every event so far, those not counted as exits included."""
        return sum(self.machine.exits_by_reason.values())

    @property
    def current(self) -> int | None:
        """The number of the one that is shown or marked: the chosen one, else the newest."""
        if not self.total or not self.machine.events:
            return None
        return self.total - 1 if self.selected is None else max(0, min(self.selected, self.total - 1))

    @property
    def window(self) -> tuple[int, tuple[ExitEvent, ...]]:
        """Events at hand, and the number of the first of them."""
        newest = self.total - len(self.machine.events)
        if self.fetched and (self.current or 0) < newest + MARGIN:
            return self.begin, self.fetched
        return newest, self.machine.events

    @property
    def here(self) -> bool:
        """Is the chosen event among the newest, with some before it?"""
        newest = self.total - len(self.machine.events)
        return newest <= 0 or self.current is None or self.current >= newest + MARGIN

    @property
    def event(self) -> ExitEvent | None:
        """The current one; None while it is being fetched."""
        first, events = self.window
        at = -1 if self.current is None else self.current - first
        return events[at] if 0 <= at < len(events) else None


MARGIN = 40
"""Events before the chosen one that may be shown with it."""


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
    at = shown.current
    assert at is not None
    rows = []
    for number, event in visible(shown, height):
        line = log_row(event, width, glyphs)
        rows.append(raised(line) if number == at and shown.selected is not None else line)
    return rows


def visible(shown: Events, height: int) -> list[tuple[int, ExitEvent]]:
    """The events that the log has in its rows, with their numbers."""
    first, events = shown.window
    at = (shown.current or 0) - first
    wanted = at - height // 2 if shown.selected is not None else len(events)
    top = max(0, min(len(events) - height, wanted))
    return [(first + i, events[i]) for i in range(top, min(len(events), top + height))]


def log_row(event: ExitEvent, width: int, glyphs: Glyphs) -> Row:
    """One exit: count, address, reason, instruction, what was done, cost."""
    wide = width >= 100
    cost = f"{narration.microseconds(event.ns):>9}"
    count = f"{event.n:,}" if event.n is not None else "uncounted" if wide else "-"
    asm = fit(printable(narration.subject(event)), 30 if wide else 20, glyphs.more)
    left = row(
        (f"{count:>9} " if wide else f"{count:>6} ", "dim"),
        (f"{_short(event.rip, 8 if wide else 7, glyphs)}  ", "text"),
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


def _short(address: int, cells: int, glyphs: Glyphs) -> str:
    """An address in so many cells; of a longer one the end."""
    text = f"{address:x}"
    return f"{text:>{cells}}" if len(text) <= cells else glyphs.more + text[1 - cells :]


def dialogue_rows(shown: Events, width: int, height: int, glyphs: Glyphs) -> list[Row]:
    """The three talk about one event."""
    event, number = shown.event, shown.current
    if event is None or number is None:
        return [row(("...", "dim"))]
    rows: list[Row] = []
    lines = narration.dialogue(event, shown.machine)
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
        what = f"exit {number + 1:,} of {shown.total:,}, {narration.progress(event.n)}: {asm}"
        rows = [row((fit(what, width), "dim")), *rows]
    elif width < 110 and len(rows) < height:
        rows.append(row((" " * 11 + narration.microseconds(event.ns), "dim")))
    return rows[:height]


def chart_rows(m: MachineSnapshot, width: int, height: int, glyphs: Glyphs) -> list[Row]:
    """Exits by reason: count, mean time with the VMM's part of it, share of the time of all."""
    counts = sorted(m.exits_by_reason.items(), key=lambda item: (-item[1], item[0]))
    total = sum(m.ns_by_reason.values()) or 1
    if len(counts) > height - 1 and width < 120:
        return _share_rows(counts, m.ns_by_reason, total, width, height)
    most = counts[0][1] if counts else 1
    columns = 2 if len(counts) > height - 1 and width >= 120 else 1
    room = (width - 3 * (columns - 1)) // columns
    bar_room = max(4, room - 55)
    head = row((fit("reason", 12) + f"{'count':>8}{'mean':>11}{'of it VMM':>12}{'of time':>9}", "dim"))
    lines: list[Row] = []
    for reason, count in counts:
        ns, own = m.ns_by_reason.get(reason, 0), m.vmm_ns_by_reason.get(reason, 0)
        bar = glyphs.block * max(1, round(bar_room * count / most))
        mean = narration.microseconds(ns // count) if ns and count else ""
        part = narration.microseconds(own // count) if own and count else ""
        share = f"{100 * ns / total:.0f} %" if ns else ""
        lines.append(
            row(
                (fit(reason, 12), "exit"),
                f"{count:>8,}{mean:>11}{part:>12}{share:>9}   ",
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


SHARE = 25
"""Cells of a reason with its count and its share."""


def _share_rows(
    counts: list[tuple[str, int]], spent: dict[str, int], total: int, width: int, height: int
) -> list[Row]:
    """The chart where not all reasons fit under each other: without bars and means, row by row."""
    columns = max(1, width // SHARE)
    shown = counts if len(counts) <= columns * (height - 1) else counts[: columns * (height - 1) - 1]
    cells: list[Row] = []
    for reason, count in shown:
        share = f"{100 * spent.get(reason, 0) / total:.0f} %"
        cells.append(row((fit(reason, 11), "exit"), (f"{short_count(count):>6}{share:>6}  ", "text")))
    if left := len(counts) - len(shown):
        cells.append(row((f"and {left} more", "dim")))
    head = row((f"{'reason':<11}{'count':>6}{'time':>6}  ", "dim")) * min(columns, len(cells))
    starts = range(0, len(cells), columns)
    return [head, *(tuple(p for cell in cells[at : at + columns] for p in cell) for at in starts)]


def _padded(line: Row, width: int) -> Row:
    return spread(line, EMPTY, width)
