"""A compiled program in the interface: its source, its functions, and where it was left most."""

from __future__ import annotations

import os
from pathlib import Path

from stage import stage
from textual.pilot import Pilot

from app.tui.app import RingscopeApp, interface
from app.tui.lanes import hot
from app.tui.rows import places, screenshot_svg
from app.tui.screens.machines.screen import MachinesScreen
from cores.lockstep.options import Options
from cores.machine.report import SessionSnapshot


async def seen(app: RingscopeApp, pilot: Pilot[int], words: str) -> SessionSnapshot:
    for _ in range(4000):
        worker = app.worker
        if worker is not None and worker.idle and words in screenshot_svg.text(app):
            assert worker.snapshot is not None
            return worker.snapshot
        await pilot.pause(0.005)
    raise AssertionError(f"{words!r} never came:\n{screenshot_svg.text(app)}")


async def test_a_c_program_is_shown_by_its_source() -> None:
    """The program pane has the C source, its title the function and the file; the log names both,
    H lists the lines that left most, Enter goes there; a breakpoint is set by file and line."""
    os.environ["RINGSCOPE_CONFIG"] = os.devnull
    app = interface("cguest", Options(cores=("trap:portable",)))
    async with app.run_test(size=(120, 40)) as pilot:
        await seen(app, pilot, "_start in cguest.c")
        await pilot.press("e", "e")
        s = await seen(app, pilot, "out(0xe9, '.')")
        m = s.machines[0]
        assert [places.line(s, event.rip) for event in m.events] == ["cguest.c:5"] * 2
        assert places.function(s, m.events[0].rip).startswith("_start+")
        assert places.named(s)["cguest.c:5"] == min(a for a, n in s.lines.items() if n == 6)
        ranked = hot.choices(s, m, 90)
        assert "cguest.c:5  static void out" in next(iter(ranked))
        await pilot.press("w", "w", "w")
        await seen(app, pilot, "cguest.c:5")
        await pilot.press("H")
        await seen(app, pilot, "left its guest most")
        await pilot.press("enter")
        await seen(app, pilot, "pick ›")
        assert isinstance(app.screen, MachinesScreen)
        assert app.screen.looking.picked in ranked.values()
        await pilot.press("escape", "X")
        app.screen.time.ask_breakpoint()
        await pilot.pause()
        app.screen.query_one("#answer").value = "cguest.c:14"  # type: ignore[attr-defined]
        await pilot.press("enter", "space")
        await seen(app, pilot, "cguest.c:14")


async def test_where_a_guest_was_left_most_can_be_clicked() -> None:
    """Without debug information the list has the instructions; a row is chosen by a click."""
    async with stage() as s:
        await s.press("e", "e", "e", "e", "H")
        await s.see("left its guest most")
        line = next(
            y for y, text in enumerate(s.text().splitlines()) if "out 0xe9, al" in text and "×" in text
        )
        await s.pilot.click(offset=(50, line))
        await s.until(lambda: isinstance(s.app.screen, MachinesScreen), "the machines")
        assert s.screen.looking.picked == 0x10000F


async def test_an_emulator_has_no_such_list() -> None:
    """A machine whose guest is never left says so."""
    async with stage(cores=("interpreter",)) as s:
        await s.press("e", "H")
        await s.see("An emulator's guest is never left")


def test_files_that_are_missing_are_named(tmp_path: Path) -> None:
    """Functions are known by symbols alone."""
    s = SessionSnapshot(
        serial=0, path="x", mode="exact", running=False, compared=0, divergence=None, machines=(),
        unavailable=(), symbols={"start": 0x1000, "end": 0x1010},
    )  # fmt: skip
    assert places.function(s, 0x1000) == "start"
    assert places.function(s, 0x1017) == "end+7"
    assert places.function(s, 0xFFF) == ""
    assert places.line(s, 0x1000) == ""
