"""The views: a chosen machine, one of its exits, a line of its code, its inside."""

from __future__ import annotations

from dataclasses import replace

from app.text import narration
from app.tui.rows.exits import VIEWS, Events
from app.tui.rows.machine_parts import cursor_line
from app.tui.rows.registers import program_counter
from app.tui.rows.rows import Row, printable, row
from cores.debugging import breakpoints
from cores.inspection.views import CodeQuery, CodeView, EventsQuery, EventsView, Query
from cores.machine.report import CodeLine, MachineSnapshot
from cores.x86.registers import STATE_NAMES

from ...widgets.inside import Inside
from ...widgets.keys import Hint, Keys
from ...widgets.switches import Switches
from ..ask import Ask
from ..sheet import Sheet, card_sheet
from .host import Host
from .time import TimeController

MACHINES = 3
"""Panes at most."""
EDGE = 8
"""Lines before the end of those at hand at which the cursor asks for more."""
FETCH = 200
"""Events fetched at a time, from a multiple of so many on."""

CURSOR_HINTS: list[Hint] = [
    ("up down", "move", "look('select', 1)"),
    ("x", "breakpoint here", "look('break_here')"),
    ("H", "run to here", "look('run_here')"),
    ("a", "look at it", "look('address')"),
    ("Esc", "no cursor", "close"),
]


