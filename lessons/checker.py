"""The lesson checker: parses a lesson and holds every expectation against the cores here."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from cores.errors import InputError
from cores.plural import counted
from lessons.format.expressions import ExpressionError
from lessons.format.parser import TERM, parse_file
from lessons.format.script import Ask, Lesson, Note, Quote, Text
from lessons.play.events import Broken, Event, Kept, LeftOut, Verdict
from lessons.play.player import Player
from lessons.play.stage import open_stage

from . import glossary

TIMEOUT = 300.0
"""Seconds of host time for one move of the machines: a guest may be endless."""
_SLICE = 0.5


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


def _silent(where: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Limits:
    """timeout: seconds for one move. tell: called some times a second while the machines move, with
    the place in words."""

    timeout: float = math.inf
    tell: Callable[[str], None] = _silent


def check(path: str, seed: int | None = None, limits: Limits | None = None) -> Result:
    """Check one lesson file, playing it through. seed: of its varied numbers."""
    try:
        lesson = parse_file(path)
        problems = [*_terms(lesson), *_explanations(lesson)]
        return _play(lesson, problems, seed, limits or Limits())
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
    """Every answer is explained, right or wrong, and every quotation says what to look at."""
    problems = []
    for item in lesson.items:
        match item:
            case Ask(choices=choices) if sum(not choice.why for choice in choices) > 1:
                problems.append(Problem(lesson.path, item.line, "each wrong choice needs a why"))
            case Ask(why="", choices=choices) if not all(choice.why for choice in choices):
                problems.append(Problem(lesson.path, item.line, "the right answer needs a why"))
            case Ask(why="", number=number) if number is not None:
                problems.append(Problem(lesson.path, item.line, "the right answer needs a why"))
            case Quote(look=""):
                message = 'say what to look at in this source: look = "..."'
                problems.append(Problem(lesson.path, item.line, message))
            case _:
                pass
    return problems


def _play(lesson: Lesson, problems: list[Problem], seed: int | None, limits: Limits) -> Result:
    claims, absent = 0, dict[str, int]()
    with contextlib.closing(open_stage(lesson.setup)) as stage:
        cores = tuple(machine.core for machine in stage.snapshot().machines)
        missing = [core for core in lesson.needs if core not in stage.cores]
        if missing:
            return Result(lesson.path, tuple(problems), 0, cores, tuple((c, 0) for c in missing))
        player = Player(lesson, stage, seed)
        asked: Ask | None = None
        while not player.ended:
            asked = player.question or asked
            events = player.answer(None) if player.question else _proceed(player, limits)
            for event in events:
                match event:
                    case Broken(line, message):
                        problems.append(Problem(lesson.path, line, message))
                    case Kept(kept):
                        claims += kept
                    case LeftOut(core=core):
                        absent[core] = absent.get(core, 0) + 1
                    case Verdict() if asked is not None:
                        problems += _right_called_wrong(player, asked)
                    case _:
                        pass
    claims += sum(isinstance(item, Ask) for item in lesson.items)
    problems.sort(key=lambda problem: problem.line or 0)
    return Result(lesson.path, tuple(problems), claims, cores, tuple(absent.items()))


def _proceed(player: Player, limits: Limits) -> list[Event]:
    """One item, with the whole of its move. Raises InputError where that takes too long."""
    events = player.proceed(_SLICE)
    began = monotonic()
    while (move := player.moving) is not None and not events:
        spent = monotonic() - began
        done = max((m.instructions or 0 for m in player.now.machines), default=0)
        reached = counted(done, "instruction")
        if spent > limits.timeout:
            raise InputError(
                f"given up after {spent:.0f} seconds and {reached}: is the guest endless?"
                " (limit says how many instructions, check --timeout how many seconds)",
                player.lesson.path, move.line,
            )  # fmt: skip
        number, title = player.step
        limits.tell(f"step {number}, {title}: line {move.line}, {reached}, {spent:.0f} s")
        events = player.proceed(_SLICE)
    return events


def _right_called_wrong(player: Player, ask: Ask) -> list[Problem]:
    """A [[wrong]] that speaks of the right answer, too."""
    if ask.number is None:
        return []
    truth = player.scene().value(ask.number)
    scene = player.scene({"answer": truth})
    try:
        caught = [wrong for wrong in ask.wrong if scene.holds(wrong.when)[0]]
    except ExpressionError:
        return []
    message = f"the right answer, {truth}, is called wrong by {{}}"
    return [
        Problem(player.lesson.path, ask.line, message.format(f"when = {wrong.when.text!r}"))
        for wrong in caught
    ]


def notes(lesson: Lesson) -> int:
    """Number of notes for the teacher."""
    return sum(isinstance(item, Note) for item in lesson.items)
