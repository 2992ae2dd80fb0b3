"""Records of one reading of a lesson: the learner's progress, and the present place for those who
follow: the teacher's second terminal, and a class."""

from __future__ import annotations

from app.teacher import second_terminal
from app.teacher.audience import Audience
from lessons import progress
from lessons.format.script import Lesson
from lessons.play.events import Ended, Event, Verdict
from lessons.play.player import Player


class Reading:
    """Used as a context; ``heard`` is told of every event. remembers: false where nobody reads.
    audience: a class that follows, None for a reader alone."""

    def __init__(
        self, lesson: Lesson, *, remembers: bool = True, audience: Audience | None = None
    ) -> None:
        self.lesson = lesson
        self.audience = audience
        self.record = progress.load().get(lesson.name, progress.Record())
        self._remembers = remembers

    def __enter__(self) -> Reading:
        return self

    def heard(self, player: Player, events: list[Event]) -> None:
        """After each turn, and at questions: keep the answers and how far the lesson is."""
        for event in events:
            match event:
                case Verdict(question=question, given=str(given), right=right):
                    self.record.answers[question] = (given, right)
                case Ended():
                    self.record.done = True
                case _:
                    pass
        self.record.step = max(self.record.step, player.step[0])
        if self.audience is not None:
            self.audience.heard(player, events)

    def at(self, player: Player) -> None:
        """The reader is waited for here."""
        second_terminal.tell(self.lesson.path, player.position)
        if self._remembers:
            progress.save(self.lesson.name, self.record)

    def __exit__(self, *_: object) -> None:
        second_terminal.end()
        if self._remembers:
            progress.save(self.lesson.name, self.record)
