"""The timeline: the machines' progress in instructions, exits marked. A click goes there."""

from __future__ import annotations

from textual import events
from textual.message import Message

from app.tui.lanes import timeline
from app.tui.rows.rows import Row

from .line_view import LineView


class Timeline(LineView):
    """One row. Remembers how far the machines have been, so that going back leaves the future
    in sight."""

    DEFAULT_CSS = "Timeline { width: 1fr; height: 1; }"

    class Asked(Message):
        """The user clicked on a point in time."""

        def __init__(self, instruction: int) -> None:
            super().__init__()
            self.instruction = instruction

    def __init__(self) -> None:
        super().__init__(id="timeline")
        self.now: int | None = 0
        self.furthest = 0
        self.marks: dict[int, int] = {}
        self.progress: tuple[int, int] | None = None

    def show(
        self, now: int | None, marks: dict[int, int], progress: tuple[int, int] | None = None
    ) -> None:
        """now: instructions completed, None when they are not counted. marks: see ``timeline.axis``.
        progress: how far on the way to an instruction, and to which."""
        self.now, self.marks, self.progress = now, marks, progress
        self.furthest = max(self.furthest, now or 0, progress[1] if progress else 0)
        self.redraw()

    def forget(self) -> None:
        """A new program, or a restart: nothing lies ahead."""
        self.furthest, self.marks = 0, {}

    def compose_rows(self, width: int, height: int) -> list[Row]:
        if self.progress is not None:
            return [timeline.progress_row(width, *self.progress)]
        return [timeline.timeline_row(self.now, self.furthest, self.marks, width)]

    def _place(self, x: int) -> int | None:
        """The instruction at a cell; None beside the axis."""
        if self.now is None:
            return None
        at = x - len(timeline.ends(self.now, self.furthest)[0])
        cells = timeline.room(self.now, self.furthest, self.size.width)
        return at * timeline.scale_for(self.furthest) // cells if 0 <= at < cells else None

    def tip(self, x: int, y: int) -> str:
        there = self._place(x)
        if there is None:
            return "" if self.now is None else "Instructions completed so far; how far the line goes."
        return f"A click goes to instruction {there:,}.\n┼ or a bar: the guest was left there."

    def on_click(self, event: events.Click) -> None:
        there = self._place(event.x)
        if there is not None:
            self.post_message(self.Asked(there))
