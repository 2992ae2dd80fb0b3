"""Helpers of the interface's tests: an app over the fake session, and golden screens.

Golden screens are text files in golden/. RINGSCOPE_GOLDEN=write makes them anew; look at the diff.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from unittest.mock import patch

from fake_session import FakeSession
from textual.pilot import Pilot

from app.text import narration
from app.tui.app import RingscopeApp
from app.tui.rows import screenshot_svg
from app.tui.rows.home import Ability
from app.tui.screens.machines.screen import MachinesScreen

GOLDEN = Path(__file__).parent / "golden"

ABILITIES = [
    Ability("interpreter", True, ("in software, Unicorn 2.1.4", "software"), "soft"),
    Ability("trap:native", True, ("on this CPU, in ring 3, held by ptrace", "this CPU"), "cpu"),
    Ability("trap:portable", True, ("software stands in for ring 3",), "soft"),
    Ability("kvm", False, ("/dev/kvm does not exist",)),
]


class Stage:
    """A running app. sessions: the fake sessions opened so far, the newest last."""

    def __init__(self, app: RingscopeApp, pilot: Pilot[int], sessions: list[FakeSession]) -> None:
        self.app, self.pilot, self.sessions = app, pilot, sessions

    @property
    def session(self) -> FakeSession:
        return self.sessions[-1]

    @property
    def screen(self) -> MachinesScreen:
        screen = self.app.screen
        assert isinstance(screen, MachinesScreen), screen
        return screen

    def text(self) -> str:
        return screenshot_svg.text(self.app)

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until another thread has made the condition true."""
        for _ in range(4_000):  # turns of the loop, not seconds: a busy computer has as many
            if condition():
                await self.pilot.pause()
                return
            await self.pilot.pause(0.005)
        raise AssertionError(f"never happened: {what}\n{self.text()}")

    async def see(self, words: str) -> None:
        await self.until(lambda: words in self.text(), f"{words!r} on the screen")

    async def press(self, *keys: str) -> None:
        """Press keys, each after the screen has processed the one before."""
        for key in keys:
            await self.pilot.press(key)
            worker = self.app.worker
            if worker is not None and worker.snapshot is not None:
                await self.until(lambda w=worker: w.idle, f"the end of {key}")  # type: ignore[misc]
                if isinstance(self.app.screen, MachinesScreen):
                    self.app.screen.tick()
            await self.pilot.pause()


@asynccontextmanager
async def stage(
    size: tuple[int, int] = (120, 40), home: bool = False, theme: str = "", **session: object
) -> AsyncIterator[Stage]:
    """The app in a terminal of that size, over ``FakeSession(**session)``, after its first frame."""
    sessions: list[FakeSession] = []
    os.environ["RINGSCOPE_CONFIG"] = os.devnull  # neither read nor written
    os.environ["RINGSCOPE_DATA"] = os.devnull

    def opener() -> FakeSession:
        sessions.append(FakeSession(**session))  # type: ignore[arg-type]  # the caller's keywords
        return sessions[-1]

    app = RingscopeApp(lambda path, disk=None: opener, lambda: ABILITIES, None if home else opener)
    if theme:
        app.theme = theme
    pace = patch.object(narration, "cycles_per_nanosecond", lambda: 3.0)  # the same on every host
    with pace:
        async with app.run_test(size=size, notifications=True) as pilot:
            here = Stage(app, pilot, sessions)
            small = size[0] < 64 or size[1] < 16
            await here.see("This computer" if home else "larger" if small else "Who executes")
            yield here
    assert all(s.closed for s in sessions)


def check_golden(name: str, text: str) -> None:
    """Compare the screen with its golden file."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("RINGSCOPE_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"the screen differs from {path.name}:\n{text}"
