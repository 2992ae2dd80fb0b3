"""The question before something is lost: a session that has run, a text that is not saved."""

from __future__ import annotations

import textwrap
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from app.tui.rows.rows import EMPTY, Row, boxed, row, row_width

from ..widgets.line_view import LineView
from .over import Over

WIDTH = 66
"""Cells of the widest box, its frame included."""

Way = tuple[str, str]
"""A key, and what it does, in a word or two."""


class Question(LineView):
    """The box: the question, and a row of the keys that answer it."""

    DEFAULT_CSS = "Question { width: auto; height: auto; }"

    def __init__(self, words: str, ways: tuple[Way, ...]) -> None:
        super().__init__(id="question")
        self._words, self._ways = words, ways

    def on_mount(self) -> None:
        room = min(WIDTH, self.app.size.width) - 4
        rows = self._body(room)
        self.styles.width = max(map(row_width, rows)) + 4
        self.styles.height = len(rows) + 2

    def _body(self, width: int) -> list[Row]:
        parts: list[tuple[str, str]] = []
        for key, does in self._ways:
            parts += [(key, "key"), (f" {does}   ", "dim")]
        return [*map(row, textwrap.wrap(self._words, width)), EMPTY, row(*parts)]

    def compose_rows(self, width: int, height: int) -> list[Row]:
        title = row((" Leave? ", "strong"))
        return boxed(title, self._body(width - 4), width, height, self.glyphs, "dim")


KEYS = ("h", "q", "o", "l", "ctrl+s")
"""Every key that a question may have, besides Enter and Esc. Bindings, since a key that was pressed
before the box was drawn reaches a screen in no other way."""


class Leave(Over[str]):
    """Gives the key that was chosen, "" for staying, which is what Enter and Esc mean."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("enter,escape", "dismiss('')", "Stay"),
        *((key, f"choose('{key}')", "") for key in KEYS),
    ]

    def __init__(self, words: str, *ways: Way) -> None:
        """ways: the keys besides Enter."""
        super().__init__()
        self._words, self._ways = words, ways

    def compose(self) -> ComposeResult:
        yield Question(self._words, (("Enter", "stay"), *self._ways))

    def action_choose(self, key: str) -> None:
        if any(key == way for way, _ in self._ways):
            self.dismiss(key)
