"""The home screen's words on what is marked in its list."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from app.tui.guest_list import Guest
from app.tui.rows.rows import EMPTY, Row, boxed, fit, printable, row

from ..widgets.line_view import LineView

if TYPE_CHECKING:
    from lessons.format.script import Lesson

INDENT = 2
"""Blanks before a line that keep it a line of its own: a table, a list."""


class About(LineView):
    """A guest's description from its source, or a lesson's summary."""

    DEFAULT_CSS = "About { width: 1fr; height: 1fr; }"

    def __init__(self) -> None:
        super().__init__(id="about")
        self._title = ""
        self._lines: tuple[str, ...] = ()

    def show_guest(self, guest: Guest) -> None:
        notes = [f"{guest.summary[:1].upper()}{guest.summary[1:]}."] if guest.summary else []
        if guest.disk is not None:
            notes.append(f"It is started with a disk of its own, {guest.disk.name}.")
        story = guest.story if guest.story[:1] == ("",) else ("", *guest.story)
        self._show(guest.name, (*notes, *story))

    def show_lesson(self, lesson: Lesson) -> None:
        self._show(lesson.title, (lesson.summary, "", f"About {lesson.minutes} minutes."))

    def show_path(self, path: str) -> None:
        self._show("Where you were", (path,))

    def _show(self, title: str, lines: tuple[str, ...]) -> None:
        self._title, self._lines = title, lines
        self.redraw()

    def compose_rows(self, width: int, height: int) -> list[Row]:
        words = [line for part in paragraphs(self._lines) for line in wrapped(part, width - 4)]
        if len(words) > height - 2:
            words[height - 3 :] = [self.glyphs.more]
        rows = [row((line, "dim")) if line else EMPTY for line in words]
        title = fit(printable(self._title), min(len(self._title), width - 8), self.glyphs.more)
        return boxed(row((f" {title} ", "strong")), rows, width, height, self.glyphs, "faint")


def paragraphs(lines: tuple[str, ...]) -> list[str]:
    """Lines of running text joined; indented and empty ones stay alone."""
    parts: list[str] = []
    joined = False
    for line in map(printable, lines):
        alone = not line or line.startswith(" " * INDENT)
        if joined and not alone:
            parts[-1] += f" {line}"
        else:
            parts.append(line.rstrip())
        joined = not alone
    return parts


def wrapped(part: str, width: int) -> list[str]:
    """A paragraph in lines; those after an indented first one stand further in."""
    if not part:
        return [""]
    indent = " " * (len(part) - len(part.lstrip()) + INDENT) if part.startswith(" ") else ""
    return textwrap.wrap(part, max(20, width), subsequent_indent=indent)
