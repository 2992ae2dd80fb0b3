"""A submission's grade as text, and as Gradescope reads it."""

from __future__ import annotations

import json
import os

from app.main import printable
from app.text import lesson as lesson_text
from cores.atomic_file import Kind, replacing
from cores.errors import InputError
from lessons.grading import Grade, Outcome

_RESULTS = Kind("results for Gradescope", lambda head: head.lstrip().startswith(b"{"))


def lines(title: str, result: Grade) -> list[str]:
    """A submission's grade for people. title: of the task."""
    lines = [f"{result.program}: {title}"]
    for outcome in result.outcomes:
        points = f"{outcome.points}/{outcome.of}" if outcome.graded else f"-/{outcome.of}"
        lines.append(lesson_text.wrap(f"  {points:>6}  {_named(outcome)}", " " * 10))
        if outcome.message:
            lines.append(lesson_text.wrap(f"{' ' * 10}{outcome.message}", " " * 10))
    return [*lines, f"  {result.points} of {result.of} points\n"]


def _named(outcome: Outcome) -> str:
    return f"{outcome.name} ({outcome.case})" if outcome.case else outcome.name


def write_results(path: str, result: Grade, *, overwrite: bool) -> None:
    """Gradescope's format: score, output, and tests with score, max_score, output, visibility."""
    tests = [
        {
            "name": printable(_named(o)), "score": o.points, "max_score": o.of,
            "status": "passed" if o.points == o.of else "failed", "output": printable(o.message),
            "visibility": "after_published" if o.hidden else "visible",
        }
        for o in result.outcomes
        if o.graded
    ]  # fmt: skip
    results = {
        "score": result.points, "output": printable(result.failure), "tests": tests,
        "execution_time": round(result.seconds, 3),
    }  # fmt: skip
    try:
        with replacing(path, _RESULTS, overwrite=overwrite) as file:
            file.write(json.dumps(results, indent=2).encode() + b"\n")
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror or error}", os.fspath(path)) from None
