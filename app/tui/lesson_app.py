"""The interface with a lesson in it."""

from __future__ import annotations

import sys

from app.lesson_live import LessonPlay
from app.worker import Worker
from cores.session import Options
from lessons.script import Lesson

from .app import INTERRUPTED, SWITCH_INTERVAL, RingscopeApp, interface, probe_cores
from .screens.lesson import LessonScreen


class LessonApp(RingscopeApp):
    """Opens ``play`` over the home screen."""

    def __init__(self, lesson: Lesson, seed: int | None = None) -> None:
        super().__init__(interface(None, Options())._open_program, probe_cores)
        self.play = LessonPlay(lesson, seed)

    def on_mount(self) -> None:
        self.worker = Worker(self.play.open)
        self.push_screen(LessonScreen(self.worker, self.settings, self.play))


def run_lesson(lesson: Lesson, seed: int | None = None) -> int:
    """Show the lesson until the user quits; gives the exit code."""
    app = LessonApp(lesson, seed)
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        code = app.run()
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        app.close_session()
        app.play.close()
    return app.return_code or 0 if code is None else code
