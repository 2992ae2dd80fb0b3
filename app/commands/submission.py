"""A submission graded in a process of its own, with limits; whatever it does, it has a result in words.

A guest is confined by its engine; this process is the second wall, for what executes a guest in our own
(Unicorn, the decoder), and for a submission that only wants to keep the grader busy.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TypedDict

from app import limits
from app.main import again
from cores.errors import InputError
from lessons.format.task import Case, Task
from lessons.grading import Grade, Outcome, grade, missed

START = 30.0
"""Seconds that assembler and machines of a case may take to begin, on a busy computer."""
BASE = 2 << 30
"""Bytes of address space of a process with small machines: it has some 0.7 GiB."""
MOST_OUTPUT = 16 << 20
OUT_OF_TIME = [-getattr(signal, name, 0) for name in ("SIGXCPU", "SIGKILL") if hasattr(signal, name)]
"""How the system ends a process that has used up its CPU time."""
OUT_OF_MEMORY = 90
"""Exit code of a process that has come to the end of its memory."""


class Started(TypedDict, total=False):
    """Options of subprocess.Popen."""

    pass_fds: tuple[int, ...]
    start_new_session: bool


@dataclass(frozen=True, slots=True)
class Bounds:
    """seconds: of the clock, and of CPU time. memory: bytes of address space."""

    seconds: float
    memory: int


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
    return missed(task, program, _reason(code, most))


def _run(options: list[str], files: list[str], seconds: float) -> tuple[int | None, bytes]:
    """The exit code, None where the process had to be ended, and what it said."""
    with _lifeline() as (number, started):
        command = again("grade", *options, *number, "--", *files)
        output = subprocess.PIPE
        with subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL, **started) as process:
            try:
                said, _ = process.communicate(timeout=seconds)
                return process.returncode, said[:MOST_OUTPUT]
            except subprocess.TimeoutExpired:
                return None, b""
            finally:
                process.kill()


@contextlib.contextmanager
def _lifeline() -> Iterator[tuple[list[str], Started]]:
    """A pipe with which the process ends when we do, as an option of its command line and of its start;
    nothing where a process cannot be given one."""
    if os.name != "posix":
        yield [], {}
        return
    theirs, ours = os.pipe()
    try:
        yield [f"--lifeline={theirs}"], {"pass_fds": (theirs,), "start_new_session": True}
    finally:
        os.close(theirs)
        os.close(ours)


def _reason(code: int | None, most: Bounds) -> str:
    if code is None:
        return f"stopped after {most.seconds:,.0f} seconds: it does not end"
    if code in OUT_OF_TIME:
        return f"stopped: it used more than {most.seconds:,.0f} seconds of CPU time"
    if code == OUT_OF_MEMORY:
        return f"stopped: it used more than {most.memory >> 20:,} MiB of memory"
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"stopped: the process that graded it ended early ({how})"


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
