"""A lesson over the machines: it speaks, moves them, and asks. The machines stay the reader's: every
key works, and Enter comes back to the lesson's own place.

The player (lessons/play/player.py) lives in the worker's thread, with the session that it drives; what
it says is handed over as a list that only grows.
"""

from __future__ import annotations

from time import monotonic
from typing import ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from app.session_thread import SLICE, AnySession, Worker, words
from app.teacher.reader import Reading
from lessons.format.script import Lesson
from lessons.play.events import Asked, Begun, Event, Looked, Shown
from lessons.play.player import Player
from lessons.play.stage import AnyStage
from lessons.play.values import short

from .. import help_topics
from ..autoplay import Autoplay
from ..help_topics import Topic
from ..settings import Settings
from ..widgets.inside import Inside
from ..widgets.keys import Hint
from ..widgets.lesson import LessonPanel
from .ask import Ask
from .machines import HINTS, MachinesScreen
from .pick import Pick

LETTERS = "abcdef"
LESSON_HINTS: list[Hint] = [("Enter", "on", "proceed"), ("Backspace", "back", "lesson_back"), *HINTS]


class LessonScreen(MachinesScreen):
    """MachinesScreen with a lesson at its foot, in place of the world switches where rows are few."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "proceed", "Go on with the lesson"),
        Binding("backspace", "lesson_back", "Back in the lesson"),
        Binding("j", "jump", "Jump to a step of the lesson"),
        Binding("P", "autoplay", "Let the lesson play by itself, or pause it"),
        *(Binding(letter, f"letter('{letter}')", show=False) for letter in "abcd"),
    ]

    def __init__(
        self, worker: Worker, settings: Settings, lesson: Lesson, seed: int | None = None,
        speed: float = 0.0,
    ) -> None:  # fmt: skip
        """speed: it plays by itself, at so many times a reader's; 0: by key."""
        super().__init__(worker, settings, LESSON_HINTS)
        self._seed = seed
        self._autoplay = Autoplay(speed)
        self._reading = Reading(lesson)
        self.lesson = lesson
        self._player: Player | None = None
        self._heard: list[Event] = []
        self._elsewhere = False
        self._answering = False
        self._followed: tuple[Event, ...] = ()

    def compose(self) -> ComposeResult:
        for widget in super().compose():
            if widget.id == "timeline":
                yield LessonPanel()
            yield widget

    def on_mount(self) -> None:
        super().on_mount()
        self.add_class("-lesson")
        self._reading.__enter__()
        self._turn()

    def on_unmount(self) -> None:
        self._reading.__exit__()

    # -- in the worker's thread ---------------------------------------------------------------

    def _playing(self, session: AnySession) -> Player:
        if self._player is None:
            self._player = Player(self.lesson, cast(AnyStage, session), self._seed)
        return self._player

    def _hear(self, player: Player, events: list[Event]) -> None:
        self._heard += events
        self._reading.heard(player, events)

    def _go_on(self, session: AnySession) -> float | None:
        """A slice of the lesson; done when it waits for its reader."""
        player = self._playing(session)
        self._hear(player, player.proceed(SLICE))
        if player.at_stop and player.position == len(self.lesson.items):
            self._hear(player, player.proceed())  # the end is no turn of its own
        if player.ended or player.question is not None or player.at_stop:
            self._reading.at(player)
            return None
        return 0.0

    # -- what the reader does -----------------------------------------------------------------

    @property
    def question(self) -> Asked | None:
        """What waits for an answer."""
        if self._player is None or self._player.question is None:
            return None
        return next((e for e in reversed(self._heard) if isinstance(e, Asked)), None)

    def _turn(self) -> None:
        """Hear what comes next."""
        self._heard = []
        self.worker.pursue(self._go_on)

    def moved(self) -> None:
        """The reader drives the machines."""
        super().moved()
        if self._player is not None and not self._elsewhere:
            self._elsewhere = True
            self.worker.submit(lambda s: self._playing(s).take_over())

    def action_proceed(self) -> None:
        if self.query_one(LessonPanel).turn():
            return
        if self._elsewhere:
            self._elsewhere = False
            self.worker.submit(lambda s: self._playing(s).rejoin())
            self.notify("Back at the lesson's place")
        elif self.selected is not None:
            self.action_card()
        elif (asked := self.question) is not None:
            self._ask(asked)
        elif self._player is not None and self._player.ended:
            self.action_leave()
        elif self.worker.idle:
            self._turn()

    def _ask(self, asked: Asked) -> None:
        def answered(text: str | None) -> None:
            if text is not None:
                self._answer(text.strip() or None)

        kind = "a letter" if asked.choices else "a number"
        self.app.push_screen(Ask("Your answer?", kind, "", "Empty: be shown"), answered)

    def _answer(self, given: str | None) -> None:
        player = self._player
        if player is None:
            return

        def known(events: list[Event] | Exception) -> None:
            self._answering = False
            if isinstance(events, Exception):
                self.notify(words(events), severity="warning")
                return
            self._heard = []
            self._hear(player, events)
            self.worker.pursue(self._go_on)

        self._answering = True
        future = self.worker.ask(lambda s: _tried(player, given))
        future.add_done_callback(lambda done: self.app.call_later(known, done.result()))

    def action_letter(self, letter: str) -> None:
        """An answer while a question waits; else the key means what it does without a lesson."""
        asked = self.question
        if asked is not None and not self._elsewhere and LETTERS.index(letter) < len(asked.choices):
            self._answer(letter)
        elif letter == "a":
            self.action_address()
        elif letter == "b":
            self.action_step_back()
        elif letter == "c":
            self.action_cursor()
        elif letter == "d":
            self.action_go_to_divergence()

    def action_lesson_back(self) -> None:
        """To where the present turn of the lesson began."""
        if self.query_one(LessonPanel).turn(-1):
            return
        self._elsewhere = False

        def back(session: AnySession) -> None:
            player = self._playing(session)
            player.back()
            player.back()

        self.worker.submit(back)
        self._turn()

    def action_jump(self) -> None:
        """To a step, by its title. What lies between is passed over without a word."""
        titles = [heading.title for _, heading in self.lesson.headings]

        def chosen(title: str | None) -> None:
            if title is None:
                return
            self._elsewhere = False
            self.worker.submit(lambda s: self._playing(s).jump(title))
            self._turn()

        present = titles[self._player.step[0] - 1] if self._player and self._player.step[0] else ""
        self.app.push_screen(Pick("Jump to which step?", titles, present), chosen)

    def words_in_sight(self) -> str:
        return self.query_one(LessonPanel).in_sight

    # -- drawing ------------------------------------------------------------------------------

    def tick(self) -> None:
        super().tick()
        heard = tuple(self._heard)
        panel = self.query_one(LessonPanel)
        hint, by_itself = self._hint(), self._autoplay.on and not self._elsewhere
        panel.show(self.lesson.title, self._step(heard), heard, hint, by_itself=by_itself)
        if heard[-1:] != self._followed:
            self._followed = heard[-1:]
            self._follow(heard)
        player = self._player
        if player is None or not heard or not self._may_go_on():
            return
        if self._autoplay.has_been_read(panel.in_sight, player.pausing, monotonic()):
            self._play_on(player, panel)

    def _follow(self, heard: tuple[Event, ...]) -> None:
        """The machine that the lesson points at last is the chosen one; the registers that it looks at
        in this turn are marked, and the place in the code."""
        cores = [
            event.core if isinstance(event, Shown) else event.target
            for event in heard
            if isinstance(event, Shown) or (isinstance(event, Looked) and event.kind == "pane")
        ]
        machines = self.snapshot.machines if self.snapshot is not None else ()
        for number, machine in enumerate(machines, 1):
            if cores and short(machine.core) == cores[-1]:
                self.hidden.discard(number)
                self.chosen = number
        looks = [event for event in heard if isinstance(event, Looked)]
        self.pointed = frozenset(event.target for event in looks if event.kind == "register")
        places = [dict(event.values).get("at") for event in looks]
        self.pointed_at = next((int(at, 16) for at in reversed(places) if at is not None), None)

    def _may_go_on(self) -> bool:
        """Does the lesson play by itself, and nobody and nothing is in its way?"""
        at_work = self._answering or not self.worker.idle or self.worker.failure
        return self._autoplay.on and not at_work and not self._elsewhere and self.is_current

    def _play_on(self, player: Player, panel: LessonPanel) -> None:
        """The next page, the answer, the next turn, or the end."""
        if panel.turn():
            return
        if player.question is not None:
            self._answer(None)
        elif not player.ended:
            self._turn()
        elif self._autoplay.alone:
            self.app.exit(0)
        else:
            self._autoplay.on = False

    def action_autoplay(self) -> None:
        self._autoplay.on = not self._autoplay.on

    def _step(self, heard: tuple[Event, ...]) -> str:
        begun = [event for event in heard if isinstance(event, Begun)]
        if begun:
            self._place = f"step {begun[-1].number} of {begun[-1].total}: {begun[-1].title}"
        return self._place

    _place = ""

    def _hint(self) -> str:
        if self._elsewhere:
            return "Enter: back to the lesson"
        if self._autoplay.on:
            return "P: pause"
        asked = self.question
        if asked is not None:
            return (
                f"{' '.join(LETTERS[: len(asked.choices)])}: answer"
                if asked.choices
                else "Enter: answer"
            )
        if self._player is not None and self._player.ended:
            return "The end. Enter: leave"
        return "Enter: go on   Backspace: back" if self.worker.idle else "..."

    def topic(self) -> Topic:
        """The lesson, unless something is looked at beside it."""
        topic = super().topic()
        return help_topics.LESSON if topic is help_topics.MACHINES else topic

    def action_leave(self) -> None:
        if self.query_one(Inside).tab or self.selected is not None:
            super().action_leave()
        else:
            self.post_message(self.Left())


def _tried(player: Player, given: str | None) -> list[Event] | Exception:
    """An answer that is none (ValueError) is no failure of the session's."""
    try:
        return player.answer(given)
    except ValueError as error:
        return error
