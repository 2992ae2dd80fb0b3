"""Plays a lesson to its end and keeps what a page needs: text, films, questions with their answers."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

from app.handout.film import Camera, film
from lessons.format.script import Ask, Lesson
from lessons.play.events import (
    Asked,
    Begun,
    Broken,
    Ended,
    Event,
    Kept,
    LeftOut,
    Loaded,
    Looked,
    Moved,
    Noted,
    Paused,
    Pictured,
    Quoted,
    Said,
    Shown,
    Verdict,
)
from lessons.play.player import Player
from lessons.play.stage import open_stage
from lessons.play.values import Absent


@dataclass(frozen=True, slots=True)
class Film:
    """What the machines did in a move. moved: the two moments in words come from it."""

    moved: Moved
    data: dict[str, object]


@dataclass(slots=True)
class Question:
    """A question and all that its answer shows. letter: of the right choice. replies: to each."""

    asked: Asked
    verdict: Verdict | None = None
    films: list[Film] = field(default_factory=list)
    letter: str = ""
    replies: tuple[str, ...] = ()


Told = Begun | Said | Shown | Quoted | Pictured | LeftOut
Part = Told | Film | Question


@dataclass(frozen=True, slots=True)
class Performance:
    """A lesson, played. cores: the machines; missing: those that it needs and that are not here."""

    lesson: Lesson
    cores: tuple[str, ...]
    parts: tuple[Part, ...]
    missing: tuple[str, ...] = ()


def perform(lesson: Lesson, seed: int | None = None) -> Performance:
    """Play a lesson to its end. Raises InputError where it is wrong."""
    with contextlib.closing(open_stage(lesson.setup)) as stage:
        cores = tuple(machine.core for machine in stage.snapshot().machines)
        missing = tuple(core for core in lesson.needs if core not in stage.cores)
        if missing:
            return Performance(lesson, cores, (), missing)
        player = Player(lesson, stage, seed)
        camera = Camera(stage)
        stage.moves.observe = camera.shoot
        parts: list[Part] = []
        open_question: Question | None = None
        asking: Ask | None = None
        while not player.ended:
            marks = not player.conceals
            asking = player.question or asking
            events = player.answer(None) if player.question else player.proceed()
            if player.moving:
                camera.begin()
            for event in events:
                match event:
                    case Asked():
                        open_question = Question(event)
                        parts.append(open_question)
                    case Moved():
                        marks = marks or open_question is not None
                        shown = Film(event, film(stage, camera.end(), event.now, marks=marks))
                        place = parts if open_question is None else open_question.films
                        place.append(shown)
                    case Verdict() if open_question is not None and asking is not None:
                        open_question.verdict = event
                        open_question.letter = event.answer[:1] if asking.choices else ""
                        open_question.replies = tuple(_reply(player, c.why) for c in asking.choices)
                        open_question = None
                    case _ if (part := _kept(event)) is not None:
                        parts.append(part)
                    case _:
                        pass
        return Performance(lesson, cores, tuple(parts))


def _reply(player: Player, why: str) -> str:
    """What is said to a choice; "" where it speaks of a core that is not here."""
    with contextlib.suppress(Absent):
        return player.fill(why)
    return ""


def _kept(event: Event) -> Told | None:
    """What a page shows; its reader sees registers and code in the films."""
    match event:
        case Begun() | Said() | Quoted() | Pictured() | LeftOut():
            return event
        case Shown():
            return None if event.view in ("registers", "code") else event
        case (
            Asked() | Moved() | Verdict() | Loaded() | Looked() | Noted() | Paused() | Kept() | Broken()
            | Ended()
        ):  # fmt: skip
            return None
