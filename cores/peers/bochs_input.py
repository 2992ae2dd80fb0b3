"""Typing for Bochs, which offers no way to a program: as a viewer of its VNC display, where keys are
messages (RFC 6143), and as the far end of its serial line, a pseudo terminal."""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import struct

from cores.pc.devices.scancodes import Event, stroke

KEYSYMS = {"shift": 0xFFE1, "ctrl": 0xFFE3, "enter": 0xFF0D, "backspace": 0xFF08, "tab": 0xFF09,
           "escape": 0xFF1B}  # fmt: skip
"""X11's numbers for the keys that stand for no character (keysymdef.h)."""

GUEST_BEGINS = b"to MSR_TSC"
"""What the log has when the loader clears the clock, the last thing that it does."""
_PORT = re.compile(rb"listening for connections on port (\d+)")
_VERSION = b"RFB 003.003\n"
_TIMEOUT = 3.0
_PATIENCE = 10
"""Looks between the guest's begin and the first key: it sets up its devices first."""


class Typist:
    """line: the path of the terminal for the serial line. sent: what the guest has sent along it.

    Give it a ``look`` every now and then."""

    def __init__(self, text: bytes) -> None:
        self._keys = [event for byte in text for event in stroke(byte)]
        self._text = text
        self._looks = 0
        self._viewer: socket.socket | None = None
        self._far_end, self._near_end = os.openpty()
        import tty  # POSIX alone has it; Bochs's own reason is told elsewhere

        tty.setraw(self._near_end)
        os.set_blocking(self._far_end, False)
        self.line = os.ttyname(self._near_end)
        self.sent = b""

    def look(self, log: bytes) -> None:
        """Type the next key, if the guest has begun; log: Bochs' own, so far."""
        self._listen()
        if GUEST_BEGINS not in log:
            return
        self._looks += 1
        if self._looks < _PATIENCE:
            return
        if self._text:
            with contextlib.suppress(BlockingIOError):
                self._text = self._text[os.write(self._far_end, self._text) :]
        if self._keys:
            try:
                self._press(log, self._keys.pop(0))
            except (OSError, EOFError):
                self._keys.clear()  # the display has gone, and Bochs with it

    def _listen(self) -> None:
        while select.select([self._far_end], [], [], 0)[0]:
            try:
                self.sent += os.read(self._far_end, 1 << 16)
            except OSError:
                return

    def _press(self, log: bytes, event: Event) -> None:
        port = _PORT.search(log)
        if port is None:
            return
        if self._viewer is None:
            self._viewer = socket.create_connection(("127.0.0.1", int(port[1])), _TIMEOUT)
            self._shake_hands(self._viewer)
        keysym = KEYSYMS[event.key] if event.key in KEYSYMS else ord(event.key)
        self._viewer.sendall(struct.pack(">BB2xI", 4, event.down, keysym))

    @staticmethod
    def _shake_hands(viewer: socket.socket) -> None:
        """RFC 6143, 7.1 to 7.3, as version 3.3 has it: no authentication, the display is shared."""
        _receive(viewer, len(_VERSION))
        viewer.sendall(_VERSION)
        _receive(viewer, 4)
        viewer.sendall(b"\x01")
        (name_length,) = struct.unpack(">20xI", _receive(viewer, 24))
        _receive(viewer, name_length)

    def close(self) -> None:
        self._listen()
        if self._viewer is not None:
            self._viewer.close()
        os.close(self._near_end)
        os.close(self._far_end)


def _receive(viewer: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = viewer.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return data
