"""Help: first for the pane or view that has the keys, then the keys that work everywhere.

left and right turn to the help of the other panes, so that it can be read as a small book as well.
"""

from __future__ import annotations

import textwrap
from typing import ClassVar

from textual.binding import BindingType

from app.tui.rows.glyphs import Glyphs
from app.tui.rows.rows import EMPTY, Row, fit, row

from ..help_topics import KEYS, TOPICS, Topic, marks
from .sheet import Page, Sheet

WIDTH = 72
"""Cells of the whole sheet, its frame included."""
KEY = 12
"""Cells for a key's name."""


def topic_rows(topic: Topic, glyphs: Glyphs, width: int, groups: tuple[str, ...] = ()) -> list[Row]:
    """The sheet's rows, in ``width`` cells. groups: of the general keys, those that work here."""
    rows: list[Row] = []
    for paragraph in topic.text:
        rows += [row(line) for line in textwrap.wrap(paragraph, width)]
        rows.append(EMPTY)
    own = (("Its keys", topic.keys),) if topic.keys else ()
    legend = (("What you see", marks(glyphs)),) if topic.marks else ()
    general = [(title, keys) for title, keys in KEYS if title in groups]
    for title, keys in (*legend, *own, *general):
        rows.append(row((title, "strong")))
        rows += [row(("  " + fit(key, KEY), "key"), words) for key, words in keys]
        rows.append(EMPTY)
    return rows[:-1]


class HelpSheet(Sheet):
    """The help of one topic; of the others by left and right."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("f1", "dismiss(None)", "Close"),
        ("right", "turn(1)", "The next pane's help"),
        ("left", "turn(-1)", "The help before"),
    ]

    how = "left, right: other panes"

    def __init__(self, topic: Topic, glyphs: Glyphs, groups: tuple[str, ...] = ()) -> None:
        self._topic, self._glyphs, self._groups = topic, glyphs, groups
        super().__init__(self._heading, self._body, WIDTH)

    @property
    def _heading(self) -> str:
        return f"Help: {self._topic.title}"

    @property
    def _body(self) -> list[Row]:
        return topic_rows(self._topic, self._glyphs, WIDTH - 4, self._groups)

    def action_turn(self, by: int) -> None:
        self._topic = TOPICS[(TOPICS.index(self._topic) + by) % len(TOPICS)]
        self.query_one(Page).replace(self._heading, self._body)
