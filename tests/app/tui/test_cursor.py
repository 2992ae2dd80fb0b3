"""Lines of the program, picked by key: breakpoints, runs, and what is told of them."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from stage import stage

from app.tui.app import interface
from app.tui.rows import screenshot_svg
from app.tui.screens.machines.screen import MachinesScreen
from cores.lockstep.options import Options
from cores.programs.shipped import ASSETS


async def test_a_breakpoint_at_a_picked_line() -> None:
    """down picks a line; x sets a breakpoint there, and clears it again."""
    async with stage(size=(160, 48)) as s:
        await s.press("down", "down", "up", "x")
        assert s.screen.time.addresses == {s.screen.looking.picked} == {0x100001}
        await s.see("pick ◆   100001")
        await s.see("break here")
        await s.press("x")
        assert not s.screen.time.addresses


async def test_a_run_to_a_picked_line() -> None:
    """u runs the machines to it; no breakpoint remains, nor the pick."""
    async with stage() as s:
        await s.press("end", "up", "up", "up", "u")
        here = s.session.moments[s.session.n].registers["rip"]
        assert here == 0x100016
        assert s.screen.looking.picked is None
        assert not s.screen.time.addresses


async def test_a_picked_line_is_told_of() -> None:
    """Three ways speak of it: what would happen, in the present tense."""
    async with stage() as s:
        await s.press("e", "end", "up", "up", "up")
        assert s.screen.looking.picked == 0x100016
        await s.press("down")
        await s.see("The CPU refuses it: privileged, and this is ring 3 (#GP). The VMM does it.")


async def test_picking_stays_inside_the_program() -> None:
    """Home and end are its limits; Esc lets the line go."""
    async with stage(size=(80, 24)) as s:
        await s.press("home", "up")
        assert s.screen.looking.picked == 0x100000
        await s.press("end", "down", "pagedown")
        assert s.screen.looking.picked == 0x10001B
        await s.see("›     hlt")
        await s.press("escape")
        assert s.screen.looking.picked is None


async def test_memory_at_a_picked_line() -> None:
    """a proposes its address."""
    async with stage() as s:
        await s.press("down", "a", "enter")
        await s.see("at 100001")


@pytest.mark.parametrize("name", ["tasks.s", "genesis.m68k"])
async def test_picking_goes_beyond_the_snapshot(name: str) -> None:
    """On a real machine, down goes past the end of the snapshot's code, and up returns over the same
    lines."""
    os.environ["RINGSCOPE_CONFIG"] = os.devnull
    app = interface(str(ASSETS / "guests" / name), Options(cores=("interpreter",)))
    async with app.run_test(size=(80, 24)) as pilot:

        async def until(condition: Callable[[], object]) -> None:
            for _ in range(400):
                if condition():
                    return
                await pilot.pause(0.01)
            raise AssertionError(screenshot_svg.text(app))

        await until(lambda: app.worker is not None and app.worker.snapshot is not None)
        screen, worker = app.screen, app.worker
        assert isinstance(screen, MachinesScreen)
        assert worker is not None
        assert worker.snapshot is not None
        known = {line.address for line in worker.snapshot.machines[0].code}
        await pilot.press("down")
        passed = [screen.looking.picked]
        for _ in range(45):
            await pilot.press("down")
            await until(lambda: worker.idle)
            screen.tick()
            passed.append(screen.looking.picked)
        assert len(set(passed)) > len(known)
        assert screen.looking.picked not in known
        assert "›" in screenshot_svg.text(app)
        end = screen.looking.picked
        for address in reversed(list(dict.fromkeys(passed))[:-1]):
            await pilot.press("up")
            await until(lambda: worker.idle)
            screen.tick()
            assert screen.looking.picked == address
        assert screen.looking.picked == passed[0] != end


async def test_data_of_the_source_is_no_code() -> None:
    """Data of a directive is shown as its source line, without a gutter sign."""
    os.environ["RINGSCOPE_CONFIG"] = os.devnull
    options = Options(cores=("trap:portable",))
    app = interface(str(ASSETS / "guests" / "hello.s"), options)
    async with app.run_test(size=(160, 70)) as pilot:
        for _ in range(400):
            if "hlt" in screenshot_svg.text(app):
                break
            await pilot.pause(0.01)
        line = next(line for line in screenshot_svg.text(app).splitlines() if "10001a" in line)
        assert '.asciz  "Hello from ring 0' in line
        assert "⇄" not in line
