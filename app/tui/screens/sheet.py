"""A sheet of rows over the machines: help, an event's card, the guest's whole screen."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from concurrent.futures import Future
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType

from app.text.narration import Card
from app.tui.rows.rows import Row, boxed, fit, printable, row
from cores.inspection.views import Around

from ..widgets.line_view import LineView
from .over import Over

LABEL = 15


def sheet_width(columns: int, most: int) -> int:
    """Cells of a sheet that needs at most so many: all of them where only an edge of the screen below
    would be seen beside it, letters without their words."""
    return columns if columns < most + 8 else most


class Page(LineView):
    """Rows in a frame, scrolled by whole rows when there are more than fit."""

    def __init__(self, title: str, rows: list[Row], height: int, how: str = "") -> None:
        """how: what other keys do, said in the lower edge."""
        super().__init__(id="page")
        self.how = how
        self._title, self._all = title, rows
        self.styles.height = height
        self.first = 0

    def scroll_rows(self, by: int) -> None:
        self.first = max(0, min(self.first + by, len(self._all) - (self.size.height - 2)))
        self.redraw()

    def add(self, rows: list[Row]) -> None:
        """More rows at the end, in a higher frame while there is room."""
        self._all = [*self._all, *rows]
        self.styles.height = min(len(self._all) + 2, max(6, self.app.size.height - 2))
        self.redraw()

    def replace(self, title: str, rows: list[Row]) -> None:
        """Other rows, from their beginning, in the same frame."""
        self._title, self._all, self.first = title, rows, 0
        self.redraw()

    def compose_rows(self, width: int, height: int) -> list[Row]:
        title = row((f" {self._title} ", "strong"))
        shown = self._all[self.first : self.first + height - 2]
        rows = boxed(title, shown, width, height, self.glyphs, "dim")
        more = len(self._all) > height - 2
        how = f"{self.how}   Esc: close" if self.how else "Esc: close"
        words = f" up, down: scroll   {how} " if more else f" {how} "
        edge = self.glyphs.across * (width - len(words) - 3)
        _, _, left, right = self.glyphs.corners
        rows[-1] = row((left + edge, "dim"), (words, "dim"), (self.glyphs.across + right, "dim"))
        return rows


class Sheet(Over[None]):
    """Shows rows until any of the closing keys."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape,enter,q,question_mark", "dismiss(None)", "Close"),
        ("up,k", "scroll_rows(-1)", "Up"),
        ("down,j,space", "scroll_rows(1)", "Down"),
        ("home", "scroll_rows(-100000)", "The beginning"),
        ("end", "scroll_rows(100000)", "The end"),
        ("pageup", "scroll_rows(-10)", "Page up"),
        ("pagedown", "scroll_rows(10)", "Page down"),
    ]

    how = ""
    """The sheet's own keys, for its lower edge."""

    def __init__(self, title: str, rows: list[Row], width: int) -> None:
        super().__init__()
        self._title, self._rows, self._width = title, rows, width

    def compose(self) -> ComposeResult:
        height = min(len(self._rows) + 2, max(6, self.app.size.height - 2))
        page = Page(self._title, self._rows, height, self.how)
        page.styles.width = min(self._width, self.app.size.width)
        yield page

    def action_scroll_rows(self, by: int) -> None:
        self.query_one(Page).scroll_rows(by)

    def on_click(self, event: events.Click) -> None:
        if event.widget is self:
            self.dismiss(None)


class ExitSheet(Sheet):
    """An instruction in full. draw: saves the diagram of its world switches; None where it had none."""

    BINDINGS: ClassVar[list[BindingType]] = [("W", "draw", "Save the world switch as a diagram")]

    def __init__(
        self, title: str, rows: list[Row], width: int, draw: Callable[[], None] | None
    ) -> None:
        super().__init__(title, rows, width)
        self._draw = draw
        self.how = "" if draw is None else "W: save as a diagram"

    def action_draw(self) -> None:
        if self._draw is not None:
            self._draw()


class CardSheet(ExitSheet):
    """An exit's card, to which what it changed is added when it is known."""

    def add_changes(self, done: Future[Around | None]) -> None:
        """done: the answer of ``Worker.ask``."""
        if not self.is_attached or done.cancelled() or done.exception() is not None:
            return
        around = done.result()
        if around is None:
            return
        rows = fact_rows("before, after", ", ".join(changes(around)) or "no register", self._width)
        self.query_one(Page).add(rows)


def changes(around: Around) -> list[str]:
    """ "rip 100008 to 10000a" and so on."""
    return [f"{name} {before:x} to {after:x}" for name, before, after in around.changes]


def fact_rows(name: str, value: str, width: int) -> list[Row]:
    wrapped = textwrap.wrap(printable(value), width - 4 - LABEL) or [""]
    rows = [row((fit(name, LABEL), "dim"), (wrapped[0], "text"))]
    return rows + [row((" " * LABEL, "dim"), (line, "text")) for line in wrapped[1:]]


def card_sheet(card: Card, width: int, draw: Callable[[], None]) -> CardSheet:
    """An event's card as a sheet for a screen that wide. draw: as in ``ExitSheet``."""
    width = sheet_width(width, 92)
    rows: list[Row] = []
    for name, value in card.facts:
        rows += fact_rows(name, value, width)
    return CardSheet(card.title, rows, width, draw)
