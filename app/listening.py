"""Addresses at which a server of ours listens, as the user names them: --listen ADDRESS:PORT."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass

from cores.errors import InputError


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
