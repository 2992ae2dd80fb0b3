"""Three people's ways through Ringscope, over real machines at 80x24."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.pilot import Pilot

from app.tui.app import RingscopeApp, interface
from app.tui.rows import screenshot_svg
from app.tui.screens.home import HomeScreen
from cores.engines import registry
from cores.lockstep.options import Options
from lessons import progress

CORES = ("interpreter", "trap:portable")
pytestmark = pytest.mark.skipif(
    not all(registry.availability(core).available for core in CORES), reason="Unicorn is not installed"
)


class Walk:
    """An app over real machines, with a person's patience."""

    def __init__(self, app: RingscopeApp, pilot: Pilot[int]) -> None:
        self.app, self.pilot = app, pilot

    def text(self) -> str:
        return screenshot_svg.text(self.app)

    async def see(self, *words: str) -> None:
        for _ in range(6000):
            if any(word in self.text() for word in words):
                return
            await self.pilot.pause(0.01)
        raise AssertionError(f"none of {words} came:\n{self.text()}")

    async def rest(self) -> None:
        """Wait until the machines have nothing left to do: the lesson takes no Enter before."""
        while self.app.worker is not None and not self.app.worker.idle:
            await self.pilot.pause(0.01)


@pytest.fixture(autouse=True)
def _own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGSCOPE_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("RINGSCOPE_DATA", str(tmp_path / "data"))


@asynccontextmanager
async def walk() -> AsyncIterator[Walk]:
    app = interface(None, Options(cores=CORES))
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        walker = Walk(app, pilot)
        await walker.see("Start here")
        yield walker


async def test_the_first_exit_and_its_why_are_three_keys_away() -> None:
    """Right, Enter, e: the first exit of hello, why it was one, and that the emulator stayed inside."""
    async with walk() as w:
        await w.pilot.press("right", "enter")
        await w.see("Where rax to r15 live")
        await w.pilot.press("e")
        await w.see("⇄ 1")
        text = w.text()
        assert "inside" in text
        assert "Its ring: as it believes, really" in text
        assert "out 0xe9, al → console 'H'" in text


async def test_the_tour_shows_it_too() -> None:
    """Enter, Enter, Enter: the tour stands at the first exit and says why; h leaves it, and it is not
    offered first again."""
    async with walk() as w:
        await w.pilot.press("enter")
        await w.see("Each column is a computer")
        await w.rest()
        await w.pilot.press("enter")
        await w.see("Four instructions have run")
        await w.rest()
        await w.pilot.press("enter")
        await w.see("That out wanted a device", "That `out` wanted a device")
        await w.see("⇄ 1")
        await w.pilot.press("h")
        await w.see("Start here")
        assert "continue" in w.text()


async def test_lesson_1_to_its_end() -> None:
    """Lesson 1 is played by Enter and letters at 80x24, and is marked as done on the first page."""
    async with walk() as w:
        await w.pilot.press("down", "enter")
        await w.see("Enter go on", "Enter read on")
        for _ in range(80):
            if isinstance(w.app.screen, HomeScreen):
                break
            await w.rest()
            choices_are_in_sight = "or ↑↓" in w.text()
            await w.pilot.press("b" if choices_are_in_sight else "enter")
            await w.pilot.pause(0.02)
        await w.see("Start here")
        assert progress.load()["two-ways"].done
        assert any("✓ Two ways to run" in line for line in w.text().splitlines())
