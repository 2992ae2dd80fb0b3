"""Every key and every palette entry, in any order and at any size, leaves the interface running."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from stage import Stage, stage
from textual.binding import Binding

from app.tui.screens.ask import Ask
from app.tui.screens.machines.screen import MachinesScreen
from tests.sampling import all_but

SIZES = [(80, 24), (120, 40), (200, 60), (40, 12), (16, 4)]
ANSWERS = [
    "",
    "100009",
    "next",
    "on io",
    "rax = 1",
    "-1",
    "99999999999999999999",
    "[",
    "x" * 300,
    "漢字",
]
LEAVE = {"app.home", "edit", "state('disk')", "app.quit", "quit", "interrupt"}


async def back(s: Stage, chance: random.Random) -> None:
    """Answer prompts and close sheets until the machines' screen is in front."""
    while not isinstance(s.app.screen, MachinesScreen):
        assert len(s.app.screen_stack) > 1
        if isinstance(s.app.screen, Ask) and chance.random() < 0.7:
            s.app.screen.query_one("#answer").value = chance.choice(ANSWERS)  # type: ignore[attr-defined]
            await s.pilot.press("enter")
        else:
            await s.pilot.press("escape")
        await s.pilot.pause()


@pytest.mark.parametrize("seed", all_but(range(4), 1, 2, 3))
async def test_every_key(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All keys of the machines' screen work in random order while the terminal changes its size."""
    monkeypatch.setenv("RINGSCOPE_PICTURES", str(tmp_path))
    chance = random.Random(seed)
    async with stage(spin=seed % 2 == 1, size=SIZES[seed]) as s:
        bindings = [b for b in MachinesScreen.BINDINGS if isinstance(b, Binding)]
        keys = [key for b in bindings if b.action not in LEAVE for key in b.key.split(",")]
        keys.append("s")
        chance.shuffle(keys)
        for key in keys:
            await s.pilot.press(key)
            if chance.random() < 0.2:
                await s.pilot.resize_terminal(*chance.choice(SIZES))
            await back(s, chance)
        await s.pilot.resize_terminal(120, 40)
        await s.pilot.press("escape", "escape")
        await s.see("Program  hello.s")


async def test_every_entry_of_the_palette(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each palette entry does what its key does, or opens the sheet of its name."""
    monkeypatch.setenv("RINGSCOPE_PICTURES", str(tmp_path))
    chance = random.Random(1974)
    async with stage() as s:
        entries = [
            entry
            for entry in s.app.get_system_commands(s.screen)
            if entry.title
            not in ("Quit", "Home; the session is kept", "Edit the program", "Load a disk image")
        ]
        assert len(entries) > 30
        for entry in entries:
            entry.callback()
            await s.pilot.pause()
            await back(s, chance)
        await s.see("Program  hello.s")
