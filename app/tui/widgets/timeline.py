"""The timeline: the machines' progress in instructions, exits marked. A click goes there."""

from __future__ import annotations

from textual import events
from textual.message import Message

from app.tui.rows.glyphs import Glyphs
from app.tui.rows.rows import Row, row

from .line_view import LineView


def scale_for(furthest: int) -> int:
    """The end of the axis: 1, 2 or 5 times a power of ten, so that it seldom moves."""
    scale = 100
    while True:
        for factor in (1, 2, 5):
            if furthest <= scale * factor:
                return scale * factor
        scale *= 10


def axis(now: int, scale: int, marks: tuple[int, ...], width: int, glyphs: Glyphs) -> Row:
    """``width`` cells from 0 to ``scale``: the way come so far, exits, the present."""
    cells: list[tuple[str, str]] = []
    here = min(width - 1, now * width // scale)
    hits = {min(width - 1, n * width // scale) for n in marks}
    for x in range(width):
        if x == here:
            cells.append((glyphs.now, "strong"))
        elif x in hits:
            cells.append((glyphs.mark, "exit"))
        else:
            cells.append((glyphs.across, "dim" if x < here else "faint"))
    merged: list[tuple[str, str]] = []
    for text, role in cells:
        if merged and merged[-1][1] == role:
            merged[-1] = (merged[-1][0] + text, role)
        else:
            merged.append((text, role))
    return tuple(merged)


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
        self.marks: tuple[int, ...] = ()
        self.progress: tuple[int, int] | None = None

    def show(
        self, now: int | None, marks: tuple[int, ...], progress: tuple[int, int] | None = None
    ) -> None:
        """now: instructions completed, None when they are not counted. marks: exits, by the same count.
        progress: how far on the way to an instruction, and to which."""
        self.now, self.marks, self.progress = now, marks, progress
        self.furthest = max(self.furthest, now or 0, progress[1] if progress else 0)
        self.redraw()

    def forget(self) -> None:
        """A new program, or a restart: nothing lies ahead."""
        self.furthest, self.marks = 0, ()

    def _ends(self, width: int) -> tuple[str, str, int]:
        left = f" {self.now or 0:>9,} "
        right = f" {scale_for(self.furthest):,}" + (" instructions " if width >= 110 else " ")
        return left, right, max(1, width - len(left) - len(right))

    def compose_rows(self, width: int, height: int) -> list[Row]:
        if self.now is None:
            return [row((" free: each machine by its own clock, and the past is not kept", "dim"))]
        if self.progress is not None:
            return [self._progress_row(width, *self.progress)]
        left, right, room = self._ends(width)
        line = axis(self.now, scale_for(self.furthest), self.marks, room, self.glyphs)
        return [row((left, "strong"), *line, (right, "dim"))]

    def _progress_row(self, width: int, done: int, goal: int) -> Row:
        share = done / max(1, goal)
        left = f" on the way to {goal:,}  "
        right = f" {100 * share:3.0f} %  space: stop here "
        room = max(1, width - len(left) - len(right))
        full = round(room * share)
        bar = (self.glyphs.block * full, "bar"), (self.glyphs.across * (room - full), "faint")
        return row((left, "strong"), *bar, (right, "dim"))

    def tip(self, x: int, y: int) -> str:
        if self.now is None:
            return ""
        left, _, room = self._ends(self.size.width)
        at = x - len(left)
        if at < 0:
            return "Instructions completed so far."
        if at >= room:
            return "The end of the line, for now: it grows as the machines go on."
        there = at * scale_for(self.furthest) // room
        return f"A click goes to instruction {there:,}.\n{self.glyphs.mark} the guest was left there."

    def on_click(self, event: events.Click) -> None:
        left, _, room = self._ends(self.size.width)
        x = event.x - len(left)
        if 0 <= x < room and self.now is not None:
            self.post_message(self.Asked(x * scale_for(self.furthest) // room))
