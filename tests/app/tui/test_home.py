"""The home screen lists and describes every shipped guest, and opens it with the options it needs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from stage import stage
from textual.widgets import OptionList

from app.tui.app import interface
from app.tui.guest_list import disk_of, shipped
from cores.lockstep.options import Options
from cores.programs.shipped import ASSETS


def test_every_program_of_the_assets_is_listed() -> None:
    """Every source, executable and image is listed with a summary of its own."""
    listed = {guest.path.name: guest for guest in shipped()}
    there = (ASSETS / "guests").iterdir()
    assert set(listed) == {path.name for path in there if path.suffix in (".s", ".elf", ".m68k")}
    assert all(guest.summary and guest.story for guest in listed.values())
    assert "only the emulator" in listed["genesis.m68k"].summary


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)], ids=lambda s: f"{s[0]}x{s[1]}")
async def test_no_summary_is_cut(size: tuple[int, int]) -> None:
    """Each guest's summary is shown whole, and the first guest to try is marked."""
    async with stage(size=size, home=True) as s:
        options = s.app.screen.query_one(OptionList)
        marked = options.get_option_at_index(options.highlighted or 0)
        assert (marked.id or "").endswith("hello.s")
        for guest in shipped():
            options.highlighted = options.get_option_index(f"guest:{guest.path}")
            await s.see(f"{guest.name:<12}{guest.summary}")


async def test_what_is_marked_is_told_about() -> None:
    """Beside the list the screen shows the comment of the selected guest's source, or a lesson's
    summary."""
    async with stage(size=(120, 40), home=True) as s:
        await s.see("nothing ever leaves.")
        options = s.app.screen.query_one(OptionList)
        options.highlighted = options.get_option_index(f"guest:{ASSETS / 'guests' / 'tinyos.s'}")
        await s.see("a disk of its own, files.img")
        await s.see("Your own hypervisor")
        await s.press("end")
        await s.see("minutes.")


async def test_a_guest_that_needs_a_disk_has_it() -> None:
    """A guest that needs a disk gets it, chosen on the home screen or by its path."""
    os.environ["RINGSCOPE_CONFIG"] = os.devnull
    path = str(ASSETS / "guests" / "file.s")
    disk = disk_of(os.path.relpath(path))
    assert disk == str(ASSETS / "disks" / "files.img")
    assert disk_of(str(Path(path).with_name("hello.s"))) is None
    app = interface(None, Options(cores=("interpreter",)))
    async with app.run_test(size=(80, 24)) as pilot:
        options = app.screen.query_one(OptionList)
        options.highlighted = options.get_option_index(f"guest:{path}")
        await pilot.press("enter")
        for _ in range(400):
            await pilot.pause(0.01)
            if app.worker is not None and app.worker.snapshot is not None:
                break
        assert app.worker is not None
        assert app.worker.snapshot is not None
        assert app.worker.snapshot.disk == disk
