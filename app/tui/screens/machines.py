"""The main screen: the machines side by side, their world switches, their time."""

from __future__ import annotations

import time
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.timer import Timer

from app import narration
from app.worker import Worker, alive
from cores import breakpoints
from cores.look import EventsLook, EventsSight, Look
from cores.report import MachineSnapshot, SessionSnapshot, Stop
from cores.x86.registers import STATE_NAMES

from ..machine_parts import View, kind
from ..rows import Row, printable, row
from ..settings import Settings
from ..switch_rows import VIEWS, Events
from ..widgets.banner import Banner
from ..widgets.inside import Inside
from ..widgets.keys import Hint, Keys
from ..widgets.machine_lines import MachineLines
from ..widgets.machine_pane import MachinePane
from ..widgets.properties import Properties
from ..widgets.switches import Switches
from ..widgets.timeline import Timeline
from .ask import Ask
from .help import help_sheet
from .session import SPEEDS, SessionScreen
from .sheet import Sheet, card_sheet

FRAME = 1 / 30
MACHINES = 3
"""Panes at most."""

FETCH = 200
"""Events fetched at a time, from a multiple of so many on."""

HINTS: list[Hint] = [
    ("space", "run", "run"),
    ("n", "step", "step"),
    ("b", "back", "step_back"),
    ("e", "next exit", "next_exit"),
    ("w", "view", "next_view"),
    ("g", "go to", "go_to"),
    ("?", "help", "help"),
    ("q", "quit", "app.quit"),
    ("x", "break", "break"),
    ("m", "memory", "inside('memory')"),
    ("t", "pages", "inside('pages')"),
    ("R", "rings", "inside('rings')"),
    ("f", "free run", "run_free"),
    ("r", "restart", "restart"),
    ("v", "guest's screen", "guest_screen"),
    ("1 2 3", "machines", "choose_next(1)"),
]


