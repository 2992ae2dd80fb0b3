"""The world switches of one machine: a log, a dialogue or a chart. w or a click on the tabs changes
the view; up and down choose an event, Enter opens its card."""

from __future__ import annotations

from textual import events
from textual.message import Message

from app.tui.rows.exits import VIEWS, Events, switch_rows, visible
from app.tui.rows.machine_parts import kind
from app.tui.rows.rows import Row, boxed, row, row_width

from .line_view import LineView

TABS = {
    "log": "Each exit in a line.",
    "dialogue": "One exit, as the guest, the CPU and the host talk about it.",
    "chart": "Exits by reason: how many, and what they cost.",
}
INSIDE = {
    "log": "Instructions before it (uncounted where the CPU ran on its own), address, reason,"
    " instruction, what happened, how long the guest stood still. up and down choose an exit, Enter"
    " opens its card.",
    "dialogue": "Up and down go to other exits, Enter opens the card of this one.",
    "chart": "How many exits for each reason, how long the guest stood still for one, the VMM's part of"
    " that, and their share of all such time.",
}


class Switches(LineView):
    """Draws ``shown`` in ``mode``."""

    DEFAULT_CSS = "Switches { width: 1fr; height: 9; }"

    class ModeChosen(Message):
        """A tab was clicked."""

        def __init__(self, mode: str) -> None:
            super().__init__()
            self.mode = mode

    class EventChosen(Message):
        """An event of the log was clicked."""

        def __init__(self, number: int) -> None:
            super().__init__()
            self.number = number

    def __init__(self) -> None:
        super().__init__(id="switches")
        self.mode = VIEWS[0]
        self.shown: Events | None = None

    def show(self, mode: str, shown: Events | None) -> None:
        self.mode, self.shown = mode, shown
        self.redraw()

    def _title(self) -> Row:
        parts: list[tuple[str, str]] = [(" World switches  ", "strong")]
        for name in VIEWS:
            parts.append((f"[{name}]", "strong") if name == self.mode else (f" {name} ", "dim"))
        if self.shown is not None:
            core = self.shown.machine.core
            parts += [("  of ", "dim"), (core, kind(core)), (" ", "text")]
        else:
            parts.append((" ", "text"))
        return tuple(parts)

    def compose_rows(self, width: int, height: int) -> list[Row]:
        body = switch_rows(self.mode, self.shown, width - 4, height - 2, self.glyphs)
        return boxed(self._title(), body, width, height, self.glyphs, "faint")

    def tip(self, x: int, y: int) -> str:
        if y == 0:
            at = 2 + row_width(row(" World switches  "))
            for name in VIEWS:
                if at <= x < at + len(name) + 2:
                    return TABS[name]
                at += len(name) + 2
            return (
                "Each time a machine's guest was left for the host. left and right: of which machine."
            )
        return INSIDE[self.mode]

    def on_click(self, event: events.Click) -> None:
        if event.y > 0:
            lines = visible(self.shown, self.size.height - 2) if self.shown is not None else []
            if self.mode == "log" and event.y - 1 < len(lines):
                self.post_message(self.EventChosen(lines[event.y - 1][0]))
            return
        x = 2 + row_width(row(" World switches  "))
        for name in VIEWS:
            if x <= event.x < x + len(name) + 2:
                self.post_message(self.ModeChosen(name))
            x += len(name) + 2
