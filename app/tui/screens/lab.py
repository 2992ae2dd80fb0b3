"""The hypervisor lab: a student's VMM beside ours, exit by exit."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen

from app.lab import Result
from app.tui.rows.lab import Shown, lab_rows
from app.tui.rows.rows import Row
from cores.errors import RingscopeError
from cores.lab.pairs import pairs

from ..widgets.keys import Hint, Keys
from ..widgets.line_view import LineView

HINTS: list[Hint] = [
    ("up down", "exits", "move(1)"),
    ("d", "difference", "difference"),
    ("left right", "guests", "guest(1)"),
    ("Esc", "close", "close"),
    ("r", "run again", "again"),
]

Check = Callable[[], list[Result]]


class Exits(LineView):
    """Both lists, and what was done at the marked exit."""

    DEFAULT_CSS = "Exits { width: 1fr; height: 1fr; }"

    def __init__(self) -> None:
        super().__init__(id="exits")
        self.shown: Shown | None = None

    def show(self, shown: Shown) -> None:
        self.shown = shown
        self.redraw()

    def compose_rows(self, width: int, height: int) -> list[Row]:
        return [] if self.shown is None else lab_rows(self.shown, width, height, self.glyphs)


class LabScreen(Screen[None]):
    """Shows the results of a step, one guest at a time."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "The exit before"),
        Binding("down,j", "move(1)", "The next exit"),
        Binding("pageup", "move(-10)", "Ten exits back"),
        Binding("pagedown,space", "move(10)", "Ten exits on"),
        Binding("home", "move(-1000000)", "The first exit"),
        Binding("end", "move(1000000)", "The last exit"),
        Binding("d", "difference", "The first difference"),
        Binding("left", "guest(-1)", "The guest before"),
        Binding("right,tab", "guest(1)", "The next guest"),
        Binding("r", "again", "Run the guests again, with the file as it is now"),
        Binding("escape", "close", "Close"),
    ]

    def __init__(self, title: str, results: list[Result], check: Check) -> None:
        """title: of the step. check: gives results anew; it may raise RingscopeError."""
        super().__init__()
        self._title, self._results, self._check = title, results, check
        self._guest = next((i for i, r in enumerate(results) if not r.verdict.passed), 0)
        self._cursor = 0
        self._busy = False
        self._exits = Exits()

    def compose(self) -> ComposeResult:
        yield self._exits
        yield Keys(HINTS)

    def on_mount(self) -> None:
        self._exits.focus()
        self._turn_to(self._guest)

    @property
    def marked(self) -> int:
        """The place of the marked exit."""
        return self._cursor

    @property
    def result(self) -> Result:
        """The guest in sight."""
        return self._results[self._guest]

    def _turn_to(self, guest: int) -> None:
        self._guest = guest % len(self._results)
        result = self.result
        self._pairs = pairs(result.student, result.ours, result.verdict.parting)
        self._cursor = 0
        self.action_difference()

    def _draw(self) -> None:
        place, count = self._guest + 1, len(self._results)
        self._exits.show(
            Shown(self._title, self.result, place, count, self._pairs, self._cursor, self._busy)
        )

    def action_move(self, by: int) -> None:
        self._cursor = max(0, min(self._cursor + by, len(self._pairs) - 1))
        self._draw()

    def action_difference(self) -> None:
        self._cursor = next((i for i, pair in enumerate(self._pairs) if pair.parts), self._cursor)
        self._draw()

    def action_guest(self, by: int) -> None:
        self._turn_to(self._guest + by)

    def action_again(self) -> None:
        if not self._busy:
            self._busy = True
            self._draw()
            self._run_again()

    @work(thread=True, exit_on_error=False)
    def _run_again(self) -> None:
        try:
            results = self._check()
        except RingscopeError as error:
            self.app.call_from_thread(self._failed, str(error))
        else:
            self.app.call_from_thread(self._arrived, results)

    def _failed(self, words: str) -> None:
        self._busy = False
        self.app.notify(words, severity="error", timeout=8, markup=False)
        self._draw()

    def _arrived(self, results: list[Result]) -> None:
        self._busy, self._results = False, results
        self._turn_to(self._guest)

    def action_close(self) -> None:
        self.dismiss(None)
