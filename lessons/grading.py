"""Grading: a student's guest is run in each case of a task, and held against the goals.

A submission is hostile until shown otherwise. It is assembled in a process with limits, executed by the
engines' own isolation, and stopped after the case's instructions and seconds; whatever happens, each
goal gets a result with a reason in words.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from time import monotonic

from cores.errors import InputError, RingscopeError
from cores.plural import counted
from lessons.format.expressions import Expression, ExpressionError, Value, parse
from lessons.format.parser import PLACEHOLDER
from lessons.format.task import Case, Goal, Task
from lessons.play.stage import AnyStage, open_stage
from lessons.play.values import Absent, Scene, formatted

_SLICE = 0.5


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one goal. points: given; of: possible. message: why not, "" if it was met. graded:
    False where a core that it speaks of cannot run here: it then counts neither way."""

    name: str
    case: str
    hidden: bool
    points: int
    of: int
    message: str
    graded: bool = True


@dataclass(frozen=True, slots=True)
class Grade:
    """The result of one submission. failure: why nothing could be run, "" otherwise."""

    program: str
    outcomes: tuple[Outcome, ...]
    failure: str = ""
    seconds: float = 0.0

    @property
    def points(self) -> int:
        return sum(outcome.points for outcome in self.outcomes)

    @property
    def of(self) -> int:
        return sum(outcome.of for outcome in self.outcomes if outcome.graded)

    @property
    def complete(self) -> bool:
        """Could everything be graded here?"""
        return all(outcome.graded for outcome in self.outcomes)


def seed_of(student: str) -> int:
    """A seed from a student's name or number: the same on every computer."""
    return int.from_bytes(hashlib.sha256(student.encode()).digest()[:8], "big")


def numbers(task: Task, seed: int | None) -> dict[str, Value]:
    """The task's varied numbers; without a seed the first of each."""
    chance = random.Random(seed)
    return {n: v[0] if seed is None else chance.choice(v) for n, v in task.vary.items()}


def grade(task: Task, program: str, seed: int | None = None, timeout: float | None = None) -> Grade:
    """Grade one program. timeout: seconds for each case, in place of the task's own. Raises InputError
    where the task itself is wrong."""
    began = monotonic()
    known = numbers(task, seed)
    outcomes: list[Outcome] = []
    failure = ""
    case: Case | None = None
    goals: list[Goal] = []

    def finish() -> None:
        nonlocal failure
        if case is not None and goals:
            found, reason = _run(task, case, tuple(goals), program, known, timeout)
            outcomes.extend(found)
            failure = failure or reason
            goals.clear()

    for item in task.items:
        if isinstance(item, Case):
            finish()
            case = item
        elif isinstance(item, Goal):
            goals.append(item)
    finish()
    return Grade(program, tuple(outcomes), failure, monotonic() - began)


def missed(task: Task, program: str, reason: str) -> Grade:
    """The result of a submission that could not be graded to the end: no points."""
    case: Case | None = None
    outcomes = []
    for item in task.items:
        if isinstance(item, Case):
            case = item
        elif isinstance(item, Goal) and case is not None:
            outcomes.append(Outcome(item.name, case.name, case.hidden, 0, item.points, reason))
    return Grade(program, tuple(outcomes), reason)


def _run(
    task: Task, case: Case, goals: tuple[Goal, ...], program: str, known: dict[str, Value],
    timeout: float | None,
) -> tuple[list[Outcome], str]:  # fmt: skip
    """Run one case and judge its goals. Also the reason why it could not be run, or ""."""
    typed = fill(case.setup.input, known, task.path, case.line)
    setup = replace(case.setup, guest=program, input=typed)
    try:
        with contextlib.closing(open_stage(setup)) as stage:
            ended = _to_the_end(stage, case, timeout)
            scene = Scene(stage.snapshot(), stage.snapshot(), stage.peek, known)
            return [_judged(task, case, goal, scene, ended) for goal in goals], ""
    except InputError as error:
        if error.path == task.path:
            raise
        reason = f"cannot be run: {error.reason}" + (f" (line {error.line})" if error.line else "")
    except RingscopeError as error:
        reason = f"cannot be run here: {error}"
    return [Outcome(g.name, case.name, case.hidden, 0, g.points, reason) for g in goals], reason


def _to_the_end(stage: AnyStage, case: Case, timeout: float | None) -> str:
    """Run all machines until they stop, or as far as the case allows. The reason in words if they had
    to be stopped."""
    limit = timeout if timeout is not None else case.seconds
    began = monotonic()
    running: bool | None = True
    while running is not None and (left := limit - (monotonic() - began)) > 0:
        if case.free:
            running = stage.run_free(min(left, _SLICE)) or None
            continue
        running = stage.advance(min(left, _SLICE), lambda: stage.done() >= case.limit, led=True)
        if running is True:
            return f"stopped after {counted(case.limit, 'instruction')}: it does not end"
    return "" if running is None else f"stopped after {limit:g} seconds: it does not end"


def _judged(task: Task, case: Case, goal: Goal, scene: Scene, ended: str) -> Outcome:
    """Hold one goal against the machines. A claim about a core that cannot run here is not graded."""

    def outcome(points: int, message: str, *, graded: bool = True) -> Outcome:
        return Outcome(goal.name, case.name, case.hidden, points, goal.points, message, graded=graded)

    absent = ""
    for claim in goal.claims:
        try:
            true, core = scene.holds(claim.expression)
        except Absent as error:
            absent = str(error)
            continue
        except ExpressionError as error:
            raise InputError(str(error), task.path, claim.line) from None
        if not true:
            found = "" if case.hidden else _found(claim.expression, scene, core)
            return outcome(0, "; ".join(filter(None, (ended, found, goal.hint))) or "not so")
    if absent and len(goal.claims) == 1:
        return outcome(0, f"not graded: {absent}", graded=False)
    return outcome(goal.points, "")


def _found(expression: Expression, scene: Scene, core: str) -> str:
    """The values that were found, machine by machine."""
    found = []
    for name in expression.names:
        there = tuple(core.partition(":")[0] if part == "each" else part for part in name)
        value = scene.lookup(there)
        shown = (
            repr(value if len(value) < 80 else value[:80] + " ...") if isinstance(value, str) else value
        )
        if name[0] not in scene.numbers:
            found.append(f"{'.'.join(there)} is {shown}")
    return ", ".join(dict.fromkeys(found))


def fill(text: str, known: Mapping[str, Value], path: str, line: int) -> str:
    """Fill a task's numbers into its text. Raises InputError."""

    def value(name: tuple[str, ...]) -> Value:
        if len(name) == 1 and name[0] in known:
            return known[name[0]]
        raise ExpressionError(f"a task knows its own numbers here, not {'.'.join(name)!r}")

    try:
        return PLACEHOLDER.sub(
            lambda found: formatted(parse(found.group(1)).value(value), found.group(2) or "d"), text
        )
    except ExpressionError as error:
        raise InputError(str(error), path, line) from None
