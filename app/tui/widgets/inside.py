"""The inside of one machine, in place of its world switches: a tab for each thing to see.

Draws the views that answer this widget's queries; see cores/inspection/views.py.
"""

from __future__ import annotations

from textual import events
from textual.message import Message

from app.tui.rows.inspection import (
    BYTES,
    devices_rows,
    memory_columns,
    memory_rows,
    paging_rows,
    tables_rows,
)
from app.tui.rows.machine_parts import kind
from app.tui.rows.rings import ring_rows
from app.tui.rows.rows import EMPTY, Row, boxed, row, row_width
from cores.inspection.page_tables import PagingView
from cores.inspection.tables_devices import DevicesView, TablesView
from cores.inspection.views import (
    DevicesQuery,
    MemoryQuery,
    MemoryView,
    PagingQuery,
    Query,
    TablesQuery,
    View,
    Where,
)
from cores.machine.report import SessionSnapshot

from .line_view import LineView

TABS = ("memory", "pages", "tables", "rings", "devices")
TIPS = {
    "memory": "The guest's memory, by its own addresses. a chooses where, or which register to follow.",
    "pages": "How an address is translated, level by level, and what is mapped: by the guest's tables,"
    " and by the host for them.",
    "tables": "What the guest has told the CPU about segments and about its handlers.",
    "rings": "What runs at which privilege, as the guest believes and in truth.",
    "devices": "The state of each device of the guest's PC.",
}
ABOVE = 2
"""Rows of memory before the one that is looked for."""
NOTHING = "This machine has nothing of the kind to show."


class Inside(LineView):
    """tab: which of TABS is shown, "" while the widget is closed. where: the address that memory and
    pages follow; a register's name keeps them at what it points to."""

    DEFAULT_CSS = "Inside { width: 1fr; height: 1fr; }"

    class TabChosen(Message):
        """A tab was clicked."""

        def __init__(self, tab: str) -> None:
            super().__init__()
            self.tab = tab

    def __init__(self) -> None:
        super().__init__(id="inside")
        self.tab = ""
        self.where: Where = "rsp"
        self.core = ""
        self.first = 0
        self._view: View | None = None
        self._snapshot: SessionSnapshot | None = None
        self._most = 0

    @property
    def queries(self) -> frozenset[Query]:
        """The queries to the worker that the open tab needs."""
        query: Query
        match self.tab:
            case "memory":
                rows = max(1, self.size.height - 2) * memory_columns(self.size.width - 4)
                query = MemoryQuery(self.core, self.where, BYTES * rows, BYTES * (self.first - ABOVE))
            case "pages":
                query = PagingQuery(self.core, self.where)
            case "tables":
                query = TablesQuery(self.core)
            case "devices":
                query = DevicesQuery(self.core)
            case _:
                return frozenset()
        return frozenset({query})

    def open(self, tab: str) -> None:
        self.tab, self.first = tab, 0

    def follow(self, where: Where) -> None:
        self.where, self.first = where, 0

    def scroll_rows(self, by: int) -> None:
        """Memory has no ends; the others do."""
        self.first += by
        if self.tab != "memory":
            self.first = max(0, min(self.first, self._most))
        self.redraw()

    def show(self, core: str, view: View | None, snapshot: SessionSnapshot) -> None:
        self.core, self._view, self._snapshot = core, view, snapshot
        self.redraw()

    def _title(self) -> Row:
        parts: list[tuple[str, str]] = [(" Inside  ", "strong")]
        for name in TABS:
            parts.append((f"[{name}]", "strong") if name == self.tab else (f" {name} ", "dim"))
        if self.tab != "rings":
            parts += [("  of ", "dim"), (self.core, kind(self.core))]
        if self.tab in ("memory", "pages"):
            where = self.where if isinstance(self.where, str) else f"{self.where:x}"
            parts += [("  at ", "dim"), (where, "strong")]
        return (*parts, (" ", "text"))

    def _body(self, width: int) -> list[Row]:
        view, s = self._view, self._snapshot
        if self.tab == "rings" and s is not None:
            return ring_rows(s.machines, self.core, s.symbols, width, self.glyphs)
        machines = s.machines if s is not None else ()
        machine = next((m for m in machines if m.core == self.core), None)
        match view:
            case MemoryView():
                return memory_rows(view, width, self.glyphs)
            case PagingView() if machine is not None:
                return paging_rows(view, machine, width, self.glyphs)
            case TablesView():
                return tables_rows(view, width, self.glyphs)
            case DevicesView():
                return devices_rows(view, width, self.glyphs)
        return [row((NOTHING, "dim"))]

    def compose_rows(self, width: int, height: int) -> list[Row]:
        body = self._body(width - 4) if self.tab else [EMPTY]
        self._most = max(0, len(body) - (height - 2))
        if self.tab != "memory":
            body = body[min(self.first, self._most) :]
        return boxed(self._title(), body, width, height, self.glyphs, "faint")

    def tip(self, x: int, y: int) -> str:
        at = 2 + row_width(row(" Inside  "))
        for name in TABS:
            if y == 0 and at <= x < at + len(name) + 2:
                return TIPS[name]
            at += len(name) + 2
        return TIPS[self.tab] if self.tab else ""

    def on_click(self, event: events.Click) -> None:
        x = 2 + row_width(row(" Inside  "))
        for name in TABS:
            if event.y == 0 and x <= event.x < x + len(name) + 2:
                self.post_message(self.TabChosen(name))
            x += len(name) + 2

    def on_mouse_scroll_down(self) -> None:
        self.scroll_rows(3)

    def on_mouse_scroll_up(self) -> None:
        self.scroll_rows(-3)
