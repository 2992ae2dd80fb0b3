"""``ringscope grade TASK.md PROGRAM...``: hold students' guests against a task.

Without a program the task is printed, as its student reads it. Exit code 0: full points for each; 1:
not; 2: the task cannot be read; 3: a core that a goal speaks of cannot run here.
"""

from __future__ import annotations

import argparse
import json

from app import limits
from app.main import DIVERGED, OK, UNAVAILABLE
from app.text import lesson as lesson_text
from app.text import reports_json
from app.text.reports import clean
from cores.errors import InputError
from cores.plural import counted
from lessons.format.script import Heading, Text
from lessons.format.task import Task, parse_task
from lessons.grading import Grade, fill, numbers, seed_of
from lessons.library import task_file

from .check import seconds
from .grades import lines, write_results
from .options import seed
from .submission import alone, graded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("task", metavar="TASK", help="a task's file, or the name of a shipped one")
    add("programs", metavar="PROGRAM", nargs="*", help="what students have handed in")
    add("--seed", type=seed, metavar="N", help="vary the task's numbers")
    add("--student", metavar="NAME", help="vary them by a student's name or number")
    add("--timeout", type=seconds, metavar="SECONDS", help="for each case, in place of the task's own")
    add("--json", action="store_true", help="one JSON object instead of text")
    add("--gradescope", metavar="FILE", help="write Gradescope's results.json (one PROGRAM)")
    add("--overwrite", action="store_true", help="whatever the file of --gradescope has been so far")
    # What a submission's own process is started with: its bounds, and the number of its lifeline.
    add("--alone", help=argparse.SUPPRESS)
    add("--lifeline", type=int, help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    if arguments.seed is not None and arguments.student is not None:
        raise InputError("--seed and --student exclude each other")
    if arguments.gradescope is not None and len(arguments.programs) != 1:
        raise InputError("--gradescope is for one PROGRAM")
    task = parse_task(task_file(arguments.task))
    chosen = arguments.seed if arguments.student is None else seed_of(arguments.student)
    if not arguments.programs:
        _tell(task, chosen)
        return OK
    if arguments.alone is not None:
        if arguments.lifeline is not None:
            limits.end_with(arguments.lifeline)
        return alone(task, arguments.programs[0], chosen, arguments.timeout, arguments.alone)
    grades = [graded(task, program, chosen, arguments.timeout) for program in arguments.programs]
    if arguments.gradescope is not None:
        write_results(arguments.gradescope, grades[0], overwrite=arguments.overwrite)
    if arguments.json:
        print(json.dumps(_json(task, chosen, grades), indent=2))
    else:
        for result in grades:
            print(clean("\n".join(lines(task.title, result))))
    if not all(result.complete for result in grades):
        return UNAVAILABLE
    return OK if all(result.points == result.of for result in grades) else DIVERGED


def _tell(task: Task, chosen: int | None) -> None:
    """Print the task, with this student's numbers."""
    known = numbers(task, chosen)
    print(f"{clean(task.title)}  ({counted(task.points, 'point')}, {task.minutes} min)\n")
    print(lesson_text.wrap(clean(task.summary)))
    for item in task.items:
        if isinstance(item, Heading):
            print(f"\n{clean(item.title)}\n{'-' * len(item.title)}")
        elif isinstance(item, Text):
            print(f"\n{clean(lesson_text.paragraph(fill(item.markdown, known, task.path, item.line)))}")


def _json(task: Task, chosen: int | None, grades: list[Grade]) -> dict[str, object]:
    return {
        "schema": reports_json.SCHEMA, "task": task.title, "seed": chosen,
        "submissions": [
            {
                "program": result.program, "points": result.points, "of": result.of,
                "failure": result.failure or None, "seconds": round(result.seconds, 3),
                "goals": [
                    {
                        "name": o.name, "case": o.case, "hidden": o.hidden, "points": o.points,
                        "of": o.of, "graded": o.graded, "message": o.message or None,
                    }
                    for o in result.outcomes
                ],
            }
            for result in grades
        ],
    }  # fmt: skip
