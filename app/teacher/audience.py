"""The class behind a lesson: those who follow it elsewhere, and what they answer.

A front end tells it what it has shown, and asks it for the votes; ``app.web`` implements it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from cores.machine.report import SessionSnapshot
from lessons.play.events import Event
from lessons.play.player import Player


@dataclass(frozen=True, slots=True)
class Votes:
    """The answers to one question. counts: answer -> how many gave it, in the order of the choices; of
    a number the most frequent first. given: how many have answered, of ``following``."""

    counts: tuple[tuple[str, int], ...]
    given: int
    following: int


class Audience(Protocol):
    """Called from the thread that owns the machines; ``votes`` from any. address: what the class
    opens. following: how many do."""

    address: str

    @property
    def following(self) -> int: ...

    def heard(self, player: Player, events: list[Event]) -> None:
        """The reader has been shown these."""

    def moved(self, snapshot: SessionSnapshot, *, marks: bool) -> None:
        """The machines are elsewhere, by the teacher's hand; the lesson goes on where it was.
        marks: may the code say what leaves the guest, or would that answer a question?"""

    def votes(self) -> Votes | None:
        """Of the question that was asked last; None where nothing was asked in this turn."""


def bars(votes: Votes, room: int = 20) -> str:
    """The votes in one line. room: cells of the longest bar."""
    most = max((count for _, count in votes.counts), default=0)
    parts = [
        f"{answer} {'█' * (0 if not most else max(bool(n), n * room // most))}{' ' if n else ''}{n}"
        for answer, n in votes.counts
    ]
    return f"Votes: {'   '.join([*parts, f'({votes.given} of {votes.following})'])}"
