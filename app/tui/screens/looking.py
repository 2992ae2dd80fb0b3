"""What can be looked at from a screen: a machine, an exit, a line of its code, its inside."""

from __future__ import annotations

from dataclasses import replace

from app.session_thread import Worker
from app.text import narration
from app.tui.rows.exits import VIEWS, Events
from app.tui.rows.machine_parts import cursor_line
from app.tui.rows.registers import program_counter
from app.tui.rows.rows import Row, printable, row
from cores.debugging import breakpoints
from cores.inspection.views import CodeLook, CodeSight
from cores.machine.report import CodeLine, MachineSnapshot
from cores.x86.registers import STATE_NAMES

from ..settings import Settings
from ..widgets.inside import Inside
from ..widgets.keys import Hint, Keys
from ..widgets.machine_pane import MachinePane
from ..widgets.switches import Switches
from .ask import Ask
from .session import SessionScreen
from .sheet import Sheet, card_sheet

MACHINES = 3
"""Panes at most."""

EDGE = 8
"""Lines before the end of those at hand at which the cursor asks for more."""

CURSOR_HINTS: list[Hint] = [
    ("up down", "move", "select(1)"),
    ("x", "breakpoint here", "break"),
    ("h", "run to here", "run_here"),
    ("a", "look at it", "address"),
    ("Esc", "no cursor", "leave"),
]


