"""A server beside the interface: a debugger and the user look at the same session.

It has a thread of its own; whatever touches the session is passed to the session's owner.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

from app.gdb.server import Connection
from app.gdb.target import Target
from app.session_thread import Worker
from cores.debugging.live_session import LiveSession
from cores.errors import InputError

PORT = 1234
"""GDB's customary one; where it is taken the system chooses another."""


class Listener:
    """Listens on this computer's loopback until it is closed. Raises InputError where the session is of
    no PC, or the host gives no socket."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        session = worker.ask(lambda session: session).result()
        if not isinstance(session, LiveSession):
            raise InputError("a 68000 program: the debugger sees x86 guests only")
        self._session = session
        self._socket = _bound()
        self._channel: socket.socket | None = None
        self.address = "{}:{}".format(*self._socket.getsockname())
        self._thread = threading.Thread(target=self._serve, name="gdb", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the connection and the thread."""
        for one in (self._channel, self._socket):
            if one is not None:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)  # wakes the thread
                one.close()
        self._thread.join(2)

    def _serve(self) -> None:
        while True:
            try:
                channel, _ = self._socket.accept()
            except OSError:
                return
            with channel:
                self._channel = channel
                channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                Connection(channel, Target(self._session), self._ask).serve()
                self._channel = None

    def _ask(self, job: Callable[[], bytes | None]) -> bytes | None:
        """Have the owner do it; CancelledError once the session is closed."""
        return self._worker.ask(lambda _: job()).result()


def _bound() -> socket.socket:
    made = socket.socket(socket.AF_INET)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        try:
            made.bind(("127.0.0.1", PORT))
        except OSError:
            made.bind(("127.0.0.1", 0))
        made.listen(1)
    except OSError as error:
        made.close()
        raise InputError(f"no debugger can connect: {error.strerror}") from None
    return made
