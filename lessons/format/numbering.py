"""The numbers of the course's lessons, by their names, so that one can refer to another.

A lesson's file is called NUMBER-NAME.md; only the names of the files are looked at.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

COURSE = Path(__file__).resolve().parents[1] / "course"


def course_files() -> list[Path]:
    """The course, in its order."""
    return sorted(COURSE.glob("[0-9]*.md"))


@cache
def numbers() -> dict[str, int]:
    """Name -> number: "02-first-call.md" is lesson 2, first-call."""
    parts = (path.stem.partition("-") for path in course_files())
    return {name: int(number) for number, _, name in parts}


def course_file(word: str) -> Path | None:
    """A lesson of the course by its name ("two-ways"), its number ("1") or both ("01-two-ways")."""
    for path in course_files():
        number, _, name = path.stem.partition("-")
        if word in (name, path.stem) or (word and word.lstrip("0") == number.lstrip("0")):
            return path
    return None


def is_lesson(word: str) -> bool:
    """Does the word name a lesson: a file of Markdown, or one of the course? Other files are
    programs."""
    if os.path.isfile(word):
        return word.endswith(".md")
    return course_file(word) is not None
