"""A region of the session screen: rows that were composed elsewhere, and the clicks on them."""

from __future__ import annotations

from collections.abc import Callable

from textual import events
from textual.message import Message

from app.tui.rows.rows import Row

from .line_view import LineView


class Region(LineView):
    """As high as its rows; not there without any. tips: gives the tooltip of a cell, by region."""

    DEFAULT_CSS = "Region { width: 1fr; height: 1; }"

    class Clicked(Message):
        """A cell was clicked."""

        def __init__(self, region: str, x: int, y: int) -> None:
            super().__init__()
            self.region, self.x, self.y = region, x, y

    class Turned(Message):
        """The wheel was turned over it; by: rows, down is positive."""

        def __init__(self, region: str, by: int) -> None:
            super().__init__()
            self.region, self.by = region, by

    def __init__(self, name: str, tips: Callable[[str, int, int], str]) -> None:
        super().__init__(id=f"region-{name}")
        self.region_name, self._tips = name, tips
        self._given: list[Row] = []

    def show(self, rows: list[Row]) -> None:
        self._given = rows
        height = len(rows)
        if self.display != bool(height):
            self.display = bool(height)
        if height and (self.styles.height is None or self.styles.height.value != height):
            self.styles.height = height
        self.redraw()

    def compose_rows(self, width: int, height: int) -> list[Row]:
        return list(self._given)

    def tip(self, x: int, y: int) -> str:
        return self._tips(self.region_name, x, y)

    def on_click(self, event: events.Click) -> None:
        self.post_message(self.Clicked(self.region_name, event.x, event.y))

    def on_mouse_scroll_down(self) -> None:
        self.post_message(self.Turned(self.region_name, 3))

    def on_mouse_scroll_up(self) -> None:
        self.post_message(self.Turned(self.region_name, -3))
