"""Leaving: Esc never leaves a session, h keeps it, q asks where something would be lost."""

from __future__ import annotations

from stage import stage

from app.tui.screens.home import HomeScreen
from app.tui.screens.leave import Leave
from app.tui.screens.machines.screen import MachinesScreen


async def test_q_asks_once_machines_have_run() -> None:
    """q quits machines that have not run; after a step it asks, and Enter and Esc stay."""
    async with stage() as s:
        await s.press("n", "q")
        assert isinstance(s.app.screen, Leave)
        await s.see("Paused after 1 instruction. Leave?")
        await s.press("enter")
        await s.see("\n 1 ")
        await s.press("q", "escape", "n")
        await s.see("\n 2 ")
        await s.pilot.press("q", "q")
    assert s.app.return_value == 0
    async with stage() as s:
        await s.pilot.press("q")
    assert s.app.return_value == 0


async def test_h_keeps_the_session_and_continue_returns_to_it() -> None:
    """h goes home and pauses the run; the first row returns to the very same machines."""
    async with stage(spin=True) as s:
        await s.pilot.press("space")
        await s.until(lambda: s.session.spun > 3, "slices of the run")
        await s.pilot.press("h")
        await s.until(lambda: isinstance(s.app.screen, HomeScreen), "the home screen")
        worker = s.app.worker
        assert worker is not None
        await s.until(lambda: worker.idle, "the pause")
        await s.see("continue")
        await s.pilot.press("enter")
        await s.until(lambda: isinstance(s.app.screen, MachinesScreen), "the same machines")
        assert len(s.sessions) == 1
        assert not s.session.closed
        await s.see("paused")


async def test_another_program_ends_a_kept_session_after_a_question() -> None:
    """At home, opening a guest while a session that has run is kept asks first; o opens it."""
    async with stage() as s:
        await s.press("n", "h")
        await s.see("continue")
        await s.press("down", "down", "enter")
        await s.see("Another program ends that session.")
        await s.press("enter")
        assert len(s.sessions) == 1
        await s.press("enter", "o")
        await s.until(lambda: len(s.sessions) == 2, "another session")
        assert s.sessions[0].closed


async def test_the_question_at_home_has_no_home() -> None:
    """q at home asks for the kept session too, and offers to stay or to quit."""
    async with stage() as s:
        await s.press("n", "h", "q")
        await s.see("Enter stay   q quit")
        await s.press("escape")
        assert isinstance(s.app.screen, HomeScreen)
