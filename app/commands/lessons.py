"""``ringscope lessons``: the course, and how far the learner is."""

from __future__ import annotations

import argparse
import shutil
import textwrap

from app.main import OK
from app.text.reports import WIDTH
from lessons import progress
from lessons.format.script import Ask, Lesson
from lessons.library import course

_NARROWEST = 24
"""Columns beside the names below which the text goes under them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    del parser


def run(arguments: argparse.Namespace) -> int:
    records = progress.load()
    lessons = course()
    names = max(len(lesson.name) for lesson in lessons)
    width = min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
    for lesson in lessons:
        title = f"{lesson.title}  ({lesson.minutes} min{_state(lesson, records.get(lesson.name))})"
        print(_entry(f"{lesson.number:>2}  {lesson.name:<{names}}", title, lesson.summary, width))
    print("\nringscope play NAME begins one.")
    return OK


def _entry(head: str, title: str, summary: str, width: int) -> str:
    """A lesson: number and name, and beside them, where there is room, what it is about."""
    if width < len(head) + _NARROWEST:
        indent = " " * 4
        parts = [
            head.rstrip(),
            *(_filled(text, width, indent, indent) for text in (title, summary)),
        ]
        return "\n".join(parts)
    indent = " " * (len(head) + 2)
    return "\n".join(
        (_filled(title, width, f"{head}  ", indent), _filled(summary, width, indent, indent))
    )


def _filled(text: str, width: int, first: str, others: str) -> str:
    return textwrap.fill(text, max(width, 20), initial_indent=first, subsequent_indent=others)


def _state(lesson: Lesson, record: progress.Record | None) -> str:
    if record is None:
        return ""
    questions = sum(isinstance(item, Ask) for item in lesson.items)
    where = "done" if record.done else f"step {record.step} of {len(lesson.headings)}"
    return f", {where}, {record.right} of {questions} answers right"
