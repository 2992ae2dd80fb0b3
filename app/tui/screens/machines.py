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

from app.session_thread import Worker, alive
from app.tui.rows.exits import VIEWS, Events
from app.tui.rows.machine_parts import View, kind
from cores.inspection.views import EventsLook, EventsSight, Look
from cores.machine.report import MachineSnapshot, SessionSnapshot
from cores.pc.stop import Stop

from .. import help_topics
from ..help_topics import Topic
from ..settings import Settings
from ..widgets.banner import Banner
from ..widgets.inside import Inside
from ..widgets.keys import Hint, Keys
from ..widgets.machine_lines import MachineLines
from ..widgets.machine_pane import MachinePane
from ..widgets.properties import Properties
from ..widgets.switches import Switches
from ..widgets.timeline import Timeline
from .help import HelpSheet
from .looking import MACHINES, LookingScreen
from .session import SPEEDS

FRAME = 1 / 30
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
    ("c", "cursor", "cursor"),
    ("x", "break", "break"),
    ("m", "memory", "inside('memory')"),
    ("t", "pages", "inside('pages')"),
    ("R", "rings", "inside('rings')"),
    ("f", "free run", "run_free"),
    ("r", "restart", "restart"),
    ("v", "guest's screen", "guest_screen"),
    ("1 2 3", "machines", "choose_next(1)"),
]


class MachinesScreen(LookingScreen):
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
        Binding("c", "cursor", "A cursor in the code"),
        Binding("h", "run_here", "Run to the cursor"),
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
        Binding("S", "save_session", "Save the session"),
        Binding("G", "glossary", "Glossary"),
        Binding("question_mark,f1", "help", "Help"),
        Binding("escape", "leave", "Leave"),
    ]
    # Textual declares these as instance variables.
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (96, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [  # noqa: RUF012
        (0, "-tiny"), (18, "-short"), (30, "-middle"), (44, "-tall")
    ]  # fmt: skip

    class Left(Message):
        """The user goes back to the first page."""

    class Edit(Message):
        """The user wants to change the program."""

        def __init__(self, path: str) -> None:
            super().__init__()
            self.path = path

    def __init__(self, worker: Worker, settings: Settings, hints: list[Hint] = HINTS) -> None:
        super().__init__(worker, settings)
        self._hints = hints
        self.pointed: frozenset[str] = frozenset()  # what a lesson points at: registers,
        self.pointed_at: int | None = None  # and a place in the code
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
            self.chosen, self.mode, self.selected, self.cursor, self.pointed, self.pointed_at,
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
                pane.show(self.with_cursor(m) if i == self.chosen else m, view)
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
        code = self.code_look
        wanted: frozenset[Look] = inside.looks if code is None else frozenset({code})
        shown = Events(m, self.selected)
        if not shown.here:
            first = max(0, (shown.current or 0) // FETCH - 1) * FETCH
            fetch = EventsLook(m.core, first, 3 * FETCH)
            wanted |= {fetch}
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
            stepped=s.mode == "exact",
            breakpoints=self.addresses,
            cursor=self.cursor
            if self.cursor is not None and number == self.chosen
            else self.pointed_at,
            pointed=self.pointed,
        )

    # -- time ---------------------------------------------------------------------------------

    def forgotten(self) -> None:
        self.query_one(Timeline).forget()

    def stale(self) -> None:
        self._drawn = ()
        self.tick()

    def on_timeline_asked(self, message: Timeline.Asked) -> None:
        self.go_to(message.instruction)

    # -- elsewhere ----------------------------------------------------------------------------

    def action_edit(self) -> None:
        if self.snapshot is not None:
            self.post_message(self.Edit(self.snapshot.path))

    def topic(self) -> Topic:
        """What has the keys now: the cursor, the inside of a machine, its exits, or the machines."""
        if self.cursor is not None:
            return help_topics.CURSOR
        if tab := self.query_one(Inside).tab:
            return help_topics.INSIDE[tab]
        return help_topics.MACHINES if self.selected is None else help_topics.VIEWS[VIEWS[self.mode]]

    def action_help(self) -> None:
        self.app.push_screen(HelpSheet(self.topic(), self.glyphs))

    def action_leave(self) -> None:
        if self.cursor is not None:
            self.point_at(None)
        elif self.query_one(Inside).tab:
            self.action_inside(self.query_one(Inside).tab)
        elif self.selected is not None:
            self.selected = None
        else:
            self.post_message(self.Left())


def _differs_on(values: dict[str, dict[str, int | str | None]], first: str, core: str) -> bool:
    """Does the divergence lie between these two cores?"""
    return values.get(first, {}) != values.get(core, {})
