"""The main screen: the machines side by side, their world switches, their time."""

from __future__ import annotations

import time
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.screen import Screen
from textual.timer import Timer

from app import narration
from app.worker import Worker, alive
from cores.report import MachineSnapshot, SessionSnapshot, Stop

from ..glyphs import UNICODE, Glyphs
from ..machine_parts import View, kind
from ..rows import Row, printable, row
from ..settings import Settings
from ..switch_rows import VIEWS, Events
from ..widgets.banner import Banner
from ..widgets.keys import Hint, Keys
from ..widgets.machine_lines import MachineLines
from ..widgets.machine_pane import MachinePane
from ..widgets.properties import Properties
from ..widgets.switches import Switches
from ..widgets.timeline import Timeline
from .ask import Ask
from .help import help_sheet
from .sheet import Sheet, card_sheet

FRAME = 1 / 30
SPEEDS: tuple[float | None, ...] = (1, 2, 5, 10, 50, 200, 1000, None)
"""Instructions a second; None: as fast as it goes."""

MACHINES = 3
"""Panes at most."""

HINTS: list[Hint] = [
    ("space", "run", "run"),
    ("n", "step", "step"),
    ("b", "back", "step_back"),
    ("e", "next exit", "next_exit"),
    ("w", "view", "next_view"),
    ("g", "go to", "go_to"),
    ("?", "help", "help"),
    ("q", "quit", "app.quit"),
    ("f", "free run", "run_free"),
    ("r", "restart", "restart"),
    ("v", "guest's screen", "guest_screen"),
    ("1 2 3", "machines", "choose_next(1)"),
]


class MachinesScreen(Screen[None]):
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
        Binding("enter", "card", "The exit's card"),
        Binding("v", "guest_screen", "The guest's screen"),
        Binding("t", "type", "Type to the guests"),
        Binding("i", "edit", "Edit the program"),
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

    def __init__(self, worker: Worker, settings: Settings) -> None:
        super().__init__()
        self.worker = worker
        self.settings = settings
        self.chosen = 0
        self.hidden: set[int] = set()
        self.mode = VIEWS.index(settings.view) if settings.view in VIEWS else 0
        self.selected: int | None = None
        speed = settings.speed or None
        self.speed = SPEEDS.index(speed) if speed in SPEEDS else len(SPEEDS) - 1
        self._drawn: tuple[object, ...] = ()
        self._timer: Timer | None = None

    # -- what is on it ------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        yield Properties()
        yield Banner()
        with Horizontal(id="panes"):
            for number in range(1, MACHINES + 1):
                yield MachinePane(number)
        yield MachineLines()
        yield Switches()
        yield Timeline()
        yield Keys(HINTS)

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

    @property
    def snapshot(self) -> SessionSnapshot | None:
        return self.worker.snapshot

    @property
    def glyphs(self) -> Glyphs:
        glyphs = getattr(self.app, "glyphs", UNICODE)
        assert isinstance(glyphs, Glyphs)
        return glyphs

    # -- drawing ------------------------------------------------------------------------------

    def tick(self) -> None:
        """Draw what has changed since the last frame."""
        snapshot, rates, activity = self.snapshot, self.worker.rates, self.activity()
        failure = self.worker.failure
        state = (id(snapshot), id(rates), activity, failure, self.chosen, self.mode, self.selected)
        if state == self._drawn:
            return
        self._drawn = state
        self.query_one(Properties).show(snapshot, rates, activity)
        error = failure or (snapshot.error if snapshot else "")
        self.query_one(Banner).show(snapshot.divergence if snapshot else None, error)
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
        self.query_one(Switches).show(
            VIEWS[self.mode], Events(machines[self.chosen - 1], self.selected)
        )
        now = machines[0].instructions if s.mode == "exact" else None
        marks = sorted({e.n for m in machines for e in m.events})
        self.query_one(Timeline).show(now, marks)

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

    def _moved(self) -> None:
        self.selected = None

    def action_run(self) -> None:
        s = self.snapshot
        if s is None:
            return
        if s.running:
            self.worker.pause()
        else:
            self._moved()
            self.worker.run(SPEEDS[self.speed])

    def action_step(self) -> None:
        self._moved()
        self.worker.step()

    def action_step_back(self) -> None:
        self._moved()
        self.worker.step_back()

    def action_next_exit(self) -> None:
        self._moved()
        self.worker.next_exit()

    def action_previous_exit(self) -> None:
        self._moved()
        self.worker.previous_exit()

    def action_run_free(self) -> None:
        self._moved()
        self.worker.run_free()

    def action_restart(self) -> None:
        self._moved()
        self.query_one(Timeline).forget()
        self.worker.restart()

    def action_faster(self, by: int) -> None:
        self.speed = max(0, min(self.speed + by, len(SPEEDS) - 1))
        speed = SPEEDS[self.speed]
        self.settings.speed = speed or 0.0
        self.notify("As fast as it goes" if speed is None else f"{speed:g} instructions a second")
        if self.snapshot is not None and self.snapshot.running:
            self.worker.run(speed)

    def action_go_to(self) -> None:
        def answered(text: str | None) -> None:
            if text is None or not text.strip():
                return
            try:
                number = int(text.strip().replace(",", "").replace("_", ""), 0)
            except ValueError:
                self.notify(f"{text.strip()!r} is not a number of instructions", severity="warning")
                return
            if number < 0:
                self.notify("Time begins at instruction 0", severity="warning")
                return
            self._moved()
            self.worker.go_to(number)

        self.app.push_screen(
            Ask("Go to which instruction?", "a number, such as 1200 or 0x400"), answered
        )

    def action_go_to_divergence(self) -> None:
        s = self.snapshot
        if s is None or s.divergence is None:
            self.notify("The machines have not parted")
            return
        self._moved()
        self.worker.go_to(s.divergence.instruction)

    def on_timeline_asked(self, message: Timeline.Asked) -> None:
        self._moved()
        self.worker.go_to(message.instruction)

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
        shown = self._events()
        if shown is None or shown.current is None:
            return
        at = shown.current + by if self.selected is not None or by < 0 else shown.current
        last = len(shown.machine.events) - 1
        self.selected = None if at > last else max(0, at)
        self.tick()

    def action_card(self) -> None:
        shown = self._events()
        if shown is None or shown.current is None:
            return
        event = shown.machine.events[shown.current]
        number = shown.number(shown.current)
        card = narration.card(event, shown.machine.core, number)
        self.app.push_screen(card_sheet(card, self.size.width))

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

    def action_type(self) -> None:
        def answered(text: str | None) -> None:
            if text is not None:
                self.worker.type(text + "\n")

        self.app.push_screen(Ask("Type on the guests' keyboard", "Enter sends the line"), answered)

    def action_edit(self) -> None:
        if self.snapshot is not None:
            self.post_message(self.Edit(self.snapshot.path))

    def action_help(self) -> None:
        self.app.push_screen(help_sheet(self.glyphs))

    def action_leave(self) -> None:
        if self.selected is not None:
            self.selected = None
        else:
            self.post_message(self.Left())


def _differs_on(values: dict[str, dict[str, int | str | None]], first: str, core: str) -> bool:
    """Does the divergence lie between these two cores?"""
    return values.get(first, {}) != values.get(core, {})
