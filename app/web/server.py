"""A web server in a thread of its own, beside what has the main thread: the teacher's lesson."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from aiohttp import web

from app.listening import Listen, bound
from app.web.guard import Guard

T = TypeVar("T")
KEPT_ALIVE = 15.0
"""Seconds for which a connection stays open between two requests."""
logging.getLogger("aiohttp").addHandler(logging.NullHandler())
logging.getLogger("aiohttp").propagate = False  # a visitor's mistakes are not for the teacher's screen


class Running:
    """An application that is served. port: that it was given, where 0 was asked for."""

    def __init__(self, runner: web.AppRunner, server: asyncio.Server) -> None:
        self._runner, self._server = runner, server
        self.port = int(server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        self._server.close()
        await self._runner.cleanup()


async def serve(
    application: web.Application, guard: Guard, where: Listen, *, lets_go: bool = False
) -> Running:
    """Serve from now on, in this loop. lets_go: a request is given up when its browser goes away; else
    it is carried out to the end. Raises InputError where that address cannot be listened at."""
    made = bound(where)
    runner = web.AppRunner(
        application, access_log=None, handle_signals=False, keepalive_timeout=KEPT_ALIVE,
        shutdown_timeout=1.0, handler_cancellation=lets_go,
    )  # fmt: skip
    await runner.setup()
    assert runner.server is not None
    factory = guard.factory(runner.server)
    server = await asyncio.get_running_loop().create_server(factory, sock=made)
    return Running(runner, server)


class Background:
    """An event loop in a thread of its own. ``call`` runs a function there."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="web", daemon=True)
        self._thread.start()

    def call(self, function: Callable[..., object], *values: object) -> None:
        """Have it called soon."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self.loop.call_soon_threadsafe(function, *values)

    def ask(self, question: Callable[[], T]) -> T:
        """Call it there, and wait for the answer."""

        async def asked() -> T:
            return question()

        return asyncio.run_coroutine_threadsafe(asked(), self.loop).result()

    def close(self) -> None:
        self.call(self.loop.stop)
        self._thread.join()
        self.loop.close()
