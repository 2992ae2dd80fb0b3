"""The bottom row: the keys that matter here, as many as fit. A click presses them."""

from __future__ import annotations

from collections.abc import Iterator

from textual import events
from textual.binding import Binding
from textual.dom import DOMNode

from app.tui.rows.rows import Row, row

from .line_view import LineView

OTHERS = {
    "app.command_palette": "Everything that can be done here, by name",
    "app.quit": "Quit",
    "look('select', 1)": "Move the cursor",
}
"""Descriptions of actions that belong to no single key."""

Hint = tuple[str, str, str]
"""Key as shown, what it does in a word, the action it runs."""


def bindings(of: type[DOMNode]) -> Iterator[Binding]:
    """The keys of a class and of those of ours that it is derived from, its own first."""
    for kind in of.__mro__:
        if kind.__module__.startswith("textual."):
            return
        yield from (b for b in vars(kind).get("BINDINGS", ()) if isinstance(b, Binding))


class Keys(LineView):
    """Draws those of ``hints`` that fit from the left, and ``last`` at the right end."""

    DEFAULT_CSS = "Keys { width: 1fr; height: 1; }"

    last: Hint = ("ctrl+p", "all", "app.command_palette")

    def __init__(self, hints: list[Hint]) -> None:
        super().__init__(id="keys")
        self.hints = hints
        self._spots: list[tuple[int, int, str]] = []

    def show(self, hints: list[Hint]) -> None:
        """Show these from now on."""
        if hints != self.hints:
            self.hints = hints
            self.redraw()

    def compose_rows(self, width: int, height: int) -> list[Row]:
        end = len(self.last[0]) + len(self.last[1]) + 3
        parts: list[tuple[str, str]] = [(" ", "text")]
        self._spots = []
        x = 1
        for key, word, action in self.hints:
            size = len(key) + 1 + len(word) + 3
            if x + size > width - end:
                continue
            parts += [(key, "key"), (f" {word}   ", "dim")]
            self._spots.append((x, x + size - 3, action))
            x += size
        parts.append((" " * (width - end - x + 1), "text"))
        self._spots.append((width - end + 1, width, self.last[2]))
        return [row(*parts, (self.last[0], "key"), (f" {self.last[1]} ", "dim"))]

    def tip(self, x: int, y: int) -> str:
        """The long name that the palette has for it."""
        action = next((action for start, stop, action in self._spots if start <= x < stop), "")
        known = {b.action: b.description for b in bindings(type(self.screen))}
        return known.get(action, "") or OTHERS.get(action, "")

    async def on_click(self, event: events.Click) -> None:
        for start, stop, action in self._spots:
            if start <= event.x < stop:
                await self.screen.run_action(action)
