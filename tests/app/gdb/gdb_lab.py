"""A client of the protocol for the tests, on a real session and a socket pair."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from app.gdb.packets import Packet, Reader, framed
from app.gdb.server import Connection
from app.gdb.target import Target
from cores.debugging.live_session import LiveSession
from cores.lockstep.options import Options
from cores.programs.program import Program


class Client:
    """Sends packets, and gives what comes back."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel, self._reader = channel, Reader()
        self._unread: list[str] = []
        self.console = ""
        channel.settimeout(60)

    def ask(self, payload: bytes | str) -> str:
        """The answer; what the server prints meanwhile is added to ``console``."""
        self.send(payload)
        return self.answer()

    def send(self, payload: bytes | str) -> None:
        self.raw(framed(payload.encode() if isinstance(payload, str) else payload))

    def raw(self, data: bytes) -> None:
        self._channel.sendall(data)

    def answer(self) -> str:
        while True:
            while not self._unread:
                for item in self._reader.feed(self._channel.recv(1 << 16)):
                    assert isinstance(item, Packet)
                    self._unread.append(item.payload.decode("latin-1"))
            text = self._unread.pop(0)
            if not text.startswith("O") or text == "OK":
                return text
            self.console += bytes.fromhex(text[1:]).decode()

    def monitor(self, line: str) -> str:
        """The text of a ``monitor`` command."""
        answer = self.ask("qRcmd," + line.encode().hex())
        return "" if answer == "OK" else bytes.fromhex(answer).decode()

    def register(self, number: int) -> int:
        return int.from_bytes(bytes.fromhex(self.ask(f"p{number:x}")), "little")


@contextmanager
def connected(program: Program, cores: tuple[str, ...]) -> Iterator[Client]:
    """A client of a session with these cores; the session lives in the server's thread."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        session = LiveSession(program, Options(cores=cores))
        try:
            with theirs:
                Connection(theirs, Target(session), lambda job: job()).serve()
        finally:
            session.close()

    server = threading.Thread(target=serve)
    server.start()
    try:
        with ours:
            yield Client(ours)
    finally:
        server.join(60)
        assert not server.is_alive()
