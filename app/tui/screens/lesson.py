"""The machines' screen with a lesson at its foot, and the lesson's keys.

What these keys do is the lesson's controller's (machines/lesson.py).
"""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

from app.session_thread import Worker

from ..settings import Settings
from ..widgets.keys import Hint
from .machines.bindings import HINTS
from .machines.lesson import LessonController
from .machines.screen import MachinesScreen

LESSON_HINTS: list[Hint] = [("Enter", "on", "proceed"), ("Backspace", "back", "lesson_back"), *HINTS]

OTHERWISE = {
    "a": "look('address')", "b": "time('step_back')", "c": "look('toggle_cursor')",
    "d": "time('go_to_divergence')",
}  # fmt: skip
"""Actions of the letters' keys while no question waits for an answer."""


class LessonScreen(MachinesScreen):
    """The machines with a lesson below; where rows are few, in place of the world switches."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "proceed", "Go on with the lesson"),
        Binding("backspace", "lesson_back", "Back in the lesson"),
        Binding("j", "jump", "Jump to a step of the lesson"),
        Binding("P", "autoplay", "Let the lesson play by itself, or pause it"),
        *(Binding(letter, f"letter('{letter}')", show=False) for letter in OTHERWISE),
    ]

    def __init__(self, worker: Worker, settings: Settings, lesson: LessonController) -> None:
        super().__init__(worker, settings, lesson, LESSON_HINTS)
        self._lesson = lesson

    def action_proceed(self) -> None:
        self._lesson.proceed(self._end)

    def _end(self) -> None:
        self.post_message(self.Left())

    def action_lesson_back(self) -> None:
        self._lesson.back()

    def action_jump(self) -> None:
        self._lesson.jump(self.app.push_screen)

    def action_autoplay(self) -> None:
        self._lesson.autoplay()

    async def action_letter(self, letter: str) -> None:
        """An answer while a question waits; else the key means what it does without a lesson."""
        if not self._lesson.takes(letter):
            await self.run_action(OTHERWISE[letter])
