"""The lab's runs: a student's VMM in a process with limits, ours in this one, held against each other.

What a student's code may do to the process it runs in is bounded in time and memory; it is not kept
from the files of its user (docs/lab.md, For teachers).
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, process_time
from types import FrameType
from typing import TextIO

from app import limits
from app.main import again
from app.own_process import OUT_OF_MEMORY, Bounds, ended_early, heard
from cores import input_file
from cores.engines import registry
from cores.errors import InputError, UnavailableError
from cores.lab.cases import Case
from cores.lab.log import Run, run_of
from cores.lab.reference import reference
from cores.lab.steps import Step
from cores.lab.student import PORTABLE, Attempt, compiled
from cores.lab.verdict import Verdict, judged

SEED = 1
"""Of the hidden guests' values, unless the user says otherwise."""
SECONDS = 10.0
"""For each case, unless the user says otherwise: a right VMM takes a tenth of a second."""
PATIENCE = 3
"""The seconds are of CPU time; on a busy computer it may take so many times as long."""
START = 20.0
"""Seconds that the process may take to begin, on a busy computer."""
MEMORY = 3 << 30
"""Bytes of address space: engine and libraries take some 0.7 GiB, step 8's guest has 0.25."""
LARGEST = 1 << 20
"""Bytes of a student's file."""
FEW_TICKS, FEW_EXITS = 20_000, 5_000
NOT_RUN = "not run, since the one before did not end"


@dataclass(frozen=True, slots=True)
class Result:
    """One case: the student's run, ours, and what is to be said of them."""

    case: Case
    student: Run
    ours: Run
    verdict: Verdict

    @property
    def name(self) -> str:
        """Of the case, for people."""
        typed = self.case.typed.replace("WORD", "...").replace("\n", "; ").rstrip("; ")
        name = f"{self.case.name} ({typed})" if typed else self.case.name
        return f"{name}, other values" if self.case.hidden else name


def results(
    step: Step, path: str, seed: int, seconds: float = SECONDS, core: str = PORTABLE
) -> list[Result]:
    """Run each case of a step. seconds: for each. core: that the student's guest runs on; ours runs on
    the portable one. Raises InputError where the file cannot be read or is no Python, UnavailableError
    where a core cannot run here."""
    for name in (PORTABLE, core):
        if (here := registry.availability(name)).reason is not None:
            raise UnavailableError(f"{name}: {here.reason}")
    compiled(source(path), path)
    cases = step.cases(seed)
    ours = [reference(case) for case in cases]
    most = Bounds(START + PATIENCE * seconds * len(cases), MEMORY)
    told = json.dumps({
        "seconds": seconds, "all": most.seconds, "memory": most.memory, "seed": seed, "core": core,
        "most": [limits_of(run) for run in ours],
    })  # fmt: skip
    words = ("check", str(step.number), path)
    code, output = heard(
        lambda number: again("lab", f"--alone={told}", *number, "--", *words), most.seconds
    )
    runs = _read(output)
    why = NOT_RUN if runs and runs[-1].late else ended_early(code, most)
    runs += [Run(words=why) for _ in cases[len(runs) :]]
    return [
        Result(case, mine, right, judged(mine, right, strict=step.strict, hidden=case.hidden))
        for case, mine, right in zip(cases, runs, ours, strict=False)
    ]


def limits_of(ours: Run) -> tuple[int, int]:
    """The ticks and the exits that a student's guest may take where ours takes so many."""
    return 3 * ours.ticks + FEW_TICKS, 4 * ours.exits + FEW_EXITS


def source(path: str) -> bytes:
    """A student's file. Raises InputError."""
    content = input_file.read(path, LARGEST, "file")
    if len(content) > LARGEST:
        raise InputError(f"too big: more than {LARGEST:,} bytes", path)
    return content


def _read(output: bytes) -> list[Run]:
    """The runs that the process has completed, a line each."""
    runs = []
    for line in output.splitlines():
        with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
            runs.append(run_of(json.loads(line)))
    return runs


# In that process


def alone(step: Step, path: str, given: str) -> int:
    """Run the cases, and print each run as a line of JSON. given: what ``results`` has told."""
    told = json.loads(given)
    limits.limit(told["memory"], int(told["all"]) + 1)
    results = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # what the student's code prints to it is no result
    code = compiled(source(path), path)
    core = told["core"]
    for case, (ticks, exits) in zip(step.cases(told["seed"]), told["most"], strict=True):
        try:
            attempt = Attempt()
            with _Watch(told["seconds"], path, attempt, lambda late: _tell(results, late)):
                done = attempt.run(code, path, case, ticks, exits, core)
        except MemoryError:
            return OUT_OF_MEMORY
        _tell(results, done)
    return 0


def _tell(results: TextIO, done: Run) -> None:
    print(json.dumps(done.plain()), file=results, flush=True)


class _Watch:
    """Ends the process when a case has taken too long, with a sentence that says where the student's
    code was."""

    def __init__(
        self, seconds: float, path: str, attempt: Attempt, tell: Callable[[Run], None]
    ) -> None:
        self._seconds, self._path, self._attempt, self._tell = seconds, path, attempt, tell
        self._main = threading.get_ident()
        self._began, self._worked = monotonic(), process_time()
        self._done = False
        self._arm(seconds)

    def _arm(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._late)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *error: object) -> None:
        self._done = True
        self._timer.cancel()

    def _late(self) -> None:
        if self._done:
            return
        left = self._seconds - (process_time() - self._worked)
        if left > 0 and monotonic() - self._began < PATIENCE * self._seconds:  # a busy computer
            self._arm(max(left, 0.05))
            self._timer.start()
            return
        words = f"stopped after {self._seconds:g} second{'s' * (self._seconds != 1)}: it does not end"
        line = _line(sys._current_frames().get(self._main), self._path)
        self._tell(self._attempt.so_far(words, line))
        os._exit(0)


def _line(frame: FrameType | None, path: str) -> int:
    """The innermost line of the student's file that is being executed, 0 for none."""
    lines = [at.lineno for at in traceback.extract_stack(frame) if at.filename == path]
    return (lines[-1] or 0) if lines else 0
