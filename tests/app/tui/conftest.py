"""What all tests of the interface share: they wait for the interface itself, never for the clock."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import textual.app
import textual.pilot
from textual._context import active_app

from app.tui.screens.machines.screen import MachinesScreen


async def settle(*_: float) -> None:
    """Return once no task of the event loop can go on: all wait for a timer, a thread or a key.

    Textual's own function of this purpose sleeps in units of 20 ms, and up to a second where another
    thread of this process is busy: half of the time of these tests was spent so."""
    loop: Any = asyncio.get_running_loop()
    for _ in range(3):
        await asyncio.sleep(0)
        while loop._ready:
            await asyncio.sleep(0)
        app = active_app.get(None)
        if app is None or not app.screen_stack:
            return
        if isinstance(app.screen, MachinesScreen):
            app.screen.tick()
        app.screen._on_timer_update()  # what is to be drawn is drawn now, not at the next frame


@pytest.fixture(autouse=True)
def _settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textual.pilot, "wait_for_idle", settle)
    monkeypatch.setattr(textual.app, "wait_for_idle", settle)
