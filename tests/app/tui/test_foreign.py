"""A program for a Motorola 68000 in the interface, over the real machine."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from app.tui.app import interface
from app.tui.rows import screenshot_svg
from cores.lockstep.options import Options

GENESIS = Path(__file__).resolve().parents[3] / "assets" / "guests" / "genesis.m68k"


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)], ids=lambda s: f"{s[0]}x{s[1]}")
async def test_a_68000_program_opens_with_its_own_registers(size: tuple[int, int]) -> None:
    """The screen shows a 68000's registers and code; steps, seeks, sheets and a run to the end work."""
    os.environ["RINGSCOPE_CONFIG"] = os.devnull
    app = interface(str(GENESIS), Options())
    async with app.run_test(size=size) as pilot:

        async def until(words: str) -> None:
            for _ in range(400):
                if words in re.sub("(?<=d0) +", " ", screenshot_svg.text(app)):
                    return
                await pilot.pause(0.01)
            raise AssertionError(f"{words!r} is not on the screen:\n{screenshot_svg.text(app)}")

        await until("lea.l   $105c(pc), a0")
        for words in ("Where d0 to a7 live", "supervisor", "a7 ", "one machine"):
            assert words in screenshot_svg.text(app)
        await pilot.press("n", "n")
        await until("d0 49*")
        await pilot.press("b")
        await until("\n 1 ")
        for key in ("m", "t", "T", "R", "D", "N", "v", "question_mark"):  # what only a PC has, too
            await pilot.press(key)
            await pilot.pause(0.05)
            await pilot.press("escape")
        await pilot.press("w", "w", "up", "enter", "escape", "E", "d", "space")
        await until("powered off")
        assert "954" in screenshot_svg.text(app)
    assert app.return_value is None