class MachinesScreen(SessionScreen):
    """Draws the worker's newest snapshot, thirty times a second at most."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "run", "Run or pause"),
        Binding("n", "step", "Step"),
        Binding("b", "step_back", "Step back"),
        Binding("e", "next_exit", "Next exit"),
        Binding("E,shift+e", "previous_exit", "Previous exit"),
        Binding("f", "run_free", "Run freely"),
        Binding("g", "go_to", "Go to instruction"),
        Binding("d", "go_to_divergence", "Go to the divergence"),
        Binding("r", "restart", "Restart"),
        Binding("w", "next_view", "Next view of the world switches"),
        Binding("plus,equals_sign", "faster(1)", "Faster"),
        Binding("minus", "faster(-1)", "Slower"),
        Binding("1", "pane(1)", "First machine"),
        Binding("2", "pane(2)", "Second machine"),
        Binding("3", "pane(3)", "Third machine"),
        Binding("left", "choose_next(-1)", "Previous machine"),
        Binding("right", "choose_next(1)", "Next machine"),
        Binding("up", "select(-1)", "Older exit"),
        Binding("down", "select(1)", "Newer exit"),
        Binding("pageup", "select(-20)", "A page of exits back"),
        Binding("pagedown", "select(20)", "A page of exits on"),
        Binding("home", "select_first", "The first exit"),
        Binding("end", "select_last", "The newest exit"),
        Binding("enter", "card", "The exit's card"),
        Binding("m", "inside('memory')", "Memory"),
        Binding("t", "inside('pages')", "Page tables"),
        Binding("T", "inside('tables')", "Descriptor tables"),
        Binding("R", "inside('rings')", "Rings"),
        Binding("D", "inside('devices')", "Devices"),
        Binding("a", "address", "Look at an address"),
        Binding("x", "break", "Set or clear a breakpoint"),
        Binding("X", "clear_breakpoints", "Clear all breakpoints"),
        Binding("p", "poke", "Change a register or memory"),
        Binding("v", "guest_screen", "The guest's screen"),
        Binding("k", "type", "Type on the guests' keyboard"),
        Binding("i", "edit", "Edit the program"),
        Binding("L", "disk", "Load a disk image"),
        Binding("question_mark", "help", "Help"),
        Binding("escape", "leave", "Leave"),
    ]
    # Textual declares these as instance variables.
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (96, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-short"), (30, "-middle"), (44, "-tall")]  # noqa: RUF012

    class Left(Message):
        """The user goes back to the first page."""

    class Edit(Message):
        """The user wants to change the program."""

        def __init__(self, path: str) -> None:
            super().__init__()
            self.path = path

    def __init__(self, worker: Worker, settings: Settings, hints: list[Hint] = HINTS) -> None:
        super().__init__(worker, settings)
        self.chosen = 0
        self._hints = hints
        self.hidden: set[int] = set()
        self.mode = VIEWS.index(settings.view) if settings.view in VIEWS else 0
        self.selected: int | None = None
        self._drawn: tuple[object, ...] = ()
        self._kept: tuple[object, ...] = ()
        self._timer: Timer | None = None

    # -- what is on it ------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        yield Properties()
        yield Banner()
        with Horizontal(id="panes"):
            for number in range(1, MACHINES + 1):
                yield MachinePane(number)
        yield MachineLines()
        yield Inside()
        yield Switches()
        yield Timeline()
        yield Keys(self._hints)

    def on_mount(self) -> None:
        self.tick()
        self._timer = self.set_interval(FRAME, self.tick)

    def on_screen_suspend(self) -> None:
        if self._timer is not None:
            self._timer.pause()

    def on_screen_resume(self) -> None:
        if self._timer is not None:
            self._timer.resume()

    def on_resize(self, event: events.Resize) -> None:
        self._drawn = ()
        self.call_after_refresh(self.tick)

    # -- drawing ------------------------------------------------------------------------------

    def tick(self) -> None:
        """Draw what has changed since the last frame."""
        snapshot, rates, activity = self.snapshot, self.worker.rates, self.activity()
        failure = self.worker.failure
        sights = self.worker.sights
        state = (
            id(snapshot), id(rates), id(sights), activity, failure,
            self.chosen, self.mode, self.selected,
        )  # fmt: skip
        if state == self._drawn:
            return
        self._drawn = state
        self._kept = snapshot, rates, sights  # so that none of these ids is given to another
        self.query_one(Properties).show(snapshot, rates, activity)
        error = failure or (snapshot.error if snapshot else "")
        self.query_one(Banner).show(
            snapshot.divergence if snapshot else None, error, snapshot.reached if snapshot else ""
        )
        if snapshot is not None:
            self._draw(snapshot, rates)

    def activity(self) -> str:
        """What goes on, in a word or two."""
        s, busy = self.snapshot, self.worker.busy
        if s is None:
            return "stopped" if self.worker.failure else "starting"
        if s.running:
            speed = SPEEDS[self.speed]
            return "running" if speed is None else f"running at {speed:g}/s"
        if busy is not None and time.monotonic() - busy > 0.5:
            return f"working, {time.monotonic() - busy:.0f} s"
        return "paused" if alive(s) else "ended"

    def _draw(self, s: SessionSnapshot, rates: dict[str, float]) -> None:
        machines = s.machines[:MACHINES]
        if not machines:
            return
        if not self.chosen:
            trap = next((i for i, m in enumerate(machines) if kind(m.core) == "trap"), 0)
            self.chosen = trap + 1
        self.chosen = min(self.chosen, len(machines))
        shown = self.shown_panes(len(machines))
        lines: list[tuple[MachineSnapshot, View]] = []
        for i, m in enumerate(machines, 1):
            view = self._view(s, i, rates.get(m.core))
            pane = self.query_one(f"#machine-{i}", MachinePane)
            pane.display = i in shown
            if i in shown:
                pane.show(m, view)
            else:
                lines.append((m, view))
        for i in range(len(machines) + 1, MACHINES + 1):
            self.query_one(f"#machine-{i}").display = False
        self.query_one(MachineLines).show(lines, s.unavailable)
        self._draw_lower(s, machines[self.chosen - 1])
        now = machines[0].instructions if s.mode == "exact" else None
        self.query_one(Timeline).show(now, s.marks, s.progress)

    def _draw_lower(self, s: SessionSnapshot, m: MachineSnapshot) -> None:
        """The world switches, or the inside of the chosen machine in their place."""
        inside, looks = self.query_one(Inside), self.worker.sights
        inside.core = m.core
        wanted: frozenset[Look] = inside.looks
        shown = Events(m, self.selected)
        if not shown.here:
            first = max(0, (shown.current or 0) // FETCH - 1) * FETCH
            fetch = EventsLook(m.core, first, 3 * FETCH)
            wanted = frozenset({fetch})
            sight = looks.get(fetch)
            if isinstance(sight, EventsSight):
                shown = Events(m, self.selected, sight.events, sight.first)
        if inside.tab:
            look = next(iter(inside.looks), None)
            inside.show(m.core, looks.get(look) if look is not None else None, s)
        else:
            self.query_one(Switches).show(VIEWS[self.mode], shown)
        self.worker.look_at(wanted)

    def _view(self, s: SessionSnapshot, number: int, rate: float | None) -> View:
        first, m = s.machines[0], s.machines[number - 1]
        differs: frozenset[str] = frozenset()
        equal: bool | None = None
        if number > 1 and s.mode == "exact" and m.stop is not Stop.ERROR:
            d = s.divergence
            equal = d is None or not _differs_on(d.values, first.core, m.core)
        if s.divergence is not None:
            differs = frozenset(
                name
                for name in s.divergence.differs
                if len({other.registers.get(name) for other in s.machines}) > 1
            )
        return View(
            number=number,
            focused=number == self.chosen and len(s.machines) > 1,
            differs=differs,
            equal=equal,
            rate=rate,
            breakpoints=self.addresses,
        )

    def shown_panes(self, count: int) -> set[int]:
        """The machines that have a pane: those not hidden, as many as fit, the chosen one always."""
        width = self.size.width
        fits = 1 if width < 96 else 2 if width < 118 else MACHINES
        wanted = [i for i in range(1, count + 1) if i not in self.hidden or i == self.chosen]
        while len(wanted) > fits:
            wanted.remove(next(i for i in reversed(wanted) if i != self.chosen))
        return set(wanted)

    # -- time ---------------------------------------------------------------------------------

    def moved(self) -> None:
        self.selected = None

    def forgotten(self) -> None:
        self.query_one(Timeline).forget()

    def stale(self) -> None:
        self._drawn = ()
        self.tick()

    def on_timeline_asked(self, message: Timeline.Asked) -> None:
        self.go_to(message.instruction)

    def on_machine_pane_line_chosen(self, message: MachinePane.LineChosen) -> None:
        """A click on an instruction: a breakpoint there."""
        self.toggle(breakpoints.AtAddress(message.address))

    # -- looking ------------------------------------------------------------------------------

    def action_next_view(self) -> None:
        self.mode = (self.mode + 1) % len(VIEWS)
        self.settings.view = VIEWS[self.mode]
        self.tick()

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
        self._drawn = ()
        self.tick()

    def action_choose_next(self, by: int) -> None:
        s = self.snapshot
        if s is not None and s.machines:
            self.chosen = (self.chosen - 1 + by) % min(MACHINES, len(s.machines)) + 1
            self.selected = None
            self.tick()

    def on_machine_pane_chosen(self, message: MachinePane.Chosen) -> None:
        self.chosen, self.selected = message.number, None

    def _events(self) -> Events | None:
        return self.query_one(Switches).shown

    def action_select(self, by: int) -> None:
        """Choose another exit; while the inside of a machine is shown, scroll that."""
        inside = self.query_one(Inside)
        if inside.tab:
            inside.scroll_rows(by)
            self.stale()
            return
        shown = self._events()
        if shown is None or shown.current is None:
            return
        at = shown.current + by if self.selected is not None or by < 0 else shown.current
        self.selected = None if at >= shown.total else max(0, at)
        self.tick()

    def action_select_first(self) -> None:
        self.selected = 0
        self.tick()

    def action_select_last(self) -> None:
        self.selected = None
        self.tick()

    def on_switches_event_chosen(self, message: Switches.EventChosen) -> None:
        self.selected = message.number
        self.tick()

    def action_card(self) -> None:
        """The chosen exit in full; what it changed is found by executing it once more."""
        shown = self._events()
        if shown is None or self.query_one(Inside).tab:
            return
        number, event = shown.current, shown.event
        if number is None or event is None:
            return
        core = shown.machine.core
        sheet = card_sheet(narration.card(event, core, number + 1), self.size.width)
        self.app.push_screen(sheet)
        s = self.snapshot
        if s is not None and s.mode == "exact" and not s.running:
            answer = self.worker.ask(lambda session: session.around(core, number))
            answer.add_done_callback(lambda done: self.app.call_later(sheet.add_changes, done))

    # -- inside -------------------------------------------------------------------------------

    def action_inside(self, tab: str) -> None:
        """Open the inside of the chosen machine at a tab; the same key closes it."""
        inside = self.query_one(Inside)
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
        self.app.push_screen(Ask("Look where?", "rsp", str(inside.where), hint), answered)

    # -- the guest ----------------------------------------------------------------------------

    def action_guest_screen(self) -> None:
        """The VGA screen and the console of the chosen machine, in full."""
        s = self.snapshot
        if s is None or not s.machines:
            return
        m = s.machines[self.chosen - 1]
        rows: list[Row] = []
        if m.screen is not None:
            lines = (m.screen.split("\n") + [""] * 25)[:25]
            rows += [row((f"{printable(line):<80}"[:80], "screen")) for line in lines]
        if m.console or m.screen is None:
            for line in (m.console or "(nothing printed yet)").split("\n"):
                clean = printable(line.expandtabs(4))
                rows += [row(clean[i : i + 80]) for i in range(0, max(1, len(clean)), 80)]
        self.app.push_screen(Sheet(f"What the guest shows on {m.core}", rows, 84))

    def action_edit(self) -> None:
        if self.snapshot is not None:
            self.post_message(self.Edit(self.snapshot.path))

    def action_help(self) -> None:
        self.app.push_screen(help_sheet(self.glyphs))

    def action_leave(self) -> None:
        if self.query_one(Inside).tab:
            self.action_inside(self.query_one(Inside).tab)
        elif self.selected is not None:
            self.selected = None
        else:
            self.post_message(self.Left())


def _differs_on(values: dict[str, dict[str, int | str | None]], first: str, core: str) -> bool:
    """Does the divergence lie between these two cores?"""
    return values.get(first, {}) != values.get(core, {})