class LookingScreen(SessionScreen):
    """chosen: number of the machine whose exits and inside are shown. hidden: those without a pane.
    selected: number of the chosen exit, None: the newest. cursor: address of the line of code that
    keys point at, None: they point at none. around: the address whose surroundings it moves in."""

    def __init__(self, worker: Worker, settings: Settings) -> None:
        super().__init__(worker, settings)
        self.chosen = 0
        self.hidden: set[int] = set()
        self.mode = VIEWS.index(settings.view) if settings.view in VIEWS else 0
        self.selected: int | None = None
        self.cursor: int | None = None
        self.around = 0
        self._lines: tuple[CodeLine, ...] = ()

    @property
    def machine(self) -> MachineSnapshot | None:
        """The chosen one."""
        s = self.snapshot
        return s.machines[self.chosen - 1] if s is not None and s.machines else None

    def shown_panes(self, count: int) -> set[int]:
        """The machines that have a pane: those not hidden, as many as fit, the chosen one always."""
        width = self.size.width
        fits = 1 if width < 96 else 2 if width < 118 else MACHINES
        wanted = [i for i in range(1, count + 1) if i not in self.hidden or i == self.chosen]
        while len(wanted) > fits:
            wanted.remove(next(i for i in reversed(wanted) if i != self.chosen))
        return set(wanted)

    def moved(self) -> None:
        self.selected = None
        if self.cursor is not None:
            self.point_at(None)

    # -- machines and their exits -------------------------------------------------------------

    def action_next_view(self) -> None:
        self.mode = (self.mode + 1) % len(VIEWS)
        self.settings.view = VIEWS[self.mode]
        self.stale()

    def on_switches_mode_chosen(self, message: Switches.ModeChosen) -> None:
        self.mode = VIEWS.index(message.mode)

    def action_pane(self, number: int) -> None:
        """Show or hide a machine; choose it when only one fits."""
        s = self.snapshot
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
        self.stale()

    def action_choose_next(self, by: int) -> None:
        s = self.snapshot
        if s is not None and s.machines:
            self.chosen = (self.chosen - 1 + by) % min(MACHINES, len(s.machines)) + 1
            self.selected, self._lines = None, ()
            self.stale()

    def on_machine_pane_chosen(self, message: MachinePane.Chosen) -> None:
        self.chosen, self.selected = message.number, None

    def _events(self) -> Events | None:
        return self.query_one(Switches).shown

    def action_select(self, by: int) -> None:
        """Choose another exit; move the cursor while there is one; scroll the inside of a machine."""
        inside = self.query_one(Inside)
        if self.cursor is not None:
            self._move_cursor(by)
            return
        if inside.tab:
            inside.scroll_rows(by)
            self.stale()
            return
        shown = self._events()
        if shown is None or shown.current is None:
            return
        at = shown.current + by if self.selected is not None or by < 0 else shown.current
        self.selected = None if at >= shown.total else max(0, at)
        self.stale()

    def action_select_first(self) -> None:
        self._select_end(0)

    def action_select_last(self) -> None:
        self._select_end(None)

    def _select_end(self, number: int | None) -> None:
        if self.cursor is not None:
            self._move_cursor(-1000 if number == 0 else 1000)
            return
        self.selected = number
        self.stale()

    def on_switches_event_chosen(self, message: Switches.EventChosen) -> None:
        self.selected = message.number
        self.stale()

    def action_card(self) -> None:
        """The chosen exit in full; what it changed is found by executing it once more."""
        if self.cursor is not None:
            self.action_run_here()
            return
        shown = self._events()
        if shown is None or self.query_one(Inside).tab:
            return
        number, event = shown.current, shown.event
        if number is None or event is None:
            return
        core = shown.machine.core
        sheet = card_sheet(narration.card(event, shown.machine, number + 1), self.size.width)
        self.app.push_screen(sheet)
        s = self.snapshot
        if s is not None and s.mode == "exact" and not s.running:
            answer = self.worker.ask(lambda session: session.around(core, number))
            answer.add_done_callback(lambda done: self.app.call_later(sheet.add_changes, done))

    # -- a line of the code -------------------------------------------------------------------

    def point_at(self, address: int | None) -> None:
        """Put the cursor there, and say below what it is good for; None: take it away."""
        if (self.cursor is None) != (address is None):
            self.query_one(Keys).lend(None if address is None else CURSOR_HINTS)
        self.cursor = address
        if address is None:
            self._lines = ()
        self.stale()

    def action_cursor(self) -> None:
        """A cursor at the next instruction; the same key takes it away."""
        m = self.machine
        if m is None:
            return
        inside = self.query_one(Inside)
        if inside.tab:
            self.action_inside(inside.tab)
        self.around = program_counter(m)
        self.point_at(self.around if self.cursor is None else None)

    @property
    def code_look(self) -> CodeLook | None:
        """What is to be asked of the worker for the cursor."""
        m = self.machine
        return None if m is None or self.cursor is None else CodeLook(m.core, self.around)

    def with_cursor(self, m: MachineSnapshot) -> MachineSnapshot:
        """The chosen machine with the code that the cursor moves in, once the worker has seen it."""
        if self.cursor is None:
            return m
        sight = self.worker.sights.get(CodeLook(m.core, self.around))
        if isinstance(sight, CodeSight) and any(self.cursor == line.address for line in sight.lines):
            self._lines = sight.lines
        return replace(m, code=self._lines) if self._lines else m

    def _move_cursor(self, by: int) -> None:
        m = self.machine
        if m is None or not m.code:
            return
        m = self.with_cursor(m)
        wanted = (cursor_line(m, self.cursor) or 0) + by
        at = min(max(0, wanted), len(m.code) - 1)
        if not EDGE <= wanted < len(m.code) - EDGE:  # look further on, from there
            self.around = m.code[at].address
        self.point_at(m.code[at].address)

    def action_break(self) -> None:
        """At the cursor; without one the user is asked where."""
        if self.cursor is None:
            super().action_break()
        else:
            self.toggle(breakpoints.AtAddress(self.cursor))

    def action_run_here(self) -> None:
        """On until the machines stand at the cursor."""
        if self.cursor is None:
            self.notify("c puts a cursor into the code, h runs to it")
            return
        there = breakpoints.AtAddress(self.cursor)
        self.moved()
        self.worker.run_to(there)

    def on_machine_pane_line_chosen(self, message: MachinePane.LineChosen) -> None:
        """A click on an instruction: a breakpoint there."""
        self.toggle(breakpoints.AtAddress(message.address))

    # -- inside -------------------------------------------------------------------------------

    def action_inside(self, tab: str) -> None:
        """Open the inside of the chosen machine at a tab; the same key closes it."""
        inside = self.query_one(Inside)
        self.point_at(None)
        inside.open("" if inside.tab == tab else tab)
        self.set_class(bool(inside.tab), "-inside")
        self.call_after_refresh(self.stale)

    def on_inside_tab_chosen(self, message: Inside.TabChosen) -> None:
        if self.query_one(Inside).tab != message.tab:
            self.action_inside(message.tab)

    def action_address(self) -> None:
        """What memory and page tables are to be looked at: an address, or where a register points."""
        s, inside = self.snapshot, self.query_one(Inside)
        if s is None:
            return

        def answered(text: str | None) -> None:
            name = (text or "").strip()
            if not name:
                return
            at = breakpoints.address(name, s.symbols)
            if name.lower() in STATE_NAMES:
                inside.follow(name.lower())
            elif at is not None:
                inside.follow(at)
            else:
                self.notify(f"{name!r} is no address, symbol or register", severity="warning")
            if inside.tab not in ("memory", "pages"):
                self.action_inside("memory")
            self.stale()

        hint = "An address, a symbol, or a register to follow"
        now = str(inside.where) if self.cursor is None else f"{self.cursor:x}"
        self.app.push_screen(Ask("Look where?", "rsp", now, hint), answered)

    # -- the guest ----------------------------------------------------------------------------

    def action_guest_screen(self) -> None:
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
        self.app.push_screen(Sheet(f"What the guest shows on {m.core}", rows, 84))
