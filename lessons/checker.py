"""The lesson checker: parses a lesson and holds every expectation against the cores here."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from cores.errors import InputError
from lessons.format.parser import TERM, parse_file
from lessons.format.script import Ask, Lesson, Note, Text
from lessons.play.events import Broken, Kept, LeftOut
from lessons.play.player import Player
from lessons.play.stage import open_stage

from . import glossary


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong. line: where, None for the whole file. syntax: the lesson cannot be read or run
    at all; else the machines contradict it."""

    path: str
    line: int | None
    message: str
    syntax: bool = False

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.path, self.line) if part is not None)
        return f"{place}: {self.message}"


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a check. claims: expectations and questions that held. cores: the machines.
    absent: (core, how many claims could not be checked without it)."""

    path: str
    problems: tuple[Problem, ...]
    claims: int = 0
    cores: tuple[str, ...] = ()
    absent: tuple[tuple[str, int], ...] = ()


def check(path: str, seed: int | None = None) -> Result:
    """Check one lesson file, playing it through. seed: of its varied numbers."""
    try:
        lesson = parse_file(path)
        problems = [*_terms(lesson), *_explanations(lesson)]
        return _play(lesson, problems, seed)
    except InputError as error:
        return Result(path, (Problem(error.path or path, error.line, error.reason, syntax=True),))


def _terms(lesson: Lesson) -> list[Problem]:
    """Every _term_ must be in the glossary."""
    problems = []
    for item in lesson.items:
        if isinstance(item, Text) and not item.markdown.startswith("```"):
            for offset, words in enumerate(item.markdown.split("\n")):
                problems += [
                    Problem(lesson.path, item.line + offset, f"not in the glossary: {found.group(1)}")
                    for found in TERM.finditer(words)
                    if glossary.explain(found.group(1)) is None
                ]
    return problems


def _explanations(lesson: Lesson) -> list[Problem]:
    """A wrong answer deserves an explanation: at most one choice of a question may lack it."""
    return [
        Problem(lesson.path, ask.line, "each wrong choice needs a why")
        for ask in lesson.items
        if isinstance(ask, Ask) and sum(not choice.why for choice in ask.choices) > 1
    ]


def _play(lesson: Lesson, problems: list[Problem], seed: int | None) -> Result:
    claims, absent = 0, dict[str, int]()
    with contextlib.closing(open_stage(lesson.setup)) as stage:
        cores = tuple(machine.core for machine in stage.snapshot().machines)
        missing = [core for core in lesson.needs if core not in stage.cores]
        if missing:
            return Result(lesson.path, tuple(problems), 0, cores, tuple((c, 0) for c in missing))
        player = Player(lesson, stage, seed)
        while not player.ended:
            events = player.answer(None) if player.question else player.proceed()
            for event in events:
                match event:
                    case Broken(line, message):
                        problems.append(Problem(lesson.path, line, message))
                    case Kept(kept):
                        claims += kept
                    case LeftOut(core=core):
                        absent[core] = absent.get(core, 0) + 1
                    case _:
                        pass
    claims += sum(isinstance(item, Ask) for item in lesson.items)
    problems.sort(key=lambda problem: problem.line or 0)
    return Result(lesson.path, tuple(problems), claims, cores, tuple(absent.items()))


def notes(lesson: Lesson) -> int:
    """Number of notes for the teacher."""
    return sum(isinstance(item, Note) for item in lesson.items)
