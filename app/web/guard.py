"""Access to a server of ours: a token in each address, hosts and origins, headers, and connections.

The token is the only right there is; whoever has the address is in. It travels in the path, so there
are no cookies, and a page of another origin that does not know it can ask for nothing.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from cores.errors import InputError

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


@dataclass(frozen=True, slots=True)
class Listen:
    """Where a server listens."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback

    @property
    def shown(self) -> str:
        """The host as others reach it: for a wildcard, this computer's own address."""
        host = self.host
        if host != "localhost" and ipaddress.ip_address(host).is_unspecified:
            host = _own_address(":" in host)
        return f"[{host}]" if ":" in host else host


def listen(text: str) -> Listen:
    """ADDRESS:PORT. Raises ValueError with what would do."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not port.isdecimal() or not port.isascii() or int(port) > 65535:
        raise ValueError(f"{text[:60]!r} is no ADDRESS:PORT, such as 127.0.0.1:8765 or 0.0.0.0:8765")
    if host != "localhost":
        try:
            ipaddress.ip_address(host)
        except ValueError:
            raise ValueError(f"{host[:60]!r} is no address; 0.0.0.0 listens on all of them") from None
    return Listen(host, int(port))


def bound(where: Listen) -> socket.socket:
    """A socket that listens there. Raises InputError where the system refuses that."""
    family = socket.AF_INET6 if ":" in where.host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((where.host, where.port))
        made.listen(256)
        made.setblocking(False)
    except OSError as error:
        made.close()
        raise InputError(f"--listen {where.host}:{where.port}: {error.strerror or error}") from None
    return made


def _own_address(six: bool) -> str:
    """The address by which this computer would reach others; no packet is sent (udp(7))."""
    family, other = (socket.AF_INET6, "2001:db8::1") if six else (socket.AF_INET, "192.0.2.1")
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((other, 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "::1" if six else "127.0.0.1"


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
