"""Access to a server of ours: a token in each address, hosts and origins, headers, and connections.

The token is the only right there is; whoever has the address is in. It travels in the path, so there
are no cookies, and a page of another origin that does not know it can ask for nothing.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Callable
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from app.listening import Listen

ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
"""Without letters and digits that are mistaken for one another."""
TOKEN_LETTERS = 12
"""60 bits; short enough to be typed from a blackboard."""
PATIENCE = 10.0
"""Seconds within which a connection must have asked for an address with the token."""
MOST_UNPROVEN = 64
"""Connections that have not; a new one ends the oldest of them."""

HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Server": "ringscope",
}


def new_token() -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(TOKEN_LETTERS))


class Guard:
    """Of one server. policy: its Content-Security-Policy. most: connections that know the token."""

    def __init__(self, where: Listen, policy: str, most: int) -> None:
        self.token = new_token()
        self._where, self._policy = where, policy
        self._most = most
        self._proven: set[asyncio.BaseTransport] = set()
        self._unproven: dict[asyncio.BaseTransport, asyncio.TimerHandle] = {}

    # Requests

    def application(self, largest: int) -> web.Application:
        """An application that answers nothing but what passes. largest: bytes of a request's body."""
        app = web.Application(middlewares=[self._middleware()], client_max_size=largest)
        app.on_response_prepare.append(self._headers)
        return app

    def _middleware(self) -> Middleware:
        @web.middleware
        async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
            if not self._knows(request.match_info.get("token", "")):
                raise self._closed(web.HTTPNotFound(text="There is nothing here.\n"))
            if not self._is_ours(request):
                raise self._closed(web.HTTPForbidden(text="Asked for by another page or name.\n"))
            if not self._prove(request.transport):
                raise self._closed(web.HTTPServiceUnavailable(text="The room is full.\n"))
            return await handler(request)

        return guarded

    def _knows(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self.token.encode())

    def _is_ours(self, request: web.Request) -> bool:
        """Does the request come from our own page, under a name that is ours? On loopback no other name
        counts: one that an attacker's name server made lead here could be any (DNS rebinding)."""
        try:
            host = urlsplit(f"//{request.host}").hostname or ""
            origin = request.headers.get("Origin")
            theirs = None if origin is None else urlsplit(origin).netloc
        except ValueError:
            return False
        if self._where.is_loopback and host not in ("localhost", "127.0.0.1", "::1", self._where.host):
            return False
        if theirs is not None:
            return theirs == request.host
        return request.method in ("GET", "HEAD") and "Upgrade" not in request.headers

    @staticmethod
    def _closed(refusal: web.HTTPException) -> web.HTTPException:
        refusal.force_close()
        return refusal

    async def _headers(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(HEADERS)
        response.headers["Content-Security-Policy"] = self._policy

    # Connections

    def factory(self, inner: Callable[[], asyncio.Protocol]) -> Callable[[], asyncio.Protocol]:
        """Protocols for ``create_server``: those of ``inner``, counted."""
        return lambda: Counted(self, inner())

    def opened(self, transport: asyncio.BaseTransport) -> None:
        if len(self._unproven) >= MOST_UNPROVEN:
            self._drop(next(iter(self._unproven)))
        later = asyncio.get_running_loop().call_later
        self._unproven[transport] = later(PATIENCE, self._drop, transport)

    def closed(self, transport: asyncio.BaseTransport) -> None:
        self._proven.discard(transport)
        if (timer := self._unproven.pop(transport, None)) is not None:
            timer.cancel()

    def _drop(self, transport: asyncio.BaseTransport) -> None:
        self.closed(transport)
        assert isinstance(transport, asyncio.Transport)
        transport.abort()

    def _prove(self, transport: asyncio.BaseTransport | None) -> bool:
        """A connection has shown the token. False where there are too many already."""
        if transport is None or transport in self._proven:
            return True
        if len(self._proven) >= self._most:
            return False
        if (timer := self._unproven.pop(transport, None)) is not None:
            timer.cancel()
            self._proven.add(transport)
        return True


class Counted(asyncio.Protocol):
    """A connection's protocol, of which the guard knows."""

    def __init__(self, guard: Guard, inner: asyncio.Protocol) -> None:
        self._guard, self._inner = guard, inner
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._guard.opened(transport)
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._guard.closed(self._transport)
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()
