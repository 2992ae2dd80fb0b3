"""A lesson in the interface: its text, its questions, and the machines taken over and given back."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from textual.pilot import Pilot

from app.tui.app import RingscopeApp, interface
from app.tui.lanes.compose import lesson_height
from app.tui.lanes.lesson import event_block, pages, text_blocks
from app.tui.rows import screenshot_svg
from app.tui.rows.rows import row_width
from app.tui.screens.lesson import LessonScreen
from cores.lockstep.options import Options
from lessons import library, progress
from lessons.format.parser import PLACEHOLDER
from lessons.format.script import Ask
from lessons.play.events import Asked, Ended, Shown
from lessons.play.player import Player
from lessons.play.stage import open_stage
from tests.sampling import sampled

pytest.importorskip("unicorn", reason="the course's first machine is Unicorn")


@pytest.fixture(autouse=True)
def own_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATA", "RUNTIME", "CONFIG"):
        monkeypatch.setenv(f"RINGSCOPE_{name}", str(tmp_path / name))


ROWS = lesson_height(24) - 1
"""Rows of a lesson's page at 80x24."""


class Reader:
    """Presses keys, and waits for the lesson's text."""

    def __init__(self, app: RingscopeApp, pilot: Pilot[int]) -> None:
        self.app, self.pilot = app, pilot

    async def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(1500):
            if condition():
                await self.pilot.pause()
                return
            await self.pilot.pause(0.01)
        raise AssertionError(screenshot_svg.text(self.app))

    async def sees(self, words: str) -> None:
        await self.until(lambda: words in " ".join(screenshot_svg.text(self.app).split()))

    async def goes_on_to(self, words: str) -> None:
        """Read on until that text is visible."""
        for _ in range(40):
            await self.until(lambda: self.app.worker is not None and self.app.worker.idle)
            if words in " ".join(screenshot_svg.text(self.app).split()):
                return
            await self.press("enter")
        raise AssertionError(screenshot_svg.text(self.app))

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.until(lambda: self.app.worker is not None and self.app.worker.idle)
            await self.pilot.press(key)

    @property
    def instructions(self) -> int | None:
        worker = self.app.worker
        assert worker is not None
        assert worker.snapshot is not None
        return worker.snapshot.machines[0].instructions


@asynccontextmanager
async def reading(lesson: str, size: tuple[int, int]) -> AsyncIterator[Reader]:
    app = interface(None, Options())
    app.begin_with = lambda: app.show_lesson(library.find(lesson))
    async with app.run_test(size=size) as pilot:
        yield Reader(app, pilot)


async def test_a_lesson_in_the_interface() -> None:
    """Enter goes on; a reader may drive the machines, and Enter brings them back; a letter answers."""
    async with reading("two-ways", (120, 50)) as reader:
        await reader.sees("You know what an emulator is")
        await reader.goes_on_to("a b c or ↑↓ Enter answer")
        await reader.sees("c The VMM, after copying the registers.")
        at = reader.instructions
        await reader.press("n", "n", "n")
        await reader.sees("Enter back to the lesson")
        await reader.press("enter")
        await reader.until(lambda: reader.instructions == at)
        await reader.press("a")
        await reader.sees("You said a. It was b)")
        await reader.press("backspace", "q")
    assert progress.load()["two-ways"].answers


async def test_an_enter_pressed_too_early_is_kept() -> None:
    """Enter, pressed while the machines are at work, goes on with the lesson as soon as they rest."""
    async with reading("two-ways", (120, 50)) as reader:
        await reader.sees("You know what an emulator is")
        worker, gate = reader.app.worker, threading.Event()
        assert worker is not None
        worker.ask(lambda _: gate.wait(60))
        await reader.pilot.press("enter")
        await reader.sees("You know what an emulator is")
        gate.set()
        await reader.until(lambda: "You know what" not in screenshot_svg.text(reader.app))


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
async def test_it_fits(size: tuple[int, int]) -> None:
    """The text is visible at every size of terminal, down to 80x24."""
    async with reading("first-call", size) as reader:
        await reader.sees("This guest prints a line.")


async def test_a_step_is_jumped_to_by_its_title() -> None:
    """j lists the steps; after a jump the machines are in that step's state, and the lesson continues
    there."""
    async with reading("first-call", (120, 50)) as reader:
        await reader.sees("This guest prints a line.")
        await reader.press("j", *"conversation", "enter")
        await reader.sees("step 3 of 5")
        assert reader.instructions == 5
        await reader.press("G")
        await reader.sees("Glossary")
        await reader.pilot.press("escape")
        titles = [c.title for c in reader.app.get_system_commands(reader.app.screen)]
        assert {"Jump to a step of the lesson", "Next exit", "Light", "Quit"} <= set(titles)
        assert len(titles) == len(set(titles))


