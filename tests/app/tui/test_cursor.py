"""The cursor in the code: breakpoints and runs by key."""

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


async def test_a_breakpoint_at_the_cursor() -> None:
    """c and down mark a line; x sets a breakpoint there, and clears it again."""
    async with stage(size=(160, 48)) as s:
        await s.press("c", "down", "down", "up", "x")
        assert s.screen.time.addresses == {s.screen.looking.cursor} == {0x100001}
        await s.see("◆›100001")
        await s.see("breakpoint here")
        await s.press("x")
        assert not s.screen.time.addresses


async def test_a_run_to_the_cursor() -> None:
    """Enter and H run the machines to the cursor; no breakpoint remains."""
    for key in ("enter", "H"):
        async with stage() as s:
            await s.press("c", "end", "up", "up", "up", key)
            here = s.session.moments[s.session.n].registers["rip"]
            assert here == 0x100016
            assert s.screen.looking.cursor is None
            assert not s.screen.time.addresses


async def test_the_cursor_stays_inside_the_code() -> None:
    """Home and end are its limits; Esc removes the cursor, and no more."""
    async with stage(size=(80, 24)) as s:
        await s.press("c", "home", "up")
        assert s.screen.looking.cursor == 0x100000
        await s.press("end", "down", "pagedown")
        assert s.screen.looking.cursor == 0x10001B
        await s.see("›10001b")
        await s.press("escape")
        assert s.screen.looking.cursor is None
        await s.press("escape")
        assert s.screen.is_current


async def test_memory_at_the_cursor() -> None:
    """a proposes the cursor's address; opening the inside of a machine removes the cursor."""
    async with stage() as s:
        await s.press("c", "down", "a", "enter")
        await s.see("at 100001")
        assert s.screen.looking.cursor is None
        await s.press("c")
        assert s.screen.looking.cursor == 0x100000
        assert "[memory]" not in s.text()


@pytest.mark.parametrize("name", ["tasks.s", "genesis.m68k"])
async def test_the_cursor_goes_beyond_the_snapshot(name: str) -> None:
    """On a real machine, down goes past the end of the snapshot's code, up returns over the same lines,
    and machines run to a place beyond the snapshot."""
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
        await pilot.press("c")
        passed = [screen.looking.cursor]
        for _ in range(45):
            await pilot.press("down")
            await until(lambda: worker.idle)
            screen.tick()
            passed.append(screen.looking.cursor)
        assert len(set(passed)) > len(known)
        assert screen.looking.cursor not in known
        assert f"›{screen.looking.cursor:6x}" in screenshot_svg.text(app)
        end = screen.looking.cursor
        for address in reversed(list(dict.fromkeys(passed))[:-1]):
            await pilot.press("up")
            await until(lambda: worker.idle)
            screen.tick()
            assert screen.looking.cursor == address
        assert screen.looking.cursor == passed[0] != end


async def test_data_of_the_source_is_no_code() -> None:
    """Data of a directive is shown as its source line, without a gutter sign."""
    os.environ["RINGSCOPE_CONFIG"] = os.devnull
    options = Options(cores=("trap:portable",))
    app = interface(str(ASSETS / "guests" / "hello.s"), options)
    async with app.run_test(size=(160, 60)) as pilot:
        for _ in range(400):
            if "hlt" in screenshot_svg.text(app):
                break
            await pilot.pause(0.01)
        line = next(line for line in screenshot_svg.text(app).splitlines() if "10001a" in line)
        assert '.asciz  "Hello from ring 0' in line
        assert "⇄" not in line
