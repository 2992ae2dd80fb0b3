"""The session screen: one program, a lane for each machine, and what they do with it."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, TypeVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.message import Message
from textual.screen import Screen
from textual.timer import Timer

from app.session_thread import BRIEF, Worker, alive
from app.tui.files import EVERY_FILE, Files
from app.tui.lanes import tips
from app.tui.lanes.compose import REGIONS, Picture, picture
from app.tui.lanes.endings import messages
from app.tui.lanes.scene import Scene
from app.tui.rows.glyphs import UNICODE, Glyphs
from app.tui.rows.registers import program_counter
from cores.debugging import breakpoints
from cores.machine.report import CodeLine, SessionSnapshot

from ... import help_topics
from ...help_topics import Topic
from ...settings import Settings
from ...widgets.keys import Hint, Keys
from ...widgets.region import Region
from ...widgets.timeline import Timeline
from ..ask import Ask
from ..help import HelpSheet
from ..over import Over
from ..pick import Pick
from . import bindings
from .looking import LookingController
from .rates import Rates
from .stake import stake_of
from .state import StateController
from .time import TimeController

if TYPE_CHECKING:  # a session without a lesson needs nothing of the lessons
    from .lesson import LessonController

FRAME = 1 / 30
T = TypeVar("T")


class MachinesScreen(Screen[None]):
    """Draws the worker's newest snapshot, thirty times a second at most.

    ``time('step')`` in a binding calls ``step`` of the controller ``time``; ``state`` and ``look`` are
    the others' names. lesson: the one that is played over the machines, if any.
    """

    BINDINGS: ClassVar[list[BindingType]] = bindings.BINDINGS

    class Left(Message):
        """The lesson has ended: back to the first page, and nothing is kept."""

    class Edit(Message):
        """The user wants to change the program."""

        def __init__(self, path: str) -> None:
            super().__init__()
            self.path = path

    def __init__(
        self, worker: Worker, settings: Settings, lesson: LessonController | None = None
    ) -> None:
        super().__init__()
        self.worker = worker
        self.settings = settings
        self.regions = {name: Region(name, self._tip) for name in REGIONS}
        self.timeline, self.key_row = Timeline(), Keys(bindings.HINTS)
        self.key_row.last = ("?", "help", "help")
        self.time = TimeController(self)
        self.state = StateController(self)
        self.looking = LookingController(self, self.time)
        self.lesson = lesson
        if lesson is not None:
            lesson.attach(self, self.looking)
        self._drawn: tuple[object, ...] = ()
        self._kept: tuple[object, ...] = ()
        self._picture = Picture({}, [], None)
        self._scene: Scene | None = None
        self._anchor: int | None = None
        self._code: tuple[CodeLine, ...] = ()
        self._rates = Rates()
        self._running_since: float | None = None
        self._timer: Timer | None = None
        self._noted = False
        self._early: list[tuple[object, str, tuple[object, ...]]] = []  # keys before there is a picture

    # -- what is on it ------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        yield from self.regions.values()
        yield self.timeline
        yield self.key_row

    def on_mount(self) -> None:
        self.tick()
        self._timer = self.set_interval(FRAME, self.tick)
        if self.lesson is not None:
            self.lesson.begin()

    def on_unmount(self) -> None:
        self.state.close()
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
    def files(self) -> Files:
        files = getattr(self.app, "files", EVERY_FILE)
        assert isinstance(files, Files)
        return files

    @property
    def columns(self) -> int:
        return self.size.width

    @property
    def has_page(self) -> bool:
        return self.lesson is not None

    @property
    def glyphs(self) -> Glyphs:
        glyphs = getattr(self.app, "glyphs", UNICODE)
        assert isinstance(glyphs, Glyphs)
        return glyphs

    def scene(self) -> Scene | None:
        return self._scene

    def ask(self, question: Ask, answered: Callable[[str], None]) -> None:
        self.app.push_screen(question, lambda text: None if text is None else answered(text))

    def choose(self, pick: Pick, chosen: Callable[[str | None], None]) -> None:
        self.app.push_screen(pick, chosen)

    def open(self, sheet: Over[None]) -> None:
        self.app.push_screen(sheet)

    def terminal(self) -> None:
        from .terminal import GuestTerminal

        if self.snapshot is not None:
            self.app.push_screen(GuestTerminal(self.worker, self._sized))

    def _sized(self, s: SessionSnapshot, size: tuple[int, int]) -> Scene:
        """The scene of a snapshot for another screen, of that size."""
        return replace(self._made(s, self.activity()), width=size[0], height=size[1])

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

    # -- drawing ------------------------------------------------------------------------------

    def tick(self) -> None:
        """Draw what has changed since the last frame."""
        if self.lesson is not None:
            self.lesson.tick(in_front=self.is_current, finish=lambda: self.app.exit(0))
        self._draw_changes()

    def _draw_changes(self) -> None:
        s, rates, views = self.snapshot, self.worker.rates, self.worker.views
        activity, failure = self.activity(), self.worker.failure
        page = None if self.lesson is None else self.lesson.state
        points = self.worker.breakpoints
        state = (id(s), id(rates), id(views), activity, failure, self.looking.state, page, id(points))
        if state == self._drawn or not self.size.width:
            return
        self._drawn = state
        self._kept = s, rates, views, points  # so that none of these ids is given to another
        if s is None or not s.machines:
            waiting = Picture(
                {"header": tips.waiting_rows(activity, failure, self.size.width)}, [], None
            )
            self._show(waiting)
            return
        self._scene = scene = self._made(s, activity)
        self._show(picture(scene))
        if s.note and not self._noted:
            self._noted = True
            self.say(f"{scene.s.path}: {s.note}", warning=True)
        early, self._early = self._early, []
        for controller, name, arguments in early:
            getattr(controller, name)(*arguments)
        self.timeline.display = not scene.projector
        now = s.machines[0].instructions if s.mode == "exact" else None
        marks = dict(zip(s.marks, s.mark_counts or (1,) * len(s.marks), strict=True))
        self.timeline.show(now, marks, s.progress)
        self.key_row.show(self.hints(scene))
        m = self.looking.machine
        if m is not None:
            _, fetches = self.looking.events(m)
            code = self.looking.code_query
            wanted = self.looking.inside.queries if code is None else frozenset({code})
            self.worker.watch(wanted | fetches)

    def _show(self, made: Picture) -> None:
        self._picture = made
        for name, region in self.regions.items():
            region.show(made.rows.get(name, []))

    @property
    def _moving(self) -> bool:
        """Does it go faster than an eye follows?"""
        since = self._running_since
        fast = self.time.activity == "running" or self.time.fast
        return since is not None and fast and time.monotonic() - since > BRIEF

    def activity(self) -> str:
        """What goes on, in a word or two."""
        s, busy, now = self.snapshot, self.worker.busy, time.monotonic()
        if s is None:
            return "stopped" if self.worker.failure else "starting"
        if not s.running:
            self._running_since = None
        elif self._running_since is None:
            self._running_since = now
        if self._running_since is not None and now - self._running_since > BRIEF:
            return "running freely" if s.mode == "free" else self.time.activity
        if busy is not None and now - busy > 0.5:
            return f"working, {now - busy:.0f} s"
        waits = not alive(s) and any(m.awaits_key for m in s.machines)
        return "waits for a key" if waits else "paused" if alive(s) else "ended"

    def _made(self, s: SessionSnapshot, activity: str) -> Scene:
        looking, moving = self.looking, self._moving
        leading = next((m for m in s.machines if m.stop is None), s.machines[0])
        m = looking.machine or leading
        if not moving or self._anchor is None:
            self._anchor = program_counter(leading)
            self._code = looking.code(m) if looking.picked is not None else leading.code
        if looking.picked is not None:
            self._anchor, self._code = looking.picked, looking.code(m)
        shown, _ = looking.events(m)
        self._rates.take(s)
        lesson = self.lesson
        question = lesson is not None and lesson.question is not None and not lesson.elsewhere
        asked = None
        if question and lesson is not None and lesson.page.last:
            asked = looking.pointed_at if looking.pointed_at is not None else program_counter(leading)
        quiet = lesson is not None and lesson.conceals
        width, height = self.size.width, self.size.height
        scene = Scene(
            s, width, height, looking.lanes(), activity=activity, view=looking.view, moving=moving,
            top=self._picture.top, anchor=self._anchor, code=self._code, picked=looking.picked,
            pointed=looking.pointed, pointed_at=looking.pointed_at, asked=asked, quiet=quiet,
            chosen=looking.chosen, selected=looking.selected, fetched=shown.fetched, begin=shown.begin,
            own=looking.own, first=looking.first, alone=looking.alone, projector=looking.projector,
            rates=self._rates.by_core, breakpoints=self.time.addresses,
            messages=messages(s, self.worker.failure),
        )  # fmt: skip
        return self._filled(scene)

    def _filled(self, scene: Scene) -> Scene:
        """With the inside of a machine, or the lesson's page, where one is open."""
        inside = self.looking.inside
        if inside.tab and not (scene.own or scene.alone or scene.projector):
            inside.core = self.looking.chosen
            query = next(iter(inside.queries), None)
            view = None if query is None else self.worker.views.get(query)
            return scene.with_inside(inside.rows(scene, view))
        if self.lesson is not None and not self.looking.aside:
            return scene.with_lesson(self.lesson.page.rows(scene))
        return scene

    # -- what keys and clicks do --------------------------------------------------------------

    def hints(self, scene: Scene) -> list[Hint]:
        """The keys that work now, the most wanted first."""
        looking = self.looking
        if scene.projector:
            return bindings.PROJECTOR
        if looking.picked is not None:
            return bindings.PICKED
        if looking.inside.tab:
            return bindings.INSIDE
        takes = any(m.takes_keys for m in scene.s.machines) and scene.s.running and scene.free
        if (takes or any(m.awaits_key for m in scene.s.machines)) and self.lesson is None:
            others = [hint for hint in self._going(scene) if hint[0] != "v"]
            return [("v", "type into the guest", "look('guest_screen')"), *others]
        return self._going(scene)

    def _going(self, scene: Scene) -> list[Hint]:
        """The keys of the program itself, by what goes on."""
        looking = self.looking
        if scene.s.running and scene.activity not in ("paused", "ended"):
            return bindings.FREE if scene.free else bindings.RUNNING
        if scene.own or scene.alone:
            return bindings.OWN if scene.own else bindings.ALONE
        if self.lesson is not None and not looking.aside:
            return [("Enter", self.lesson.enter, "proceed"), *bindings.LESSON]
        if not alive(scene.s):
            return bindings.ENDED if not scene.free else [bindings.ENDED[0], *bindings.ENDED[3:]]
        if scene.free:
            return [("f", "on", "time('run_free')"), *bindings.FREE[1:]]
        hints = bindings.LOG if scene.view == "log" else bindings.HINTS
        parted = [("d", "where they parted", "time('go_to_divergence')")] if scene.parted else []
        return [*hints[:4], *parted, *hints[4:]]

    def action_time(self, name: str, *arguments: object) -> None:
        self._act(self.time, name, *arguments)

    def action_state(self, name: str) -> None:
        self._act(self.state, name)

    def action_look(self, name: str, *arguments: object) -> None:
        self._act(self.looking, name, *arguments)

    def _act(self, controller: object, name: str, *arguments: object) -> None:
        """What a key says; before there are machines in sight it waits for them."""
        if self._scene is None and not self.worker.failure:
            self._early.append((controller, name, arguments))
            self.tick()
        else:
            getattr(controller, name)(*arguments)

    def on_timeline_asked(self, message: Timeline.Asked) -> None:
        self.time.go_to(message.instruction)

    async def on_region_clicked(self, message: Region.Clicked) -> None:
        """A line of the program is picked, at its left end a breakpoint is set; a lane's name chooses
        the machine; a title's key does what it says; an exit of the log is chosen."""
        scene, at = self._scene, (message.x, message.y)
        if scene is None:
            return
        match message.region:
            case "program":
                addresses = self._picture.addresses
                address = addresses[at[1]] if at[1] < len(addresses) else None
                if address is not None and at[0] < 8:
                    self.time.toggle(breakpoints.AtAddress(address))
                elif address is not None:
                    self.looking.pick(address)
            case "facts" if at[0] >= scene.left:
                lane = scene.lanes[min(len(scene.lanes) - 1, (at[0] - scene.left) // scene.lane)]
                if lane.machine is not None:
                    self.looking.choose(lane.core)
                    self.stale()
            case "lower":
                await self._lower_clicked(scene, *at)

    async def _lower_clicked(self, scene: Scene, x: int, y: int) -> None:
        if y == 0 and x > scene.width - 20:
            if scene.inside:
                self.looking.inside.open("")
                self.stale()
            elif not scene.lesson:
                await self.run_action("look('full')" if scene.view == "ways" else "look('next_view')")
        elif scene.view == "log" and not scene.inside and not scene.lesson:
            number = tips.exit_at(scene, y - 1, len(self._picture.rows.get("lower", ())) - 1)
            if number is not None:
                self.looking.selected = number
                self.stale()

    def on_region_turned(self, message: Region.Turned) -> None:
        self.looking.select(message.by)

    def _tip(self, region: str, x: int, y: int) -> str:
        if self._scene is None:
            return ""
        return tips.tip(self._scene, self._picture, region, x, y)

    def action_edit(self) -> None:
        if self.snapshot is not None:
            self.post_message(self.Edit(self.snapshot.path))

    def action_glossary(self) -> None:
        from ..glossary import GlossaryScreen  # 60 ms that the first picture need not wait for

        self.app.push_screen(GlossaryScreen("" if self.lesson is None else self.lesson.page.in_sight))

    def topic(self) -> Topic:
        """The help of what has the keys now."""
        looking = self.looking
        if looking.picked is not None:
            return help_topics.PICKED
        if tab := looking.inside.tab:
            return help_topics.INSIDE[tab]
        if looking.own:
            return help_topics.REGISTERS
        if self.lesson is not None and not looking.aside:
            return help_topics.LESSON
        return help_topics.VIEWS.get(looking.view, help_topics.MACHINES)

    def action_help(self) -> None:
        lesson = ("In a lesson",) if self.lesson is not None else ()
        self.app.push_screen(
            HelpSheet(self.topic(), self.glyphs, (*lesson, "Go", "Look", "Do", "Leave"))
        )

    def action_close(self) -> None:
        """Close what was opened last, one level; with nothing open nothing: Esc leaves no session."""
        self.looking.close()

    @property
    def at_stake(self) -> str:
        """What would be lost with the session, as a sentence; "" for nothing. A lesson's place is kept
        with the learner's progress."""
        return "" if self.lesson is not None else stake_of(self.worker)
