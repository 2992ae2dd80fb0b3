"""The machines' screen with a lesson at its foot, and the lesson's keys.

What these keys do is the lesson's controller's (machines/lesson.py).
"""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

from app.session_thread import Worker

from ..settings import Settings
from .machines.lesson import LessonController
from .machines.screen import MachinesScreen

OTHERWISE = {
    "a": "look('address')", "b": "time('step_back')", "c": "",
    "d": "time('go_to_divergence')", "e": "time('next_exit')", "f": "time('run_free')",
}  # fmt: skip
"""Actions of the letters' keys while no question waits for an answer."""


class LessonScreen(MachinesScreen):
    """The session with a lesson's page in its lower part."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "proceed", "Go on with the lesson"),
        Binding("backspace", "lesson_back", "Back in the lesson"),
        Binding("up", "mark(-1)", "Another answer, or a line up"),
        Binding("down", "mark(1)", "Another answer, or a line down"),
        Binding("j", "jump", "Jump to a step of the lesson"),
        Binding("A", "autoplay", "Let the lesson play by itself, or pause it"),
        *(Binding(letter, f"letter('{letter}')", show=False) for letter in OTHERWISE),
    ]

    def __init__(self, worker: Worker, settings: Settings, lesson: LessonController) -> None:
        super().__init__(worker, settings, lesson)
        self._lesson = lesson

    def action_proceed(self) -> None:
        self._lesson.proceed(self._end)

    def _end(self) -> None:
        self.post_message(self.Left())

    def action_mark(self, by: int) -> None:
        """Mark another answer of a question; without one the key moves through the program."""
        if self._lesson.mark(by):
            self.stale()
        else:
            self.looking.select(by)

    def action_lesson_back(self) -> None:
        self._lesson.back()

    def action_jump(self) -> None:
        self._lesson.jump(self.app.push_screen)

    def action_autoplay(self) -> None:
        self._lesson.autoplay()

    async def action_letter(self, letter: str) -> None:
        """An answer while a question waits; else the key means what it does without a lesson."""
        if not self._lesson.takes(letter) and (action := OTHERWISE[letter]):
            await self.run_action(action)
