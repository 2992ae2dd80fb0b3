"""A lesson in the interface: its words, its questions, and the machines taken over and given back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot

from app.tui import picture
from app.tui.lesson_app import LessonApp
from lessons import library, progress


@pytest.fixture(autouse=True)
def own_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATA", "RUNTIME", "CONFIG"):
        monkeypatch.setenv(f"RINGSCOPE_{name}", str(tmp_path / name))


async def until(pilot: Pilot[int], app: LessonApp, condition: Callable[[], bool]) -> None:
    """Wait for what the worker's thread brings about."""
    for _ in range(1000):
        if condition():
            await pilot.pause()
            return
        await pilot.pause(0.005)
    raise AssertionError(picture.text(app))


async def says(pilot: Pilot[int], app: LessonApp, words: str) -> None:
    await until(pilot, app, lambda: words in picture.text(app))


async def test_a_lesson_in_the_interface() -> None:
    """Enter goes on and answers; a reader may drive the machines, and Enter brings them back."""
    app = LessonApp(library.find("two-ways"))
    async with app.run_test(size=(120, 50)) as pilot:
        await says(pilot, app, "You know what an emulator is")
        await pilot.press("enter")
        await says(pilot, app, "So who computed the sum on the trap core?")
        await pilot.press("n", "n", "n")
        worker = app.worker
        assert worker is not None
        await until(
            pilot,
            app,
            lambda: worker.snapshot is not None and worker.snapshot.machines[0].instructions == 8,
        )
        await pilot.press("enter", "a", "enter")
        await says(pilot, app, "You said a. It was b) The CPU itself.")
        assert worker.snapshot is not None
        assert worker.snapshot.machines[0].instructions == 5
        await pilot.press("J", "4", "enter")
        await says(pilot, app, "4/5 The only way out")
        await pilot.press("backspace")
        await pilot.press("q")
    assert progress.load()["two-ways"].right == 0


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
async def test_it_fits(size: tuple[int, int]) -> None:
    """The words are there at every size of terminal, down to 80x24."""
    app = LessonApp(library.find("first-call"))
    async with app.run_test(size=size) as pilot:
        await says(pilot, app, "This guest prints a line.")
        await says(pilot, app, "Enter: on")
