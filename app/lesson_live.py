"""A lesson played on the worker's thread, turn by turn, for the interface.

All methods but the constructor are called on the worker's thread; ``turn`` is swapped whole, and may
be read from any.
"""

from __future__ import annotations

from dataclasses import dataclass

from app import following, lesson_text
from app.worker import Session
from cores.errors import InputError
from lessons import progress
from lessons.events import Asked, Begun, Ended, Event, Moved, Noted, Shown, Verdict
from lessons.player import Player
from lessons.script import Lesson
from lessons.stage import AnyStage, Place, open_stage

SLICE = 0.05
IN_PLACE = ("dialogue", "log", "chart", "registers", "code", "console", "rings", "pages", "memory")
"""Views that the machines' screen has already."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What is said between two stops. number, title: of the step. views: to be opened. asking: what
    an answer is asked for with, "" without a question; example: of an answer."""

    number: int
    title: str
    text: str
    views: tuple[str, ...] = ()
    asking: str = ""
    example: str = ""
    ended: bool = False


class LessonPlay:
    """One reading of a lesson. turn: the newest; None before the machines are there."""

    def __init__(self, lesson: Lesson, seed: int | None = None) -> None:
        self.lesson = lesson
        self.turn: Turn | None = None
        self._seed = seed
        self._player: Player | None = None
        self._here: Place | None = None
        self._announcer = following.Announcer()
        self._record = progress.load().get(lesson.name, progress.Record())

    def open(self) -> AnyStage:
        """Make the machines and the first turn. Raises InputError, UnavailableError."""
        stage = open_stage(self.lesson.setup)
        missing = [core for core in self.lesson.needs if core not in stage.cores]
        if missing:
            stage.close()
            raise InputError(f"this lesson needs {', '.join(missing)}, which cannot run here")
        self._player = Player(self.lesson, stage, self._seed)
        self._play([], first=True)
        return stage

    def go_on(self, session: Session) -> None:
        """To the next stop."""
        del session
        self._play([])

    def answer(self, session: Session, text: str) -> None:
        """Answer the question; nonsense leaves it standing."""
        del session
        player = self._return()
        try:
            events = player.answer(text.strip() or None)
        except ValueError as error:
            turn = self.turn
            if turn is not None:
                self.turn = Turn(
                    turn.number, turn.title, f"The answer is {error}.\n\n{turn.text}", (),
                    turn.asking, turn.example,
                )  # fmt: skip
            return
        self._play(events)

    def back(self, session: Session) -> None:
        """To the turn before."""
        del session
        player = self._return()
        if player.back() and player.position:
            player.back()
        self._play([])

    def jump(self, session: Session, name: str) -> None:
        """To a step; an unknown one is no step at all."""
        del session
        try:
            self._return().jump(name)
        except ValueError as error:
            raise InputError(str(error)) from None
        self._play([])

    def _return(self) -> Player:
        """Bring the machines back if the reader has driven them elsewhere."""
        player = self._player
        assert player is not None
        if self._here is not None and player.stage.place() != self._here:
            player.stage.return_to(self._here)
        return player

    def _play(self, events: list[Event], first: bool = False) -> None:
        """Until the next stop, question or end."""
        player = self._return()
        while not (player.question or player.ended):
            new = player.proceed(SLICE)
            events += new
            if player.at_stop and not player.moving:
                break
        self._here = player.stage.place()
        self.turn = self._turn(events)
        self._announcer.tell(self.lesson.path, player.position)
        self._remember(events)

    def _turn(self, events: list[Event]) -> Turn:
        player = self._player
        assert player is not None
        number, title = player.step
        asked = [event for event in events if isinstance(event, Asked)]
        words = [lesson_text.event(event) for event in events if not _is_on_screen(event)]
        views = tuple(event.view for event in events if isinstance(event, Shown))
        choices = asked[-1].choices if asked else ()
        example = f"a letter, a to {'abcdef'[len(choices) - 1]}" if choices else "a number"
        asking = asked[-1].question if asked and player.question else ""
        text = "\n\n".join(word for word in words if word)
        return Turn(number, title, text, views, asking, example, player.ended)

    def _remember(self, events: list[Event]) -> None:
        player = self._player
        assert player is not None
        for event in events:
            if isinstance(event, Verdict) and event.given is not None:
                self._record.answers[event.question] = (event.given, event.right)
        self._record.step = max(self._record.step, player.step[0])
        self._record.done |= any(isinstance(event, Ended) for event in events)
        progress.save(self.lesson.name, self._record)


def _is_on_screen(event: Event) -> bool:
    if isinstance(event, Shown):
        return event.view in IN_PLACE
    return isinstance(event, Moved | Noted | Begun)
