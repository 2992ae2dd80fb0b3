"""The course's table of contents, read from the front matter alone: a list of lessons is there at
once, where parsing all of them takes a tenth of a second."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from lessons.format.numbering import course_files

TOUR = Path(__file__).resolve().parent / "tour.md"
"""The way round in 90 seconds, which is no lesson of the course."""
FENCE = "+++"


@dataclass(frozen=True, slots=True)
class Entry:
    """A lesson. number: its place in the course. name: that of its file, without the number.
    minutes: for a reader. steps: its headings."""

    number: int
    name: str
    title: str
    summary: str
    minutes: int
    steps: int


def contents() -> list[Entry]:
    """The course; files that are no lessons are left out, whatever is wrong with them."""
    return [entry for entry in map(_entry, course_files()) if entry is not None]


def _entry(path: Path) -> Entry | None:
    number, _, name = path.stem.partition("-")
    try:
        _, front, text = path.read_text(encoding="utf-8").split(FENCE, 2)
        found = tomllib.loads(front)
        return Entry(
            int(number), name, str(found["title"]), str(found["summary"]), int(found["minutes"]),
            text.count("\n## "),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return None