async def test_the_home_screen_lists_the_course() -> None:
    """A lesson is chosen on the home screen like a guest."""
    app = interface(None, Options())
    async with app.run_test(size=(120, 60)) as pilot:
        reader = Reader(app, pilot)
        await reader.sees("lesson 1")
        await pilot.press("down", "enter")
        await reader.until(lambda: isinstance(app.screen, LessonScreen))


async def test_a_lesson_plays_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a speed the lesson turns its pages, answers its questions, and ends the program."""
    app = interface(None, Options())
    app.begin_with = lambda: app.show_lesson(library.find("first-call"), speed=1000)
    async with app.run_test(size=(120, 50)) as pilot:
        await Reader(app, pilot).until(lambda: not app.is_running or app.return_code is not None)
    assert progress.load()["first-call"].done


@pytest.mark.parametrize("path", sampled(library.course_files(), 5), ids=lambda path: path.stem)
def test_no_turn_is_empty(path: Path) -> None:
    """Every stop of every lesson has text to read, within the screen's width; a question is not parted
    from its choices at 80x24."""
    lesson = library.find(str(path))
    with closing(open_stage(lesson.setup)) as stage:
        player = Player(lesson, stage)
        while not player.ended:
            events = player.answer(None) if player.question else []
            while not (player.ended or player.question or (player.at_stop and events)):
                events += player.proceed()
            blocks = text_blocks(tuple(events), 80, None)
            assert blocks or any(isinstance(event, Shown | Ended) for event in events)
            assert all(row_width(line) <= 80 for block in blocks for line in block.rows)
            if player.question is not None:
                assert blocks[-1].whole
                assert pages(blocks, ROWS)[-1][-len(blocks[-1].rows) :] == blocks[-1].rows


@pytest.mark.parametrize("path", library.course_files(), ids=lambda path: path.stem)
def test_a_question_is_one_page(path: Path) -> None:
    """Every question of the course fits on a page at 80x24, whatever values are filled in."""
    for item in library.find(str(path)).items:
        if isinstance(item, Ask):
            texts = [PLACEHOLDER.sub("1,234,567", c.text) for c in item.choices]
            asked = Asked(PLACEHOLDER.sub("1,234,567", item.question), tuple(texts))
            assert len(event_block(asked, 78).rows) <= ROWS, item.question


async def test_what_a_lesson_shows_is_seen() -> None:
    """A dialogue appears in the lesson's text, and the machine that it concerns is selected. The
    source's comments, which tell what will happen, come with the answer."""
    async with reading("first-call", (120, 40)) as reader:
        await reader.goes_on_to("a b c or ↑↓ Enter answer")
        assert "an ordinary load" not in screenshot_svg.text(reader.app)
        await reader.press("b")
        await reader.sees("an ordinary load")
        await reader.goes_on_to("Guest OS: CPU, `out 0xe9, al`: talk to a device for me.")
        screen = reader.app.screen
        assert isinstance(screen, LessonScreen)
        assert screen.looking.machine is not None
        assert screen.looking.machine.core.startswith("trap")


async def test_playing_by_itself_can_be_paused() -> None:
    """A pauses autoplay, and the reader goes on by key; A again resumes it."""
    app = interface(None, Options())
    app.begin_with = lambda: app.show_lesson(library.find("first-call"), speed=0.01)
    async with app.run_test(size=(120, 50)) as pilot:
        reader = Reader(app, pilot)
        await reader.sees("A pauses it")
        await reader.press("A")
        await reader.goes_on_to("Up to the edge")
        await reader.press("A")
        await reader.sees("A pauses it")


async def test_what_a_lesson_looks_at_is_marked() -> None:
    """The register of a focus is marked during its turn."""
    async with reading("two-ways", (120, 50)) as reader:
        await reader.goes_on_to("The values are the same.")
        screen = reader.app.screen
        assert isinstance(screen, LessonScreen)
        assert screen.looking.pointed == {"rbx"}


async def test_a_question_hides_its_answer() -> None:
    """While it is open the row that comes next has ? in every lane, and no lane foretells anything;
    an answer is marked by down, and given by Enter."""
    async with reading("two-ways", (80, 24)) as reader:
        await reader.goes_on_to("a b c or ↑↓ Enter answer")
        lines = screenshot_svg.text(reader.app).splitlines()
        assert any(line.count("?") >= 3 for line in lines)
        assert not any("will leave" in line or "never" in line for line in lines)
        await reader.press("down", "down")
        await reader.sees("▸ b")
        await reader.press("enter")
        await reader.sees("Right:")
