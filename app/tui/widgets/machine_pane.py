"""A machine in full: one pane.

Click an instruction to set or clear a breakpoint there; click elsewhere to choose the machine whose
exits are shown below.
"""

from __future__ import annotations

from dataclasses import replace

from textual import events
from textual.message import Message

from app.tui.rows.machine import pane_rows, parts, plan
from app.tui.rows.machine_parts import View, code_top
from app.tui.rows.rows import EMPTY, Row
from app.tui.rows.tooltips import code_at, pane_tip
from cores.machine.report import MachineSnapshot

from .line_view import LineView


class MachinePane(LineView):
    """Shows one ``MachineSnapshot``."""

    DEFAULT_CSS = "MachinePane { width: 1fr; height: 1fr; }"

    class Chosen(Message):
        """The user pointed at this machine."""

        def __init__(self, number: int) -> None:
            super().__init__()
            self.number = number

    class LineChosen(Message):
        """The user pointed at an instruction."""

        def __init__(self, address: int) -> None:
            super().__init__()
            self.address = address

    def __init__(self, number: int) -> None:
        super().__init__(id=f"machine-{number}")
        self.machine: MachineSnapshot | None = None
        self.view = View(number=number)

    def show(self, machine: MachineSnapshot, view: View) -> None:
        """Draw this; ``view.top`` is the pane's own affair."""
        rows = plan(self.size.width - 4, self.size.height - 2).code
        self.machine = machine
        self.view = replace(view, top=code_top(machine, rows, self.view.top, view.cursor))
        self.redraw()

    def compose_rows(self, width: int, height: int) -> list[Row]:
        if self.machine is None or width < 30 or height < 6:
            return [EMPTY] * height
        return pane_rows(self.machine, self.view, width, height, self.glyphs)

    def on_click(self, event: events.Click) -> None:
        event.stop()
        if self.machine is None or event.y >= len(self._rows):
            return
        code = code_at(self.machine, self._rows[event.y])
        if code is not None:
            self.post_message(self.LineChosen(code.address))
        else:
            self.post_message(self.Chosen(self.view.number))

    def tip(self, x: int, y: int) -> str:
        width, height = self.size
        rows = parts(plan(width - 4, height - 2))
        if self.machine is None or y >= min(len(rows), len(self._rows)):
            return ""
        return pane_tip(rows[y], self.machine, self.view, self._rows[y], x, width)
