"""The first page: what there is to begin, in teaching order, with the learner's progress."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from stage import ABILITIES, Stage, stage

from app.tui.abilities import probe_cores
from app.tui.app import RingscopeApp, interface
from app.tui.guest_list import TEACHING, disk_of, shipped
from app.tui.rows import screenshot_svg
from app.tui.rows.home import LESSONS, START, home_rows, shown_abilities
from app.tui.screens.home import HomeScreen
from cores.lockstep.options import Options
from cores.programs.shipped import ASSETS
from lessons import contents, library, progress
from lessons.checker import check


def home(s: Stage) -> HomeScreen:
    screen = s.app.screen
    assert isinstance(screen, HomeScreen)
    return screen


def test_every_program_of_the_assets_is_listed() -> None:
    """Every source, executable and image is listed with a summary of its own, in teaching order."""
    listed = {guest.path.name: guest for guest in shipped()}
    there = (ASSETS / "guests").iterdir()
    assert set(listed) == {path.name for path in there if path.suffix in (".s", ".elf", ".m68k")}
    assert all(guest.summary and guest.story for guest in listed.values())
    assert "only the emulator" in listed["genesis.m68k"].summary
    names = [guest.name for guest in shipped()]
    assert [name for name in names if name in TEACHING] == list(TEACHING)
    assert all(len(words) <= 20 for words in TEACHING.values())


def test_the_contents_are_the_courses() -> None:
    """Reading the front matter alone gives what the parser gives."""
    course = [
        (x.number, x.name, x.title, x.summary, x.minutes, len(x.headings)) for x in library.course()
    ]
    listed = [(x.number, x.name, x.title, x.summary, x.minutes, x.steps) for x in contents.contents()]
    assert listed == course


def test_the_way_round_is_true() -> None:
    """Every claim of the tour holds on all cores here."""
    assert [str(problem) for problem in check(str(contents.TOUR)).problems] == []


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (120, 40), (160, 48)])
async def test_everything_is_in_sight(size: tuple[int, int]) -> None:
    """At each size all lessons, all guests and the cores of this computer are there, none cut away;
    where a list is longer than the screen, it says how many more there are."""
    async with stage(size=size, home=True) as s:
        await s.see("cannot")
        text = s.text()
        for words in (*(x.title for x in contents.contents()), *TEACHING, "trap and emulate"):
            assert words in text or (size[1] < 30 and "more below" in text), words
        assert max(map(len, text.splitlines())) <= size[0]


async def test_where_to_start() -> None:
    """The tour is first until something was done; then the way leads down to lessons and guests."""
    async with stage(home=True) as s:
        screen = home(s)
        assert [item.id for item in screen.shelf.page.start][:2] == ["tour", "lesson:two-ways"]
        await s.press("down", "down", "down", "down")
        assert screen.shelf.page.marked == (LESSONS, 0)
        await s.see("registers live, and who does the work?")
        await s.press("right", "down", "down")
        assert screen.marked is not None
        assert screen.marked.name == "tasks"
        await s.press("left", "home", "up")
        assert screen.shelf.page.marked[0] == START


async def test_the_marked_one_is_told_about() -> None:
    """The page shows the comment of the guest's source, and the disk it is started with."""
    async with stage(size=(120, 40), home=True) as s:
        await s.press("right", *["down"] * list(TEACHING).index("tinyos"))
        await s.see("started with a disk of its")


async def test_find() -> None:
    """/ finds a lesson or a guest by a part of its name, and begins it."""
    async with stage(home=True) as s:
        await s.press("slash", *"hello", "enter")
        await s.until(lambda: len(s.sessions) == 1, "the session")


async def test_a_click_marks_and_another_begins() -> None:
    """A click marks a line, a second one on it begins it."""
    async with stage(home=True) as s:
        screen = home(s)
        spots = screen.shelf._drawn.spots
        (x, _, y) = next(spot for spot, place in spots.items() if place == ("guests", 0))
        await s.pilot.click("#shelf", offset=(x + 4, y))
        assert screen.marked is not None
        assert screen.marked.name == "hello"
        await s.pilot.click("#shelf", offset=(x + 4, y))
        await s.until(lambda: len(s.sessions) == 1, "the session")


@pytest.mark.parametrize("size", [(1, 1), (20, 5), (59, 30), (80, 14), (300, 90)])
async def test_any_size(size: tuple[int, int]) -> None:
    """No size breaks the page; one that is too small is asked to be made larger."""
    async with stage(home=True) as s:
        page = home(s).shelf.page
        drawn = home_rows(page, *size, s.app.glyphs)
        assert len(drawn.rows) <= max(size[1], 1)


def test_one_row_for_the_trap_cores() -> None:
    """Of the two trap cores the one that runs is shown: what `trap` means here."""
    assert [a.core for a in shown_abilities(tuple(ABILITIES))] == ["interpreter", "trap:native", "kvm"]
    words = [ability.words[0] for ability in probe_cores()]
    assert all(words)


async def test_continue_is_the_last_thing_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lesson is gone on with at its step; a finished one gives way to the next lesson."""
    monkeypatch.setenv("RINGSCOPE_DATA", str(tmp_path))
    monkeypatch.setenv("RINGSCOPE_CONFIG", str(tmp_path))
    progress.save("two-ways", progress.Record(3, False, {}))
    app = interface(None, Options(cores=("interpreter",)))
    app.settings.last = "lesson:two-ways"
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        assert "continue  Two ways to run a program" in screenshot_svg.text(app)
        await pilot.press("enter")
        await until(app, pilot, "step 3 of ")
    progress.save("two-ways", progress.Record(5, True, {}))
    app = interface(None, Options())
    app.settings.last = "lesson:two-ways"
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        screen = app.screen
        assert isinstance(screen, HomeScreen)
        assert screen.shelf.page.start[1].kind == "lesson 2"


async def until(app: RingscopeApp, pilot: object, words: str) -> None:
    for _ in range(3000):
        if words in screenshot_svg.text(app):
            return
        await pilot.pause(0.01)  # type: ignore[attr-defined]
    raise AssertionError(f"{words!r} never came:\n{screenshot_svg.text(app)}")


def test_the_first_picture_waits_for_nothing_that_runs_guests() -> None:
    """Importing the interface imports no engine, decoder, assembler, or lesson parser."""
    code = "import sys, app.commands.home, app.tui.app; print(*sys.modules)"
    root = Path(__file__).resolve().parents[3]
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    ).stdout.split()
    runs_guests = ["cores.vmm.vmm", "cores.engines.base", "app.session_thread", "lessons.format.parser"]
    heavy = ["unicorn", "capstone", "keystone", *runs_guests]
    assert not {name for name in heavy if name in out}


async def test_a_guest_that_needs_a_disk_has_it() -> None:
    """A guest that needs a disk gets it, chosen on the home screen or by its path."""
    os.environ["RINGSCOPE_CONFIG"] = os.devnull
    path = str(ASSETS / "guests" / "file.s")
    disk = disk_of(os.path.relpath(path))
    assert disk == str(ASSETS / "disks" / "files.img")
    assert disk_of(str(Path(path).with_name("hello.s"))) is None
    app = interface(None, Options(cores=("interpreter",)))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("right", *["down"] * list(TEACHING).index("file"), "enter")
        for _ in range(400):
            await pilot.pause(0.01)
            if app.worker is not None and app.worker.snapshot is not None:
                break
        assert app.worker is not None
        assert app.worker.snapshot is not None
        assert app.worker.snapshot.disk == disk