class LookingController:
    """chosen: number of the machine whose exits and inside are shown. hidden: those without a pane.
    mode: index of the exits' view. selected: number of the chosen exit, None: the newest. cursor:
    address of the line of code that keys point at, None without one. pointed, pointed_at: registers
    and a place in the code that a lesson points at."""

    def __init__(
        self, host: Host, time: TimeController, inside: Inside, switches: Switches, keys: Keys
    ) -> None:
        self._host, self._time = host, time
        self._inside, self._switches, self._keys = inside, switches, keys
        self.chosen = 0
        self.hidden: set[int] = set()
        view = host.settings.view
        self.mode = VIEWS.index(view) if view in VIEWS else 0
        self.selected: int | None = None
        self.cursor: int | None = None
        self.pointed: frozenset[str] = frozenset()
        self.pointed_at: int | None = None
        self._around = 0  # the address whose surroundings the cursor moves in
        self._lines: tuple[CodeLine, ...] = ()

    @property
    def state(self) -> tuple[object, ...]:
        """Changes whenever the screen has to be drawn anew."""
        return (self.chosen, self.mode, self.selected, self.cursor, self.pointed, self.pointed_at)

    @property
    def machine(self) -> MachineSnapshot | None:
        """The chosen one."""
        s = self._host.snapshot
        return s.machines[self.chosen - 1] if s is not None and s.machines else None

    def shown_panes(self, count: int) -> set[int]:
        """The machines that have a pane: those not hidden, as many as fit, the chosen one always."""
        width = self._host.columns
        fits = 1 if width < 96 else 2 if width < 118 else MACHINES
        wanted = [i for i in range(1, count + 1) if i not in self.hidden or i == self.chosen]
        while len(wanted) > fits:
            wanted.remove(next(i for i in reversed(wanted) if i != self.chosen))
        return set(wanted)

    def let_go(self) -> None:
        """The machines move: neither a chosen exit nor the cursor stays."""
        self.selected = None
        if self.cursor is not None:
            self.point_at(None)

    # -- machines and their exits -------------------------------------------------------------

    def next_view(self) -> None:
        """Log, dialogue, chart, and again."""
        self.mode = (self.mode + 1) % len(VIEWS)
        self._host.settings.view = VIEWS[self.mode]
        self._host.stale()

    def pane(self, number: int) -> None:
        """Show or hide a machine; choose it when only one fits."""
        s = self._host.snapshot
        if s is None or number > len(s.machines):
            return
        shown = self.shown_panes(len(s.machines))
        if number not in shown:
            self.hidden.discard(number)
            self.chosen = number
        elif len(shown) > 1:
            self.hidden.add(number)
            if self.chosen == number:
                self.chosen = min(shown - {number})
        self.selected = None
        self._host.stale()

    def choose(self, number: int) -> None:
        self.chosen, self.selected = number, None

    def choose_next(self, by: int) -> None:
        s = self._host.snapshot
        if s is not None and s.machines:
            self.chosen = (self.chosen - 1 + by) % min(MACHINES, len(s.machines)) + 1
            self.selected, self._lines = None, ()
            self._host.stale()

    def select(self, by: int) -> None:
        """Choose another exit; move the cursor while there is one; scroll the inside of a machine."""
        if self.cursor is not None:
            self._move_cursor(by)
            return
        if self._inside.tab:
            self._inside.scroll_rows(by)
            self._host.stale()
            return
        shown = self._switches.shown
        if shown is None or shown.current is None:
            return
        at = shown.current + by if self.selected is not None or by < 0 else shown.current
        self.selected = None if at >= shown.total else max(0, at)
        self._host.stale()

    def select_first(self) -> None:
        self._select_end(0)

    def select_last(self) -> None:
        self._select_end(None)

    def _select_end(self, number: int | None) -> None:
        if self.cursor is not None:
            self._move_cursor(-1000 if number == 0 else 1000)
            return
        self.selected = number
        self._host.stale()

    def events(self, m: MachineSnapshot) -> tuple[Events, frozenset[Query]]:
        """The exits to be shown, and what must be asked of the worker for them."""
        shown = Events(m, self.selected)
        if shown.here:
            return shown, frozenset()
        first = max(0, (shown.current or 0) // FETCH - 1) * FETCH
        fetch = EventsQuery(m.core, first, 3 * FETCH)
        view = self._host.worker.views.get(fetch)
        if isinstance(view, EventsView):
            shown = Events(m, self.selected, view.events, view.first)
        return shown, frozenset({fetch})

    def card(self) -> None:
        """The chosen exit in full; what it changed is found by executing it once more."""
        if self.cursor is not None:
            self.run_here()
            return
        shown = self._switches.shown
        if shown is None or self._inside.tab:
            return
        number, event = shown.current, shown.event
        if number is None or event is None:
            return
        core = shown.machine.core
        sheet = card_sheet(narration.card(event, shown.machine, number + 1), self._host.columns)
        self._host.open(sheet)
        s = self._host.snapshot
        if s is not None and s.mode == "exact" and not s.running:
            answer = self._host.worker.ask(lambda session: session.around(core, number))
            self._host.when_done(answer, sheet.add_changes)

    # -- a line of the code -------------------------------------------------------------------

    def point_at(self, address: int | None) -> None:
        """Put the cursor there, with its keys in the bottom row; None: take it away."""
        if (self.cursor is None) != (address is None):
            self._keys.lend(None if address is None else CURSOR_HINTS)
        self.cursor = address
        if address is None:
            self._lines = ()
        self._host.stale()

    def toggle_cursor(self) -> None:
        """A cursor at the next instruction; the same key takes it away."""
        m = self.machine
        if m is None:
            return
        if self._inside.tab:
            self.inside(self._inside.tab)
        self._around = program_counter(m)
        self.point_at(self._around if self.cursor is None else None)

    @property
    def code_query(self) -> CodeQuery | None:
        """The query to the worker that the cursor needs."""
        m = self.machine
        return None if m is None or self.cursor is None else CodeQuery(m.core, self._around)

    def with_cursor(self, m: MachineSnapshot) -> MachineSnapshot:
        """The chosen machine with the code that the cursor moves in, once the worker has seen it."""
        if self.cursor is None:
            return m
        view = self._host.worker.views.get(CodeQuery(m.core, self._around))
        if isinstance(view, CodeView) and any(self.cursor == line.address for line in view.lines):
            self._lines = view.lines
        return replace(m, code=self._lines) if self._lines else m

    def _move_cursor(self, by: int) -> None:
        m = self.machine
        if m is None or not m.code:
            return
        m = self.with_cursor(m)
        wanted = (cursor_line(m, self.cursor) or 0) + by
        at = min(max(0, wanted), len(m.code) - 1)
        if not EDGE <= wanted < len(m.code) - EDGE:  # look further on, from there
            self._around = m.code[at].address
        self.point_at(m.code[at].address)

    def break_here(self) -> None:
        """A breakpoint at the cursor; without one the user is asked where."""
        if self.cursor is None:
            self._time.ask_breakpoint()
        else:
            self._time.toggle(breakpoints.AtAddress(self.cursor))

    def run_here(self) -> None:
        """Run until the machines stand at the cursor."""
        if self.cursor is None:
            self._host.say("c puts a cursor into the code, H runs to it")
        else:
            self._time.run_to(self.cursor)

    # -- inside -------------------------------------------------------------------------------

    def inside(self, tab: str) -> None:
        """Open the inside of the chosen machine at a tab; the same key closes it."""
        self.point_at(None)
        self._inside.open("" if self._inside.tab == tab else tab)
        self._host.inside_opened(bool(self._inside.tab))

    def address(self) -> None:
        """Have memory and page tables follow an address, or a register."""
        s = self._host.snapshot
        if s is None:
            return
        symbols = s.symbols

        def answered(text: str) -> None:
            name = text.strip()
            if not name:
                return
            at = breakpoints.address(name, symbols)
            if name.lower() in STATE_NAMES:
                self._inside.follow(name.lower())
            elif at is not None:
                self._inside.follow(at)
            else:
                self._host.say(f"{name!r} is no address, symbol or register", warning=True)
            if self._inside.tab not in ("memory", "pages"):
                self.inside("memory")
            self._host.stale()

        hint = "An address, a symbol, or a register to follow"
        now = str(self._inside.where) if self.cursor is None else f"{self.cursor:x}"
        self._host.ask(Ask("Look where?", "rsp", now, hint), answered)

    # -- the guest ----------------------------------------------------------------------------

    def guest_screen(self) -> None:
        """The VGA screen and the console of the chosen machine, in full."""
        m = self.machine
        if m is None:
            return
        rows: list[Row] = []
        if m.screen is not None:
            lines = (m.screen.split("\n") + [""] * 25)[:25]
            rows += [row((f"{printable(line):<80}"[:80], "screen")) for line in lines]
        if m.console or m.screen is None:
            for line in (m.console or "(nothing printed yet)").split("\n"):
                clean = printable(line.expandtabs(4))
                rows += [row(clean[i : i + 80]) for i in range(0, max(1, len(clean)), 80)]
        self._host.open(Sheet(f"What the guest shows on {m.core}", rows, 84))
