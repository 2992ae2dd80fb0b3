"""The main screen: the machines side by side, their world switches, their time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import ClassVar, TypeVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.screen import Screen
from textual.timer import Timer
from textual.widget import Widget

from app.session_thread import Worker, alive
from app.tui.rows.exits import VIEWS
from app.tui.rows.glyphs import UNICODE, Glyphs
from app.tui.rows.machine_parts import View, kind
from cores.debugging import breakpoints
from cores.machine.report import MachineSnapshot, SessionSnapshot
from cores.pc.stop import Stop

from ... import help_topics
from ...help_topics import Topic
from ...settings import Settings
from ...widgets.banner import Banner
from ...widgets.inside import Inside
from ...widgets.keys import Hint, Keys
from ...widgets.machine_lines import MachineLines
from ...widgets.machine_pane import MachinePane
from ...widgets.properties import Properties
from ...widgets.switches import Switches
from ...widgets.timeline import Timeline
from ..ask import Ask
from ..help import HelpSheet
from ..over import Over
from .bindings import BINDINGS, HINTS
from .lesson import LessonController
from .looking import MACHINES, LookingController
from .stake import stake_of
from .state import StateController
from .time import TimeController

FRAME = 1 / 30

T = TypeVar("T")


class MachinesScreen(Screen[None]):
    """Draws the worker's newest snapshot, thirty times a second at most.

    ``time('step')`` in a binding calls ``step`` of the controller ``time``; ``state`` and ``look`` are
    the others' names. lesson: the one that is played over the machines, if any.
    """

    BINDINGS: ClassVar[list[BindingType]] = BINDINGS
    # Textual declares these as instance variables.
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (96, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [  # noqa: RUF012
        (0, "-tiny"), (18, "-short"), (30, "-middle"), (44, "-tall")
    ]  # fmt: skip

    class Left(Message):
        """The lesson has ended: back to the first page, and nothing is kept."""

    class Edit(Message):
        """The user wants to change the program."""

        def __init__(self, path: str) -> None:
            super().__init__()
            self.path = path

    def __init__(
        self,
        worker: Worker,
        settings: Settings,
        lesson: LessonController | None = None,
        hints: list[Hint] = HINTS,
    ) -> None:
        super().__init__()
        self.worker = worker
        self.settings = settings
        self.inside, self.switches = Inside(), Switches()
        self.timeline, self.key_row = Timeline(), Keys(hints)
        self.time = TimeController(self)
        self.state = StateController(self)
        self.looking = LookingController(self, self.time, self.inside, self.switches, self.key_row)
        self.lesson = lesson
        if lesson is not None:
            lesson.attach(self, self.looking)
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
        yield from self._lower()

    def _lower(self) -> Iterator[Widget]:
        yield MachineLines()
        yield self.inside
        yield self.switches
        if self.lesson is not None:
            yield self.lesson.panel
        yield self.timeline
        yield self.key_row

    def on_mount(self) -> None:
        self.tick()
        self._timer = self.set_interval(FRAME, self.tick)
        if self.lesson is not None:
            self.add_class("-lesson")
            self.lesson.begin()

    def on_unmount(self) -> None:
        if self.lesson is not None:
            self.lesson.end()

    def on_screen_suspend(self) -> None:
        if self._timer is not None:
            self._timer.pause()

    def on_screen_resume(self) -> None:
        if self._timer is not None:
            self._timer.resume()

    def on_resize(self, event: events.Resize) -> None:
        self._drawn = ()
        self.call_after_refresh(self.tick)

    # -- for the controllers (``Host``) -------------------------------------------------------

    @property
    def snapshot(self) -> SessionSnapshot | None:
        return self.worker.snapshot

    @property
    def columns(self) -> int:
        return self.size.width

    @property
    def glyphs(self) -> Glyphs:
        glyphs = getattr(self.app, "glyphs", UNICODE)
        assert isinstance(glyphs, Glyphs)
        return glyphs

    def ask(self, question: Ask, answered: Callable[[str], None]) -> None:
        self.app.push_screen(question, lambda text: None if text is None else answered(text))

    def open(self, sheet: Over[None]) -> None:
        self.app.push_screen(sheet)

    def say(self, words: str, *, warning: bool = False) -> None:
        self.notify(words, severity="warning" if warning else "information")

    def when_done(self, future: Future[T], then: Callable[[Future[T]], None]) -> None:
        future.add_done_callback(lambda done: self.app.call_later(then, done))

    def moved(self) -> None:
        self.looking.let_go()
        if self.lesson is not None:
            self.lesson.left()

    def forgotten(self) -> None:
        self.timeline.forget()

    def stale(self) -> None:
        self._drawn = ()
        self.tick()

    def inside_opened(self, is_open: bool) -> None:
        self.set_class(is_open, "-inside")
        self.call_after_refresh(self.stale)

    # -- drawing ------------------------------------------------------------------------------

    def tick(self) -> None:
        """Draw what has changed since the last frame."""
        self._draw_changes()
        if self.lesson is not None:
            self.lesson.tick(in_front=self.is_current, finish=lambda: self.app.exit(0))

    def _draw_changes(self) -> None:
        snapshot, rates, activity = self.snapshot, self.worker.rates, self.activity()
        failure = self.worker.failure
        views = self.worker.views
        state = (id(snapshot), id(rates), id(views), activity, failure, self.looking.state)
        if state == self._drawn:
            return
        self._drawn = state
        self._kept = snapshot, rates, views  # so that none of these ids is given to another
        self.query_one(Properties).show(snapshot, rates, activity)
        error = failure or (snapshot.error if snapshot else "")
        self.query_one(Banner).show(
            snapshot.divergence if snapshot else None, error, snapshot.reached if snapshot else ""
        )
        if snapshot is not None:
            self._draw(snapshot, rates)

    def activity(self) -> str:
        """The present activity, in a word or two."""
        s, busy = self.snapshot, self.worker.busy
        if s is None:
            return "stopped" if self.worker.failure else "starting"
        if s.running:
            return self.time.activity
        if busy is not None and time.monotonic() - busy > 0.5:
            return f"working, {time.monotonic() - busy:.0f} s"
        return "paused" if alive(s) else "ended"

    def _draw(self, s: SessionSnapshot, rates: dict[str, float]) -> None:
        machines, looking = s.machines[:MACHINES], self.looking
        if not machines:
            return
        if not looking.chosen:
            trap = next((i for i, m in enumerate(machines) if kind(m.core) == "trap"), 0)
            looking.chosen = trap + 1
        looking.chosen = min(looking.chosen, len(machines))
        shown = looking.shown_panes(len(machines))
        lines: list[tuple[MachineSnapshot, View]] = []
        for i, m in enumerate(machines, 1):
            view = self._view(s, i, rates.get(m.core))
            pane = self.query_one(f"#machine-{i}", MachinePane)
            pane.display = i in shown
            if i in shown:
                pane.show(looking.with_cursor(m) if i == looking.chosen else m, view)
            else:
                lines.append((m, view))
        for i in range(len(machines) + 1, MACHINES + 1):
            self.query_one(f"#machine-{i}").display = False
        self.query_one(MachineLines).show(lines, s.unavailable)
        self._draw_lower(s, machines[looking.chosen - 1])
        now = machines[0].instructions if s.mode == "exact" else None
        self.timeline.show(now, s.marks, s.progress)

    def _draw_lower(self, s: SessionSnapshot, m: MachineSnapshot) -> None:
        """The world switches, or the inside of the chosen machine in their place."""
        self.inside.core = m.core
        code = self.looking.code_query
        wanted = self.inside.queries if code is None else frozenset({code})
        shown, fetches = self.looking.events(m)
        if self.inside.tab:
            query = next(iter(self.inside.queries), None)
            self.inside.show(m.core, self.worker.views.get(query) if query is not None else None, s)
        else:
            self.switches.show(VIEWS[self.looking.mode], shown)
        self.worker.watch(wanted | fetches)

    def _view(self, s: SessionSnapshot, number: int, rate: float | None) -> View:
        first, m, looking = s.machines[0], s.machines[number - 1], self.looking
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
        has_cursor = looking.cursor is not None and number == looking.chosen
        return View(
            number=number,
            focused=number == looking.chosen and len(s.machines) > 1,
            differs=differs,
            equal=equal,
            rate=rate,
            stepped=s.mode == "exact",
            breakpoints=self.time.addresses,
            cursor=looking.cursor if has_cursor else looking.pointed_at,
            pointed=looking.pointed,
        )

    # -- what keys and clicks do --------------------------------------------------------------

    def action_time(self, name: str, *arguments: object) -> None:
        getattr(self.time, name)(*arguments)

    def action_state(self, name: str) -> None:
        getattr(self.state, name)()

    def action_look(self, name: str, *arguments: object) -> None:
        getattr(self.looking, name)(*arguments)

    def on_timeline_asked(self, message: Timeline.Asked) -> None:
        self.time.go_to(message.instruction)

    def on_switches_mode_chosen(self, message: Switches.ModeChosen) -> None:
        self.looking.mode = VIEWS.index(message.mode)

    def on_switches_event_chosen(self, message: Switches.EventChosen) -> None:
        self.looking.selected = message.number
        self.stale()

    def on_machine_pane_chosen(self, message: MachinePane.Chosen) -> None:
        self.looking.choose(message.number)

    def on_machine_pane_line_chosen(self, message: MachinePane.LineChosen) -> None:
        """A click on an instruction: a breakpoint there."""
        self.time.toggle(breakpoints.AtAddress(message.address))

    def on_inside_tab_chosen(self, message: Inside.TabChosen) -> None:
        if self.inside.tab != message.tab:
            self.looking.inside(message.tab)

    def action_edit(self) -> None:
        if self.snapshot is not None:
            self.post_message(self.Edit(self.snapshot.path))

    def action_glossary(self) -> None:
        from ..glossary import GlossaryScreen  # 60 ms that the first picture need not wait for

        self.app.push_screen(GlossaryScreen("" if self.lesson is None else self.lesson.panel.in_sight))

    def topic(self) -> Topic:
        """The help of what has the keys now: the cursor, the inside of a machine, its exits, the
        lesson, or the machines."""
        if self.looking.cursor is not None:
            return help_topics.CURSOR
        if tab := self.inside.tab:
            return help_topics.INSIDE[tab]
        if self.looking.selected is not None:
            return help_topics.VIEWS[VIEWS[self.looking.mode]]
        return help_topics.MACHINES if self.lesson is None else help_topics.LESSON

    def action_help(self) -> None:
        self.app.push_screen(HelpSheet(self.topic(), self.glyphs))

    def action_close(self) -> None:
        """Esc: close what was opened last, one level; with nothing open, nothing."""
        if self.looking.cursor is not None:
            self.looking.point_at(None)
        elif self.inside.tab:
            self.looking.inside(self.inside.tab)
        elif self.looking.selected is not None:
            self.looking.selected = None

    @property
    def at_stake(self) -> str:
        """What would be lost with the session, as a sentence; "" for nothing. A lesson's place is kept
        with the learner's progress."""
        return "" if self.lesson is not None else stake_of(self.worker)


def _differs_on(values: dict[str, dict[str, int | str | None]], first: str, core: str) -> bool:
    """Does the divergence lie between these two cores?"""
    return values.get(first, {}) != values.get(core, {})
