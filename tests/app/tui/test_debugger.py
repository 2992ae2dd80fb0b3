"""GDB beside the interface: both look at one session."""

from __future__ import annotations

import asyncio
import re
import socket
from pathlib import Path

import pytest
from machine_lab import require

from app.tui.app import interface
from app.tui.files import Files
from app.tui.rows import screenshot_svg
from cores.lockstep.options import Options
from tests.app.gdb.gdb_lab import Client

HELLO = Path(__file__).resolve().parents[3] / "assets" / "guests" / "hello.s"
OPTIONS = Options(cores=("interpreter", "trap:portable"), ram=4 << 20)


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGSCOPE_CONFIG", str(tmp_path / "config"))


async def test_the_debugger_moves_what_the_interface_shows() -> None:
    """F9 says where to connect; a step of the debugger's is on the screen, and a step by key is the
    debugger's to read. The end of the interface ends the connection."""
    require("trap:portable")
    app = interface(str(HELLO), OPTIONS)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:

        async def see(words: str) -> str:
            for _ in range(1000):
                if words in (text := screenshot_svg.text(app)):
                    return text
                await pilot.pause(0.01)
            raise AssertionError(f"{words!r} is not on the screen:\n{screenshot_svg.text(app)}")

        await see("100000")
        await pilot.press("f9")
        place = re.search(r"target remote 127\.0\.0\.1:(\d+)", await see("target remote"))
        assert place is not None
        channel = socket.create_connection(("127.0.0.1", int(place[1])))
        client = Client(channel)

        async def ask(payload: str) -> str:
            return await asyncio.to_thread(client.ask, payload)

        assert await ask("vCont;s:1") == "T05thread:1;"
        await see("100007")
        await pilot.press("n")
        for _ in range(1000):
            if (value := await ask("p10")) == "0900100000000000":
                break
            await pilot.pause(0.01)
        assert value == "0900100000000000"
    with channel:
        assert channel.recv(1) == b""


async def test_a_visitor_has_none(tmp_path: Path) -> None:
    """A session that is served to others takes no debugger."""
    require("trap:portable")
    app = interface(str(HELLO), OPTIONS, files=Files(tmp_path))
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        for _ in range(1000):
            await pilot.press("f9")
            if "takes no debugger" in screenshot_svg.text(app):
                return
            await pilot.pause(0.01)
        raise AssertionError(screenshot_svg.text(app))
