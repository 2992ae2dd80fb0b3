"""A page of a lesson as rows: its text, its question with the choices."""

from __future__ import annotations

import textwrap

from app.text import lesson as lesson_text
from app.tui.lanes.layout import rule
from app.tui.lanes.scene import Scene
from app.tui.rows.rows import EMPTY, Row, fit, printable, row, row_width, width_of
from lessons.play.events import Asked, Begun, Event, Loaded, Moved, Said, Shown, Verdict

WIDEST = 96
"""Cells of a line of text: longer ones are hard to read."""
IN_PLACE = frozenset({"registers", "code", "console", "rings"})
"""Views that the session screen is already."""
LETTERS = "abcdef"


def event_rows(event: Event, width: int, picked: int | None = None) -> list[Row]:
    """One event of the player. What the screen shows anyway is not said again. picked: the choice of a
    question that is marked, None where it waits no longer."""
    if isinstance(event, Begun | Moved | Loaded):
        return []
    if isinstance(event, Shown) and event.view in IN_PLACE:
        return []
    if isinstance(event, Asked):
        return _question(event, width, picked)
    text = lesson_text.event(event)
    if isinstance(event, Said) and not event.markdown.startswith(("```", "- ", "1. ", "|")):
        text = " ".join(lesson_text.plain(event.markdown).split())
    role = "strong" if isinstance(event, Verdict) else "text"
    rows: list[Row] = []
    for line in text.split("\n"):
        indent = line[: len(line) - len(line.lstrip())]
        wrapped = textwrap.wrap(line, width, subsequent_indent=indent) or [""]
        rows += [row(" ", (printable(part), role)) for part in wrapped]
    return [*rows, EMPTY] if text else []


def _question(asked: Asked, width: int, picked: int | None) -> list[Row]:
    words = " ".join(lesson_text.plain(asked.question).split())
    rows: list[Row] = [row(" ", (printable(part), "strong")) for part in textwrap.wrap(words, width)]
    for i, choice in enumerate(asked.choices):
        mark = ("▸ " if i == picked else "  ", "host-bold")
        lines = textwrap.wrap(printable(lesson_text.plain(choice)), width - 6) or [""]
        role = "strong" if i == picked else "text"
        rows.append(row(" ", mark, (LETTERS[i], "key"), ("  " + lines[0], role)))
        rows += [row("      ", (line, role)) for line in lines[1:]]
    return [*rows, EMPTY]


def text_rows(events: tuple[Event, ...], width: int, picked: int | None) -> list[Row]:
    """All of a turn."""
    width = max(10, min(width - 2, WIDEST))
    rows = [line for event in events for line in event_rows(event, width, picked)]
    views = [event for event in events if isinstance(event, Shown)]
    if views and not rows:  # a pause over the machines themselves
        rows = [
            row((f" Look above: {view.view}, {view.core or 'all machines'}.", "dim")) for view in views
        ]
    while rows and rows[-1] == EMPTY:
        rows.pop()
    return rows


def pages(rows: list[Row], height: int) -> list[list[Row]]:
    """The turn in pages of at most ``height`` rows. The last has a question and its choices whole,
    where they fit."""
    out: list[list[Row]] = []
    while len(rows) > height:
        at = next((y for y in range(height, height // 2, -1) if rows[y - 1] == EMPTY), height)
        out.append(rows[:at])
        rows = rows[at:]
        while rows and rows[0] == EMPTY:
            rows = rows[1:]
    return [*out, rows]


def lesson_rule(scene: Scene, title: str, step: str, keys: str) -> Row:
    """The title, the step, and what the reader can do now: words in which each key stands first,
    parted by three blanks."""
    right: Row = EMPTY
    for i, part in enumerate(keys.split("   ") if keys else []):
        key, _, words = part.partition(" ")
        right += row(("   " if i else "", "dim"), (key, "key"), (f" {words}" if words else "", "dim"))
    room = scene.width - row_width(right) - width_of(step) - 12
    shown = title if width_of(title) <= room else fit(title, max(8, room), "…")
    return rule(scene, row((shown, "strong"), (f"  {step}" if step else "", "dim")), right)
