"""A submission graded in a process of its own, with limits; whatever it does, it has a result in words.

A guest is confined by its engine; this process is the second wall, for what executes a guest in our own
(Unicorn, the decoder), and for a submission that only wants to keep the grader busy.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict

from app import limits
from app.main import again
from app.own_process import OUT_OF_MEMORY, Bounds, ended_early, heard
from cores.errors import InputError
from lessons.format.task import Case, Task
from lessons.grading import Grade, Outcome, grade, missed

START = 30.0
"""Seconds that assembler and machines of a case may take to begin, on a busy computer."""
BASE = 2 << 30
"""Bytes of address space of a process with small machines: it has some 0.7 GiB."""


def bounds(task: Task, timeout: float | None) -> Bounds:
    """What a submission to this task may use."""
    cases = [item for item in task.items if isinstance(item, Case)]
    seconds = sum((case.seconds if timeout is None else timeout) + START for case in cases)
    # Each machine has its RAM and a twin of it, and the interpreter maps it, too.
    return Bounds(seconds, BASE + 8 * max((case.setup.ram for case in cases), default=0))


def graded(task: Task, program: str, seed: int | None, timeout: float | None) -> Grade:
    """Grade one program in a process of its own. Raises InputError where the task itself is wrong."""
    most = bounds(task, timeout)
    options = [f"--alone={json.dumps(asdict(most))}"]
    options += [] if seed is None else [f"--seed={seed}"]
    options += [] if timeout is None else [f"--timeout={timeout}"]
    code, output = _run(options, [task.path, program], most.seconds)
    if code == 0:
        with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
            return _read(json.loads(output))
    return missed(task, program, ended_early(code, most))


def _run(options: list[str], files: list[str], seconds: float) -> tuple[int | None, bytes]:
    """The exit code, None where the process had to be ended, and what it said."""
    return heard(lambda number: again("grade", *options, *number, "--", *files), seconds)


def alone(task: Task, program: str, seed: int | None, timeout: float | None, given: str) -> int:
    """In that process: grade, and print the result. given: the bounds."""
    most = Bounds(**json.loads(given))
    limits.limit(most.memory, int(most.seconds) + 1)
    try:
        result = grade(task, program, seed, timeout)
    except MemoryError:
        return OUT_OF_MEMORY
    except InputError as error:
        print(json.dumps({"wrong": [error.reason, error.path, error.line]}))
        return 0
    print(json.dumps(asdict(result)))
    return 0


def _read(value: dict[str, object]) -> Grade:
    """A result as it was printed. Raises InputError where the task was found to be wrong."""
    match value:
        case {"wrong": [str(reason), (str() | None) as path, (int() | None) as line]}:
            raise InputError(reason, path, line)
        case {
            "program": str(program),
            "outcomes": list(found),
            "failure": str(failure),
            "seconds": float(s),
        }:
            return Grade(program, tuple(Outcome(**one) for one in found), failure, s)
    raise ValueError(value)
