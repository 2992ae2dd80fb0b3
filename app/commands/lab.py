"""``ringscope lab``: a student writes the VMM, in eight graded steps (docs/lab.md).

Exit code of ``lab check``: 0 all points, 1 not, 2 the file cannot be read or is no Python, 3 the engine
cannot run here.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from time import monotonic

from app import lab, limits, terminal
from app.main import DIVERGED, OK, printable
from app.text import lesson as lesson_text
from app.text import reports_json
from app.text.lab_runs import side_by_side
from app.text.reports import clean
from cores.atomic_file import ANOTHER_NAME, Kind, replacing
from cores.errors import InputError
from cores.lab.cases import FOLDER, KERNEL, KERNEL_SOURCE
from cores.lab.steps import STEPS, Step, step_named
from cores.lab.student import NATIVE, PORTABLE
from cores.lockstep.options import Options
from lessons.grading import Grade, Outcome

from .check import seconds
from .grades import lines, write_results
from .options import seed

WHAT = ("new", "check", "show")
FILE = "vmm.py"
_PRINTED = 12
"""Lines that a student's code has printed, from the first and from the last."""
_WIDE = 200
"""Characters of such a line."""
_ROOT = Path(__file__).resolve().parents[2]
_GUESTS = "guests"
FILES = {
    FILE: FOLDER / "skeleton.py",
    "lab.md": _ROOT / "docs" / "lab.md",
    **{f"{_GUESTS}/{source.name}": source for source in sorted(FOLDER.glob("*.s"))},
}
"""What ``lab new`` writes, and what of: a file to begin with, the manual, and the guests' sources."""
_NEW = Kind("ours to write", lambda _: False, ANOTHER_NAME)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("what", metavar="new | check | show", nargs="?",
        help="write a file to begin with; hold it against our VMM; see both side by side")  # fmt: skip
    add("step", metavar="STEP | DIR", nargs="?",
        help=f"1 to {len(STEPS)}; with new, a directory (default: this one)")  # fmt: skip
    add("file", metavar="FILE", nargs="?", help=f"the VMM (default {FILE})")
    add("--seed", type=seed, metavar="N", default=lab.SEED, help="vary the hidden guests' values")
    add("--timeout", type=seconds, metavar="SECONDS", default=lab.SECONDS, help="for each guest")
    add("--core", choices=(PORTABLE, NATIVE), default=PORTABLE, metavar="CORE",
        help=f"{NATIVE}: the guest on this CPU itself, stepped (default {PORTABLE})")  # fmt: skip
    add("--json", action="store_true", help="one JSON object instead of text")
    add("--gradescope", metavar="FILE", help="write Gradescope's results.json")
    add("--overwrite", action="store_true", help="whatever the file of --gradescope has been so far")
    # What a student's own process is started with: its bounds, and the number of its lifeline.
    add("--alone", help=argparse.SUPPRESS)
    add("--lifeline", type=int, help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    if arguments.what is None:
        _list()
        return OK
    if arguments.what not in WHAT:
        raise InputError(f"{arguments.what[:40]!r} is none of {', '.join(WHAT)}")
    if arguments.what == "new":
        if arguments.file is not None:
            raise InputError("lab new takes one directory")
        return _new(Path(arguments.step if arguments.step is not None else "."))
    if arguments.step is None:
        raise InputError(
            f"which step? ringscope lab {arguments.what} STEP [FILE], with a step"
            f" from 1 to {len(STEPS)}; FILE is {FILE} unless you name one"
        )
    step, path = step_named(arguments.step), arguments.file or FILE
    if arguments.alone is not None:
        if arguments.lifeline is not None:
            limits.end_with(arguments.lifeline)
        return lab.alone(step, path, arguments.alone)
    if arguments.what == "show":
        return _show(step, path, arguments)
    return _check(step, path, arguments)


def _show(step: Step, path: str, arguments: argparse.Namespace) -> int:
    """Both VMMs side by side: on a terminal the interface, else text."""
    results = lab.results(step, path, arguments.seed, arguments.timeout, arguments.core)
    if not terminal.is_capable():
        print(clean("\n\n".join(side_by_side(result) for result in results)))
        return OK if all(result.verdict.passed for result in results) else DIVERGED
    from app.tui.app import run_interface

    def again() -> list[lab.Result]:
        return lab.results(step, path, arguments.seed, arguments.timeout, arguments.core)

    return run_interface(None, Options(), lab=(f"step {step.number}, {step.title}", results, again))


def _list() -> None:
    print(
        "The hypervisor lab: write the VMM yourself, in Python, on an engine that only\n"
        "enters the guest and says why it came back. Its manual is docs/lab.md, which\n"
        "`lab new` lays beside your file.\n"
    )
    for step in STEPS:
        print(f"  {step.number}  {step.title}")
        print(lesson_text.wrap(f"     {step.task}", " " * 5))
    print(
        f"\nBegin with `ringscope lab new DIR`, which writes {FILE}, and hold it against our\n"
        f"VMM with `ringscope lab check 1 DIR/{FILE}`."
    )


def _new(directory: Path) -> int:
    try:
        there = [str(directory / name) for name in FILES if os.path.lexists(directory / name)]
        if there:
            raise InputError("already there; nothing was written", there[0])
        (directory / _GUESTS).mkdir(parents=True, exist_ok=True)
        for name, source in FILES.items():
            with replacing(directory / name, _NEW) as file:
                file.write(source.read_bytes())
    except OSError as error:
        raise InputError(error.strerror or str(error), str(directory)) from None
    except ValueError:
        raise InputError("there is a NUL in its name", str(directory)) from None
    name = printable(str(directory / FILE))
    print(f"{name} is written, a VMM that enters its guest once. Beside it are the manual, lab.md,")
    print(f"and the guests' sources, in {_GUESTS}; those of {KERNEL}, the last step's guest, are in")
    print(f"  {printable(str(KERNEL_SOURCE))}")
    print(f"Make it handle OUT, then:\n  ringscope lab check 1 {name}\n  ringscope lab show 1 {name}")
    return OK


def _check(step: Step, path: str, arguments: argparse.Namespace) -> int:
    began = monotonic()
    results = lab.results(step, path, arguments.seed, arguments.timeout, arguments.core)
    each = step.points // len(results)
    outcomes = tuple(
        Outcome(r.name, "", r.case.hidden, each if r.verdict.passed else 0, each, words)
        for r, words in zip(results, _told(results), strict=True)
    )
    grade = Grade(path, outcomes, seconds=monotonic() - began)
    if arguments.gradescope is not None:
        write_results(arguments.gradescope, grade, overwrite=arguments.overwrite)
    if arguments.json:
        print(json.dumps(_json(step, arguments.seed, grade, results), indent=2))
    else:
        print(clean("\n".join(lines(f"step {step.number}, {step.title}", grade))), end="")
        _tell_printed(results)
    return OK if grade.points == grade.of else DIVERGED


def _told(results: list[lab.Result]) -> list[str]:
    """What is wrong with each; what goes wrong before the first exit is told once."""
    told: list[str] = []
    for result in results:
        words = result.verdict.words
        told.append("the same" if not result.student.exits and words and words in told else words)
    return told


def _tell_printed(results: list[lab.Result]) -> None:
    """What the student's code has printed for the first guest that went wrong."""
    wrong = next((r for r in results if not r.verdict.passed), None)
    if wrong is not None and wrong.student.printed:
        print(f"\nYour VMM printed with {wrong.name}:")
        printed = wrong.student.printed.splitlines()
        if len(printed) > 2 * _PRINTED:
            printed[_PRINTED:-_PRINTED] = ["..."]
        print(
            clean(
                "\n".join(
                    f"  {line if len(line) <= _WIDE else line[:_WIDE] + ' ...'}" for line in printed
                )
            )
        )


def _json(step: Step, seed: int, grade: Grade, results: list[lab.Result]) -> dict[str, object]:
    return {
        "schema": reports_json.SCHEMA, "step": step.number, "title": step.title, "file": grade.program,
        "seed": seed, "points": grade.points, "of": grade.of, "seconds": round(grade.seconds, 3),
        "guests": [
            {
                "guest": result.case.name, "hidden": result.case.hidden,
                "passed": result.verdict.passed, "points": outcome.points, "of": outcome.of,
                "message": outcome.message or None, "stop": result.student.stop,
                "exit_status": result.student.status, "exits": result.student.exits,
                "console": result.student.console, "printed": result.student.printed or None,
                "differs_at": None if result.verdict.parting is None else result.verdict.parting.number,
            }
            for result, outcome in zip(results, grade.outcomes, strict=True)
        ],
    }  # fmt: skip
