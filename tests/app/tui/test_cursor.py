"""The cursor in the code: breakpoints and runs by keys alone."""

from __future__ import annotations

from stage import stage

from app.tui.screens.home import HomeScreen


async def test_a_breakpoint_at_the_cursor() -> None:
    """c and down point at a line, which is marked; x sets a breakpoint there, and clears it again."""
    async with stage(size=(160, 48)) as s:
        await s.press("c", "down", "down", "up", "x")
        assert s.screen.addresses == {s.screen.cursor} == {0x100001}
        await s.see("◆›100001")
        await s.see("breakpoint here")
        await s.press("x")
        assert not s.screen.addresses


async def test_a_run_to_the_cursor() -> None:
    """Enter, or h, runs until the machines stand there; no breakpoint stays behind."""
    for key in ("enter", "h"):
        async with stage() as s:
            await s.press("c", "end", "up", "up", "up", key)
            here = s.session.moments[s.session.n].registers["rip"]
            assert here == 0x100016
            assert s.screen.cursor is None
            assert not s.screen.addresses


async def test_the_cursor_stays_inside_the_code() -> None:
    """Home and end are its ends; Esc takes the cursor away before it leaves the screen."""
    async with stage(size=(80, 24)) as s:
        await s.press("c", "home", "up")
        assert s.screen.cursor == 0x100000
        await s.press("end", "down", "pagedown")
        assert s.screen.cursor == 0x10001B
        await s.see("›10001b")
        await s.press("escape")
        assert s.screen.cursor is None
        await s.press("escape")
        assert isinstance(s.app.screen, HomeScreen)


async def test_memory_at_the_cursor() -> None:
    """a proposes the cursor's address; opening the inside of a machine takes the cursor away."""
    async with stage() as s:
        await s.press("c", "down", "a", "enter")
        await s.see("at 100001")
        assert s.screen.cursor is None
        await s.press("c")
        assert s.screen.cursor == 0x100000
        assert "[memory]" not in s.text()
