"""The lessons that come with Ringscope, and how a reader names one."""

from __future__ import annotations

import difflib
import os
from functools import cache

from cores.errors import InputError
from lessons.format.numbering import COURSE, course_file, course_files, is_lesson, numbers
from lessons.format.parser import parse_file
from lessons.format.script import Lesson

TASKS = COURSE.parent / "tasks"
__all__ = ["COURSE", "TASKS", "course", "course_files", "find", "is_lesson", "names", "task_file"]


@cache
def course() -> tuple[Lesson, ...]:
    """All lessons of the course. Raises InputError."""
    return tuple(parse_file(str(path)) for path in course_files())


def names() -> list[str]:
    """Names of the course's lessons, in its order."""
    return list(numbers())


def find(word: str) -> Lesson:
    """A lesson by file, name or number. Raises InputError."""
    if os.path.isfile(word) or word.endswith(".md") or "/" in word:
        return parse_file(word)
    if path := course_file(word):
        return parse_file(str(path))
    close = difflib.get_close_matches(word, names(), n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "; `ringscope lessons` lists them"
    raise InputError(f"no lesson is called {word!r}{hint}")


def task_file(word: str) -> str:
    """Path of a task: a file, or the name of a shipped one. Raises InputError."""
    if os.path.isfile(word) or word.endswith(".md") or "/" in word:
        return word
    known = {path.stem: path for path in sorted(TASKS.glob("*.md"))}
    if word in known:
        return str(known[word])
    close = difflib.get_close_matches(word, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
    raise InputError(f"no task is called {word!r}; {hint}")
