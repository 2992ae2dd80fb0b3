"""A session that shows what it has done before: so that drawing alone is measured."""

from __future__ import annotations

import threading
from dataclasses import replace

from cores.debugging.breakpoints import Breakpoint
from cores.debugging.live_session import LiveSession
from cores.lockstep.options import Options
from cores.machine.report import SessionSnapshot

from . import guests

STEPS = 64


class Replay(LiveSession):
    """All cores that run here step a little; from then on ``run`` only shows these steps again."""

    def __init__(self) -> None:
        super().__init__(guests.speak(1000), Options())
        self._pictures: list[SessionSnapshot] = []
        for _ in range(STEPS):
            self.step()
            self._pictures.append(super().snapshot())
        self._shown = 0

    def run(
        self,
        seconds: float,
        breakpoints: frozenset[Breakpoint] = frozenset(),
        steps: int | None = None,
    ) -> bool:
        threading.Event().wait(seconds)
        return True

    def snapshot(self) -> SessionSnapshot:
        self._shown += 1
        return replace(self._pictures[self._shown % STEPS], serial=self._shown)
