"""A lesson over the machines: it speaks, moves them, and asks. The machines stay the reader's: every
key works, and Enter comes back to the lesson's own place.

The player (lessons/play/player.py) lives in the worker's thread, with the stage that it drives; its
events are handed over as a list that only grows.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from app.any_session import AnySession
from app.session_thread import SLICE, words
from app.teacher.audience import Audience, bars
from app.teacher.reader import Reading
from app.tui.lanes.lesson import LETTERS
from lessons.format.script import Lesson
from lessons.play.events import Asked, Begun, Event, Looked, Shown
from lessons.play.player import Player
from lessons.play.stage import AnyStage, open_stage
from lessons.play.values import short

from ...autoplay import Autoplay
from ..ask import Ask
from ..pick import Pick
from .host import Host
from .looking import LookingController
from .page import LessonPage


class LessonController:
    """``open`` is the worker's opener; ``attach`` follows, when there is a screen."""

    def __init__(
        self, lesson: Lesson, seed: int | None = None, speed: float = 0.0, step: int = 1,
        audience: Audience | None = None,
    ) -> None:  # fmt: skip
        """seed: varies the questions' numbers. speed: the lesson plays by itself, at so many times a
        reader's; 0: by key. step: where it begins, from 1. audience: a class that follows."""
        self.lesson = lesson
        self.page = LessonPage()
        self.elsewhere = False  # the reader drives the machines
        self._seed, self._begin_at = seed, step
        self._autoplay = Autoplay(speed)
        self._reading = Reading(lesson, audience=audience)
        self._shown_to_class = 0
        self._stage: AnyStage | None = None
        self._player: Player | None = None
        self._heard: list[Event] = []
        self._answering = False
        self._entered: Callable[[], None] | None = None
        self._followed: tuple[Event, ...] = ()
        self._place = ""

    def open(self) -> AnySession:
        """The lesson's machines. Called in the worker's thread; raises RingscopeError."""
        self._stage = open_stage(self.lesson.setup)
        return self._stage.session

    def attach(self, host: Host, looking: LookingController) -> None:
        self._host, self._looking = host, looking

    def begin(self) -> None:
        self._reading.__enter__()
        self._turn()

    def end(self) -> None:
        self._reading.__exit__()

    # -- in the worker's thread ---------------------------------------------------------------

    def _playing(self) -> Player:
        if self._player is None:
            assert self._stage is not None  # the worker has opened it
            self._player = Player(self.lesson, self._stage, self._seed)
            if 1 < self._begin_at <= len(self.lesson.headings):
                self._player.jump(str(self._begin_at))
        return self._player

    def _hear(self, player: Player, events: list[Event]) -> None:
        self._heard += events
        self._reading.heard(player, events)

    def _go_on(self, session: AnySession) -> float | None:
        """A slice of the lesson; done when it waits for its reader."""
        player = self._playing()
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
        """The question that waits for an answer."""
        if self._player is None or self._player.question is None:
            return None
        return next((e for e in reversed(self._heard) if isinstance(e, Asked)), None)

    @property
    def _in_sight(self) -> Asked | None:
        """The question, where the reader sees it."""
        return self.question if self.page.last and not self.elsewhere else None

    @property
    def conceals(self) -> bool:
        """Would marks that foretell what an instruction does answer a question of the lesson?"""
        return self._player is None or self._player.question is not None or self._player.conceals

    def _turn(self) -> None:
        """Hear what comes next."""
        self._heard = []
        self._host.worker.pursue(self._go_on)

    def left(self) -> None:
        """The reader drives the machines."""
        if self._player is not None and not self.elsewhere:
            self.elsewhere = True
            self._host.worker.submit(lambda _: self._playing().take_over())

    def proceed(self, leave: Callable[[], None]) -> None:
        """Enter: the next page, back to the lesson, the chosen exit's card, an answer, the next turn;
        at the end ``leave``. Pressed while the machines work it is kept until they rest."""
        if self._looking.aside and self._looking.selected is None:
            self._looking.aside = False
            self._host.stale()
            return
        if self._looking.selected is not None or self._looking.picked is not None:
            self._looking.full()
            return
        if self.page.turn():
            return
        if self._answering:
            self._entered = leave
        elif self.elsewhere:
            self.elsewhere = False
            self._host.worker.submit(lambda _: self._playing().rejoin())
        elif (asked := self.question) is not None:
            if self.page.picked is not None and self.page.picked < len(asked.choices):
                self._answer(LETTERS[self.page.picked])
            else:
                self._ask(asked)
        elif self._player is not None and self._player.ended:
            leave()
        elif self._host.worker.idle:
            self._turn()
        else:
            self._entered = leave

    def _enter_kept(self) -> None:
        """Do what an Enter meant that came too early. A question that has come since is to be read."""
        leave = self._entered
        if leave is None or self._answering or not self._host.worker.idle:
            return
        self._entered = None
        if self.question is None:
            self.proceed(leave)

    def _ask(self, asked: Asked) -> None:
        kind = "a letter" if asked.choices else "a number"
        self._host.ask(
            Ask("Your answer?", kind, "", "Empty: the answer is shown"),
            lambda text: self._answer(text.strip() or None),
        )

    def _answer(self, given: str | None) -> None:
        player = self._player
        if player is None:
            return
        self._answering = True
        self.page.picked = None
        future = self._host.worker.ask(lambda _: _tried(player, given))
        self._host.when_done(future, lambda done: self._answered(player, done.result()))

    def _answered(self, player: Player, events: list[Event] | Exception) -> None:
        self._answering = False
        if isinstance(events, Exception):
            self._host.say(words(events), warning=True)
            return
        self._heard = []
        self._hear(player, events)
        self._host.worker.pursue(self._go_on)

    def takes(self, letter: str) -> bool:
        """Answer the question that waits with a letter; False where the letter is no answer."""
        asked = self._in_sight
        if asked is None or LETTERS.index(letter) >= len(asked.choices):
            return False
        self._answer(letter)
        return True

    def mark(self, by: int) -> bool:
        """Mark another choice of the question that waits; False where there is none."""
        asked = self._in_sight
        if asked is None or not asked.choices or self._looking.open:
            return False
        now = self.page.picked
        self.page.picked = (0 if by > 0 else -1) if now is None else now + by
        self.page.picked %= len(asked.choices)
        return True

    def back(self) -> None:
        """Go back to where the present turn of the lesson began."""
        if self.page.turn(-1):
            return
        self.elsewhere = False

        def back(session: AnySession) -> None:
            player = self._playing()
            player.back()
            player.back()

        self._host.worker.submit(back)
        self._turn()

    def jump(self, push: Callable[[Pick, Callable[[str | None], None]], object]) -> None:
        """Go to a step, by its title; what lies between is passed over silently."""
        titles = [heading.title for _, heading in self.lesson.headings]

        def chosen(title: str | None) -> None:
            if title is None:
                return
            self.elsewhere = False
            self._host.worker.submit(lambda _: self._playing().jump(title))
            self._turn()

        present = titles[self._player.step[0] - 1] if self._player and self._player.step[0] else ""
        push(Pick("Jump to which step?", titles, present), chosen)

    def autoplay(self) -> None:
        """Let the lesson play by itself, or pause it."""
        self._autoplay.on = not self._autoplay.on

    # -- drawing ------------------------------------------------------------------------------

    @property
    def state(self) -> tuple[object, ...]:
        """Changes whenever the page has to be drawn anew."""
        return (self.page.state, self.elsewhere, self.conceals)

    def tick(self, *, in_front: bool, finish: Callable[[], None]) -> None:
        """Draw the panel, and go on where the lesson plays by itself. in_front: no sheet covers the
        screen. finish: ends a lesson that was begun to play by itself."""
        self._enter_kept()
        heard = tuple(self._heard)
        hint, by_itself = self._hint(), self._autoplay.on and not self.elsewhere
        if self.question is None:
            self.page.picked = None
        number = f"Lesson {self.lesson.number}  " if self.lesson.number else ""
        title = f"{number}{self.lesson.title}"
        if (audience := self._reading.audience) is not None:
            self._tell(audience)
            title += f"  {audience.following} follow"
        self.page.show(title, self._step(heard), heard, hint, by_itself=by_itself)
        if heard[-1:] != self._followed:
            self._followed = heard[-1:]
            self._follow(heard)
        player = self._player
        if player is None or not heard or not in_front or not self._may_go_on():
            return
        if self._autoplay.has_been_read(self.page.in_sight, player.pausing, monotonic()):
            self._play_on(player, finish)

    def _tell(self, audience: Audience) -> None:
        """The class sees the machines as the teacher drives them, and the teacher what it answers."""
        s, votes = self._host.snapshot, audience.votes()
        self.page.votes = "" if votes is None else bars(votes, 12)
        if self.elsewhere and s is not None and s.serial != self._shown_to_class:
            self._shown_to_class = s.serial
            audience.moved(s, marks=not self.conceals)

    def _follow(self, heard: tuple[Event, ...]) -> None:
        """The machine that the lesson points at last is the chosen one; the registers that it looks at
        in this turn are marked, and the place in the code."""
        cores = [
            event.core if isinstance(event, Shown) else event.target
            for event in heard
            if isinstance(event, Shown) or (isinstance(event, Looked) and event.kind == "pane")
        ]
        s, looking = self._host.snapshot, self._looking
        for machine in s.machines if s is not None else ():
            if cores and short(machine.core) == cores[-1]:
                looking.hidden.discard(machine.core)
                looking.chosen = machine.core
        looks = [event for event in heard if isinstance(event, Looked)]
        looking.pointed = frozenset(event.target for event in looks if event.kind == "register")
        places = [dict(event.values).get("at") for event in looks]
        looking.pointed_at = next((int(at, 16) for at in reversed(places) if at is not None), None)

    def _may_go_on(self) -> bool:
        """May the lesson go on by itself now?"""
        at_work = self._answering or not self._host.worker.idle or self._host.worker.failure
        return self._autoplay.on and not at_work and not self.elsewhere

    def _play_on(self, player: Player, finish: Callable[[], None]) -> None:
        """The next page, the answer, the next turn, or the end."""
        if self.page.turn():
            return
        if player.question is not None:
            self._answer(None)
        elif not player.ended:
            self._turn()
        elif self._autoplay.alone:
            finish()
        else:
            self._autoplay.on = False

    def _step(self, heard: tuple[Event, ...]) -> str:
        begun = [event for event in heard if isinstance(event, Begun)]
        if begun:
            self._place = f"step {begun[-1].number} of {begun[-1].total}: {begun[-1].title}"
        return self._place

    @property
    def enter(self) -> str:
        """What Enter does now, in words."""
        if not self.page.last:
            return "read on"
        if self.elsewhere:
            return "back to the lesson"
        if (asked := self.question) is not None:
            return "answer" if asked.choices else "answer with a number"
        ended = self._player is not None and self._player.ended
        return "leave: this is the end" if ended else "go on"

    def _hint(self) -> str:
        """What the reader can do at the end of the turn."""
        if self._autoplay.on and not self.elsewhere:
            return "A pauses it"
        asked = self._in_sight
        if asked is not None and asked.choices:
            return f"{' '.join(LETTERS[: len(asked.choices)])} or ↑↓   Enter {self.enter}"
        if asked is not None or self.elsewhere or (self._player is not None and self._player.ended):
            return f"Enter {self.enter}"
        return "Enter go on   Backspace back" if self._host.worker.idle else ""


def _tried(player: Player, given: str | None) -> list[Event] | Exception:
    """An answer that is none (ValueError) is no failure of the session's."""
    try:
        return player.answer(given)
    except ValueError as error:
        return error
