"""The server of ``ringscope serve``: each visitor's browser gets an interface of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from pathlib import Path

import textual_serve
from aiohttp import WSMsgType, web

from app.listening import Listen
from app.text.html import escaped
from app.web.classroom import PATH
from app.web.guard import Guard
from app.web.visitor import Limits, Visitor

HERE = Path(__file__).resolve().parent
STATIC = Path(textual_serve.__file__).resolve().parent / "static"
FILES = {
    "textual.js": (STATIC / "js/textual.js", "text/javascript"),
    "xterm.css": (STATIC / "css/xterm.css", "text/css"),
    "mono.ttf": (STATIC / "fonts/RobotoMono-VariableFont_wght.ttf", "font/ttf"),
    "mono-italic.ttf": (STATIC / "fonts/RobotoMono-Italic-VariableFont_wght.ttf", "font/ttf"),
    "page.js": (HERE / "interface.js", "text/javascript"),
    "page.css": (HERE / "interface.css", "text/css"),
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; font-src 'self';"
    " connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""xterm.js writes styles of its own."""
LARGEST = 64 << 10
"""Bytes of a message, such as of a text that is pasted."""
CLOSING = 2.0
"""Seconds that a browser has to say that it has closed its side."""


class Interfaces:
    """The pages, and the visitors who are here."""

    def __init__(
        self, title: str, command: Sequence[str], where: Listen, most: int, limits: Limits
    ) -> None:
        """command: starts one interface, see ``Visitor``. most: visitors at a time."""
        self.guard = Guard(where, POLICY, most * 4 + 8)
        self.visitors: dict[web.WebSocketResponse, asyncio.Task[object]] = {}
        self._command, self._most, self._limits = command, most, limits
        page = (HERE / "interface.html").read_text(encoding="utf-8")
        self._page = page.replace("{title}", escaped(title)).encode()

    def application(self) -> web.Application:
        app = self.guard.application(LARGEST)
        app.add_routes(
            [
                web.get(PATH + "/", self._get_page), web.get(PATH + "/ws", self._get_session),
                web.get(PATH + r"/{file:[a-z-]+\.[a-z]+}", self._get_file),
            ]
        )  # fmt: skip
        app.on_shutdown.append(self._end)
        return app

    async def _get_page(self, request: web.Request) -> web.Response:
        if len(self.visitors) >= self._most:
            return web.Response(status=503, text="All places are taken. Try again later.\n")
        return web.Response(body=self._page, content_type="text/html", charset="utf-8")

    async def _get_file(self, request: web.Request) -> web.Response:
        found = FILES.get(request.match_info["file"])
        if found is None:
            raise web.HTTPNotFound(text="There is nothing here.\n")
        return web.Response(body=found[0].read_bytes(), content_type=found[1])

    async def _get_session(self, request: web.Request) -> web.StreamResponse:
        """A visitor's session, from the first picture to the end."""
        if len(self.visitors) >= self._most:
            return web.Response(status=503, text="All places are taken.\n")
        task: asyncio.Task[object] | None = asyncio.current_task()
        assert task is not None
        socket = web.WebSocketResponse(heartbeat=15, max_msg_size=LARGEST, timeout=CLOSING)
        self.visitors[socket] = task
        try:
            await socket.prepare(request)
            columns, rows = (_number(request.query.get(name, "")) for name in ("width", "height"))
            async with Visitor(self._command, columns, rows) as visitor:
                with contextlib.suppress(TimeoutError, ConnectionError):
                    async with asyncio.timeout(self._limits.minutes * 60):
                        await _talk(socket, visitor)
        finally:
            del self.visitors[socket]
            await socket.close()
        return socket

    async def _end(self, _: web.Application) -> None:
        """All sessions end with the server."""
        tasks = list(self.visitors.values())
        await asyncio.gather(
            *(socket.close() for socket in list(self.visitors)), return_exceptions=True
        )
        await asyncio.gather(*tasks, return_exceptions=True)


async def _talk(socket: web.WebSocketResponse, visitor: Visitor) -> None:
    """Carry what both sides say, until one of them ends."""

    async def shown() -> None:
        async for content in visitor.output():
            await socket.send_bytes(content)

    async def typed() -> None:
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await _obey(message.data, socket, visitor)

    sides = [asyncio.create_task(shown()), asyncio.create_task(typed())]
    try:
        done, _ = await asyncio.wait(sides, return_when=asyncio.FIRST_COMPLETED)
        for side in done:
            side.result()
    finally:
        for side in sides:
            side.cancel()
        await asyncio.gather(*sides, return_exceptions=True)


async def _obey(text: str, socket: web.WebSocketResponse, visitor: Visitor) -> None:
    """A message of the page's: a list of its kind and a value. What is none is left out."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return
    match message:
        case ["stdin", str(typed)]:
            await visitor.type(typed)
        case ["resize", {"width": int(columns), "height": int(rows)}]:
            await visitor.resize(columns, rows)
        case ["focus" | "blur" as kind]:
            await visitor.focus(on=kind == "focus")
        case ["ping", str(word)]:
            await socket.send_json(["pong", word[:40]])
        case _:
            pass


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 80
