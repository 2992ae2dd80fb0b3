"""The inside of one machine in the lower part of the screen: memory, page tables, descriptor tables,
rings, devices. State, no widget; the worker answers its queries (cores/inspection/views.py)."""

from __future__ import annotations

from app.tui.lanes.compose import inside_height
from app.tui.lanes.layout import rule
from app.tui.lanes.scene import Scene
from app.tui.rows.inspection import (
    BYTES,
    devices_rows,
    memory_columns,
    memory_rows,
    paging_rows,
    tables_rows,
)
from app.tui.rows.machine_parts import title
from app.tui.rows.network import network_rows
from app.tui.rows.registers import register_file
from app.tui.rows.rings import ring_rows
from app.tui.rows.rows import EMPTY, Row, row
from cores.inspection.network import NetworkView
from cores.inspection.page_tables import PagingView
from cores.inspection.tables_devices import DevicesView, TablesView
from cores.inspection.views import (
    DevicesQuery,
    MemoryQuery,
    MemoryView,
    NetworkQuery,
    PagingQuery,
    Query,
    TablesQuery,
    View,
    Where,
)

TABS = ("memory", "pages", "tables", "rings", "devices", "network")
KEYS = {"memory": "m", "pages": "t", "tables": "T", "rings": "R", "devices": "D", "network": "N"}
TIPS = {
    "memory": "The guest's memory, by its own addresses. a chooses where, or which register to follow.",
    "pages": "How an address is translated, level by level, and what is mapped: by the guest's tables,"
    " and by the host for them.",
    "tables": "What the guest has told the CPU about segments and about its handlers.",
    "rings": "What runs at which privilege, as the guest believes and in truth.",
    "devices": "The state of each device of the guest's PC.",
    "network": "What the guest sends and receives, and what each packet cost.",
}
ABOVE = 2
"""Rows of memory before the one that is looked for."""
NOTHING = " This machine has nothing of the kind to show."


class Inside:
    """tab: which of TABS is shown, "" while it is closed. where: the address that memory and pages
    follow; a register's name keeps them at what it points to. core: of which machine. first: rows
    scrolled over."""

    def __init__(self) -> None:
        self.tab = ""
        self.where: Where = "rsp"
        self.core = ""
        self.first = 0
        self._size = (80, 24)
        self._most = 0

    @property
    def state(self) -> tuple[object, ...]:
        """Changes whenever it has to be drawn anew."""
        return (self.tab, self.where, self.core, self.first)

    @property
    def queries(self) -> frozenset[Query]:
        """The queries to the worker that the open tab needs."""
        width, height = self._size
        query: Query
        match self.tab:
            case "memory":
                rows = max(1, inside_height(width, height) - 1) * memory_columns(width - 2)
                query = MemoryQuery(self.core, self.where, BYTES * rows, BYTES * (self.first - ABOVE))
            case "pages":
                query = PagingQuery(self.core, self.where)
            case "tables":
                query = TablesQuery(self.core)
            case "devices":
                query = DevicesQuery(self.core)
            case "network":
                query = NetworkQuery(self.core)
            case _:
                return frozenset()
        return frozenset({query})

    def open(self, tab: str) -> None:
        self.tab, self.first = tab, 0

    def follow(self, where: Where) -> None:
        self.where, self.first = where, 0

    def scroll(self, by: int) -> None:
        """Memory has no ends; the others do."""
        self.first += by
        if self.tab != "memory":
            self.first = max(0, min(self.first, self._most))

    def rows(self, scene: Scene, view: View | None) -> tuple[Row, ...]:
        """The rule, and as many rows as there is room for."""
        self._size = scene.width, scene.height
        body = [row(" ", *line) if line else EMPTY for line in self._body(scene, view)]
        room = inside_height(scene.width, scene.height) - 1
        self._most = max(0, len(body) - room)
        if self.tab != "memory":
            body = body[min(self.first, self._most) :]
        return (self._rule(scene), *(body + [EMPTY] * room)[:room])

    def _rule(self, scene: Scene) -> Row:
        parts: Row = row((f"{self.tab.capitalize()}", "strong"))
        if self.tab != "rings":
            parts += row((f"  of {title(self.core)}", "dim"))
        if self.tab in ("memory", "pages"):
            where = self.where if isinstance(self.where, str) else f"{self.where:x}"
            m = next((m for m in scene.s.machines if m.core == self.core), scene.reference)
            where = register_file(m).titles.get(where, where)  # esp, in 32-bit code
            parts += row((f"  at {where}", "dim"))
        others: Row = EMPTY
        for tab in TABS:
            if tab != self.tab and scene.width >= 100:
                others += row((KEYS[tab], "key"), (f" {tab}   ", "dim"))
        return rule(scene, parts, (*others, (KEYS[self.tab], "key"), (" closes", "dim")))

    def _body(self, scene: Scene, view: View | None) -> list[Row]:
        width, s = scene.width - 2, scene.s
        if self.tab == "rings":
            return ring_rows(s.machines, self.core, s.symbols, width)
        machine = next((m for m in s.machines if m.core == self.core), None)
        match view:
            case MemoryView():
                return memory_rows(view, width)
            case PagingView() if machine is not None:
                return paging_rows(view, machine, width)
            case TablesView():
                return tables_rows(view, width)
            case DevicesView():
                return devices_rows(view, width)
            case NetworkView():
                return network_rows(view, width, counts_exits=self.core != "interpreter")
        return [row((NOTHING, "dim"))]
