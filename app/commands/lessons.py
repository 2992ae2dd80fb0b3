"""``ringscope lessons``: the course, and how far the learner is."""

from __future__ import annotations

import argparse
import textwrap

from app.main import OK
from lessons import progress
from lessons.format.script import Ask, Lesson
from lessons.library import course


def add_arguments(parser: argparse.ArgumentParser) -> None:
    del parser


def run(arguments: argparse.Namespace) -> int:
    records = progress.load()
    for lesson in course():
        state = _state(lesson, records.get(lesson.name))
        head = f"{lesson.number:>2}  {lesson.name:<14}{lesson.title}"
        print(f"{head}  ({lesson.minutes} min{state})")
        print(textwrap.fill(lesson.summary, 78, initial_indent=" " * 18, subsequent_indent=" " * 18))
    print("\nringscope play NAME begins one.")
    return OK


def _state(lesson: Lesson, record: progress.Record | None) -> str:
    if record is None:
        return ""
    questions = sum(isinstance(item, Ask) for item in lesson.items)
    where = "done" if record.done else f"step {record.step} of {len(lesson.headings)}"
    return f", {where}, {record.right} of {questions} answers right"
