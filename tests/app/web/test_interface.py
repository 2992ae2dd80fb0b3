"""The server of interfaces: a real session over a socket, and visitors who ask for too much."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path

import aiohttp
import pytest

from app.listening import Listen
from app.main import again
from app.web.interface import LARGEST, Interfaces
from app.web.server import serve
from app.web.visitor import Limits, Visitor

HERE = Listen("127.0.0.1", 0)
ECHO = """
import os, sys
os.write(1, b"__GANGLION__\\n")
while head := os.read(0, 5):
    content = os.read(0, int.from_bytes(head[1:], "big"))
    os.write(1, b"D" + len(content).to_bytes(4, "big") + content)
"""
"""A process that says what it is told, in the place of an interface."""
DEAF = "import signal, time\nfor n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\ntime.sleep(600)"
Start = Callable[..., Coroutine[None, None, "Site"]]


class Site:
    def __init__(self, interfaces: Interfaces, port: int, client: aiohttp.ClientSession) -> None:
        self.interfaces, self.client = interfaces, client
        self.origin = f"http://127.0.0.1:{port}"
        self.url = f"{self.origin}/{interfaces.guard.token}/"

    async def visit(self, **headers: str) -> aiohttp.ClientWebSocketResponse:
        given = {"Origin": self.origin} | headers
        return await self.client.ws_connect(f"{self.url}ws?width=100&height=30", headers=given)

    async def status(self, address: str, **headers: str) -> int:
        async with self.client.get(address, headers=headers) as response:
            return response.status


@pytest.fixture
async def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Start]:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    async with aiohttp.ClientSession() as client:
        stops = []

        async def begin(command: list[str], most: int = 2, minutes: float = 60) -> Site:
            interfaces = Interfaces("Ringscope", command, HERE, most, Limits(minutes=minutes))
            running = await serve(interfaces.application(), interfaces.guard, HERE)
            stops.append(running.stop)
            return Site(interfaces, running.port, client)

        yield begin
        for stop in stops:
            await stop()
        assert os.listdir(tmp_path) == []  # nothing of a session stays


def echo() -> list[str]:
    return [sys.executable, "-c", ECHO]


async def heard(socket: aiohttp.ClientWebSocketResponse, wanted: bytes) -> None:
    """Wait until the session has said that."""
    said = b""
    while wanted not in said:
        said += await socket.receive_bytes()


async def test_a_visitor_plays_and_opens_no_file(start: Start) -> None:
    """A real interface is drawn, and takes keys; the server's files are not for it; its process and its
    folder end with the socket."""
    site = await start(again("serve", "--memory=1024", "--cpu=60", "--visitor"))
    socket = await site.visit()
    await heard(socket, b"Start here")
    await socket.send_str(json.dumps(["stdin", "o"]))
    await heard(socket, b"texts")
    await socket.close()


async def test_pages_need_the_token_and_sockets_our_origin(start: Start) -> None:
    """Without the token there is nothing; a socket of another page's, or of none, is refused."""
    site = await start(echo())
    assert await site.status(site.url) == 200
    for name in ("page.js", "page.css", "textual.js", "xterm.css", "mono.ttf", "mono-italic.ttf"):
        assert await site.status(site.url + name) == 200
    for path in ("/", "/ws", "/static/js/textual.js", "/download/x"):
        assert await site.status(site.origin + path) == 404
    assert await site.status(site.url + "serve.py") == 404
    for origin in ("http://elsewhere.example", "null", ""):
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            await site.visit(Origin=origin)
    assert site.interfaces.visitors == {}


async def test_nonsense_is_left_out_and_too_much_ends_the_session(start: Start) -> None:
    """Messages that are none do nothing; one that is too long closes the socket."""
    site = await start(echo())
    socket = await site.visit()
    nonsense = (
        "",
        "[",
        "1",
        '["stdin"]',
        '["stdin", 1]',
        '["resize", {"width": "x"}]',
        "[" * 5000,
        '{"a": 1}',
    )
    for text in nonsense:
        await socket.send_str(text)
    await socket.send_bytes(b"\xff" * 100)
    await socket.send_str('["ping", "x"]')
    assert await socket.receive_str() == '["pong", "x"]'
    await socket.send_str('["resize", {"width": 1000000, "height": -5}]')
    await heard(socket, b'"width": 400, "height": 10')
    await socket.send_str(json.dumps(["stdin", "hello"]))
    await heard(socket, b"hello")
    await socket.send_str("x" * (LARGEST + 1))
    assert (await socket.receive()).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
    assert socket.close_code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG


async def test_so_many_visitors_and_no_more(start: Start) -> None:
    """A visitor more than there are places is told so; a place that is left is free again."""
    site = await start(echo(), most=1)
    socket = await site.visit()
    assert await site.status(site.url) == 503
    with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
        await site.visit()
    await socket.close()
    while site.interfaces.visitors:
        await asyncio.sleep(0)
    assert await site.status(site.url) == 200


async def test_a_session_ends_with_its_time(start: Start) -> None:
    """After its minutes a session is closed, whatever it does."""
    site = await start(echo(), minutes=0.0001)
    socket = await site.visit()
    assert (await socket.receive()).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)


async def test_a_process_ends_with_the_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A process that is deaf is killed; nothing of it stays."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("app.web.visitor.GRACE", 0.1)
    async with Visitor([sys.executable, "-c", DEAF], 80, 24) as visitor:
        process = visitor._process
    assert process.returncode == -signal.SIGKILL
    assert os.listdir(tmp_path) == []


def limited(body: str, *, memory: int = 512 << 20, cpu: int = 60) -> subprocess.CompletedProcess[str]:
    code = f"from app import limits\nlimits.limit({memory}, {cpu})\n{body}"
    root = Path(__file__).parents[3]
    return subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)


@pytest.mark.full  # it uses up a second
def test_cpu_time_is_limited() -> None:
    """A process ends with its CPU time."""
    assert limited("while True: pass", cpu=1).returncode in (-signal.SIGXCPU, -signal.SIGKILL)


def test_memory_is_limited() -> None:
    """The memory of a process has an end, and that of its children."""
    assert "MemoryError" in limited("b = bytearray(600 << 20)").stderr
    child = "[sys.executable, '-c', 'bytearray(600 << 20)']"
    inherited = f"import subprocess, sys\nprint(subprocess.run({child}).returncode)"
    assert limited(inherited).stdout == "1\n"


def test_a_process_does_not_outlive_the_other_end_of_its_lifeline(tmp_path: Path) -> None:
    """When whoever holds the pipe is gone, in whichever way, the process ends; its folder is gone."""
    folder = tmp_path / "folder"
    folder.mkdir()
    theirs, ours = os.pipe()
    end = f"limits.end_with({theirs}, {str(folder)!r})"
    code = f"import time\nfrom app import limits\n{end}\ntime.sleep(600)"
    root = Path(__file__).parents[3]
    with subprocess.Popen([sys.executable, "-c", code], cwd=root, pass_fds=(theirs,)) as process:
        os.close(theirs)
        os.close(ours)
        assert process.wait() == -signal.SIGKILL
    assert not folder.exists()
