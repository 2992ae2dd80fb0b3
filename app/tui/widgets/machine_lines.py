"""The machines that have no pane now, one row each; and the cores that cannot run here, with why."""

from __future__ import annotations

from textual import events

from app.tui.rows.machine import line_row
from app.tui.rows.machine_parts import KINDS, View, kind
from app.tui.rows.rows import EMPTY, Row, fit, row
from cores.machine.report import MachineSnapshot

from .line_view import LineView
from .machine_pane import MachinePane


class MachineLines(LineView):
    """Click a row to give that machine a pane."""

    DEFAULT_CSS = "MachineLines { width: 1fr; height: 0; }"

    def __init__(self) -> None:
        super().__init__(id="lines")
        self.machines: list[tuple[MachineSnapshot, View]] = []
        self.unavailable: tuple[tuple[str, str], ...] = ()

    def show(
        self, machines: list[tuple[MachineSnapshot, View]], unavailable: tuple[tuple[str, str], ...]
    ) -> None:
        self.machines, self.unavailable = machines, unavailable
        height = len(machines) + len(unavailable)
        if self.styles.height is None or self.styles.height.value != height:
            self.styles.height = height
        self.redraw()

    def compose_rows(self, width: int, height: int) -> list[Row]:
        rows = [line_row(m, view, width, self.glyphs) for m, view in self.machines]
        for core, why in self.unavailable:
            head = row((" - ", "dim"), (KINDS[kind(core)], "dim"), (f"  {core}  ", "dim"))
            used = sum(len(text) for text, _ in head)
            rows.append(
                (*head, (fit(f"cannot run here: {why}", width - used, self.glyphs.more), "dim"))
            )
        return rows or [EMPTY]

    def tip(self, x: int, y: int) -> str:
        if y < len(self.machines):
            return "A click gives this machine a pane."
        at = y - len(self.machines)
        return self.unavailable[at][1] if at < len(self.unavailable) else ""

    def on_click(self, event: events.Click) -> None:
        if event.y < len(self.machines):
            self.post_message(MachinePane.Chosen(self.machines[event.y][1].number))
