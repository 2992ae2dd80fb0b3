"""The lesson's panel: a page of its text, its question, and how to go on."""

from __future__ import annotations

import textwrap

from app.text import lesson as lesson_text
from app.tui.rows.rows import EMPTY, Row, boxed, fit, printable, row
from lessons.play.events import Asked, Begun, Event, Loaded, Moved, Said, Shown, Verdict

from .line_view import LineView

WIDEST = 110
"""Cells of a line of text: longer ones are hard to read."""
IN_PLACE = frozenset({"registers", "code", "console", "rings"})
"""Views that the machines' panes are already."""


def event_rows(event: Event, width: int) -> list[Row]:
    """One event of the player. What the screen shows anyway is not said again."""
    if isinstance(event, Begun | Moved | Loaded):
        return []
    if isinstance(event, Shown) and event.view in IN_PLACE:
        return []
    text = lesson_text.event(event)
    if isinstance(event, Said) and not event.markdown.startswith(("```", "- ", "1. ", "|")):
        text = " ".join(lesson_text.plain(event.markdown).split())
    role = "strong" if isinstance(event, Asked) else "good" if isinstance(event, Verdict) else "text"
    rows: list[Row] = []
    for line in text.split("\n"):
        indent = line[: len(line) - len(line.lstrip())]
        wrapped = textwrap.wrap(line, width, subsequent_indent=indent) or [""]
        rows += [row((printable(part), role)) for part in wrapped]
    return [*rows, EMPTY] if text else []


class LessonPanel(LineView):
    """title: of the lesson. step: number and name of the present one. page: which part of the text
    is in sight, when it is longer than the panel."""

    DEFAULT_CSS = "LessonPanel { width: 1fr; height: 11; }"

    def __init__(self) -> None:
        super().__init__(id="lesson")
        self.title, self.step, self.hint = "", "", ""
        self.events: tuple[Event, ...] = ()
        self.page = 0
        self.by_itself = False

    def show(
        self, title: str, step: str, events: tuple[Event, ...], hint: str, *, by_itself: bool = False
    ) -> None:
        """hint: what the user can do now. by_itself: the pages are turned for the reader."""
        self.by_itself = by_itself
        if events[:1] != self.events[:1]:
            self.page = 0
        self.title, self.step, self.events, self.hint = title, step, events, hint
        self.redraw()

    def _text(self) -> list[Row]:
        width = max(10, min(self.size.width - 4, WIDEST))
        rows = [line for event in self.events for line in event_rows(event, width)]
        views = [event for event in self.events if isinstance(event, Shown)]
        if views and not rows:  # a pause over the machines themselves
            rows = [
                row((f"Look above: {view.view}, {view.core or 'all machines'}.", "dim"))
                for view in views
            ]
        while rows and rows[-1] == EMPTY:
            rows.pop()
        return rows

    @property
    def in_sight(self) -> str:
        """The words of the present page."""
        rows = self._text()[self.page * self._room :][: self._room]
        return "\n".join("".join(text for text, _ in line) for line in rows)

    @property
    def _room(self) -> int:
        return max(1, self.size.height - 2)

    def turn(self, by: int = 1) -> bool:
        """The next page; False when there is none."""
        page = self.page + by
        if page < 0 or page * self._room >= len(self._text()):
            return False
        self.page = page
        self.redraw()
        return True

    def tip(self, x: int, y: int) -> str:
        return "G explains the words of this text. j jumps to another step of the lesson."

    def compose_rows(self, width: int, height: int) -> list[Row]:
        text = self._text()
        first = self.page * self._room
        title = row((f" {self.title} ", "strong"), (f" {self.step} " if self.step else "", "dim"))
        rows = boxed(title, text[first : first + self._room], width, height, self.glyphs, "faint")
        more = first + self._room < len(text) and not self.by_itself
        hint = f" {'Enter: read on' if more else self.hint} "
        _, _, left, right = self.glyphs.corners
        edge = (left + self.glyphs.across * max(0, width - len(hint) - 3), "faint")
        shown = (fit(hint, min(len(hint), width - 3)), "key")
        rows[-1] = row(edge, shown, (self.glyphs.across + right, "faint"))
        return rows
