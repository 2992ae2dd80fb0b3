"""Sessions saved by a key and opened again, over real machines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from app.tui.app import RingscopeApp, interface
from app.tui.rows import screenshot_svg
from app.tui.screens.ask import Ask
from app.tui.screens.open_form import OpenForm
from cores.lockstep.options import Options

GUESTS = Path(__file__).resolve().parents[3] / "assets" / "guests"
OPTIONS = Options(cores=("interpreter", "trap:portable"), ram=4 << 20)


class Desk:
    """An app, with helpers to operate it."""

    def __init__(self, app: RingscopeApp, pilot: Pilot[int]) -> None:
        self.app, self.pilot = app, pilot

    async def see(self, words: str) -> None:
        for _ in range(1000):
            if words in screenshot_svg.text(self.app):
                return
            await self.pilot.pause(0.01)
        raise AssertionError(f"{words!r} is not on the screen:\n{screenshot_svg.text(self.app)}")

    async def answer(self, key: str, text: str) -> None:
        """Press a key, and type the answer to its prompt."""
        await self.pilot.press(key)
        assert isinstance(self.app.screen, Ask)
        self.app.screen.query_one("#answer").value = text  # type: ignore[attr-defined]
        await self.pilot.press("enter")


@asynccontextmanager
async def desk(path: Path | None) -> AsyncIterator[Desk]:
    app = interface(str(path) if path else None, OPTIONS)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        yield Desk(app, pilot)


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGSCOPE_CONFIG", str(tmp_path / "config"))


async def test_a_session_is_gone_on_with_from_the_first_page(tmp_path: Path) -> None:
    """S saves a session; in another run of the program "continue" restores it, and says that the past
    before it is gone."""
    path = tmp_path / "later.ringscope"
    async with desk(GUESTS / "hello.s") as d:
        await d.see("100000")
        await d.pilot.press("e", "e")
        await d.see(" 2 × ")
        before = screenshot_svg.text(d.app)
        assert "\n 11 " in before
        await d.answer("S", str(path))
        await d.see("Saved")
    async with desk(None) as d:
        await d.see("continue")
        await d.pilot.press("enter")
        await d.see("\n 11 ")
        await d.pilot.press("b")
        await d.see("the past that can be gone back to begins at instruction 11")
        assert "\n 11 " in screenshot_svg.text(d.app)
        await d.pilot.press("e")
        await d.see(" 3 × ")


async def test_a_session_is_opened_as_a_file(tmp_path: Path) -> None:
    """o opens a session's file as it opens a program's."""
    path = tmp_path / "later.ringscope"
    async with desk(GUESTS / "hello.s") as d:
        await d.see("100000")
        await d.pilot.press("n")
        await d.answer("S", str(path))
        await d.see("Saved")
        await d.pilot.press("h")
        await d.pilot.press("o")
        assert isinstance(d.app.screen, OpenForm)
        d.app.screen.query_one("#path", Input).value = str(path)
        await d.see("a session that was saved")
        await d.pilot.press("enter")
        await d.see("\n 1 ")


async def test_what_cannot_be_saved_is_said_in_a_line(tmp_path: Path) -> None:
    """An unwritable place, or a machine without saved sessions, gives one line; the session goes on."""
    async with desk(GUESTS / "hello.s") as d:
        await d.see("100000")
        await d.answer("S", str(tmp_path / "nowhere" / "x"))
        await d.see("cannot write")
        await d.pilot.press("n")
        await d.see("\n 1 ")
    async with desk(GUESTS / "genesis.m68k") as d:
        await d.see("supervisor")
        await d.answer("S", str(tmp_path / "x"))
        await d.see("only sessions of x86 machines can be saved")


async def test_a_damaged_session_is_refused_in_a_line(tmp_path: Path) -> None:
    """The reason is shown, and h leads back to the home screen."""
    path = tmp_path / "bad.ringscope"
    path.write_bytes(b"Ringscope session 2\njunk")
    async with desk(None) as d:
        await d.see("This computer")
        await d.pilot.press("o")
        d.app.screen.query_one("#path", Input).value = str(path)
        await d.pilot.press("enter")
        await d.see("a damaged session")
        await d.pilot.press("h")
        await d.see("This computer")


async def test_a_file_of_another_kind_stays(tmp_path: Path) -> None:
    """S overwrites a saved session, but no file of another kind."""
    path = tmp_path / "notes.md"
    path.write_text("mine\n")
    async with desk(GUESTS / "hello.s") as d:
        await d.see("100000")
        await d.answer("S", str(path))
        await d.see("choose another")
        assert path.read_text() == "mine\n"
        path.unlink()
        for _ in range(2):
            await d.answer("S", str(path))
            await d.see("goes on")
