"""Keyboard and serial input for Bochs, which has no interface for it. Keys are sent as a viewer of its
VNC display (RFC 6143); the serial line is a pseudo terminal."""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import struct
import threading

from cores.pc.devices.scancodes import Event, stroke

KEYSYMS = {"shift": 0xFFE1, "ctrl": 0xFFE3, "enter": 0xFF0D, "backspace": 0xFF08, "tab": 0xFF09,
           "escape": 0xFF1B}  # fmt: skip
"""X11's numbers of the keys without a character (keysymdef.h)."""

GUEST_BEGINS = b"to MSR_TSC"
"""The log's text when the loader clears the TSC, its last action before the guest."""
_PORT = re.compile(rb"listening for connections on port (\d+)")
_VERSION = b"RFB 003.003\n"
_TIMEOUT = 60.0
"""Seconds: on a busy computer the display may answer late, and keys must not be lost for that."""
_FIRST_TURN = 10
"""Turns (by ``Pace``) between the guest's start and the first key, while it sets up its devices."""


class Typist:
    """Types a guest's input. line: the path of the terminal for the serial line. sent: the bytes that
    the guest has sent along it.

    Call ``listen`` regularly, and ``type`` whenever ``Pace`` says so: the keyboard's queue has 16
    places, and the guest empties it only while it runs."""

    def __init__(self, text: bytes) -> None:
        self._keys = [event for byte in text for event in stroke(byte)]
        self._text = text
        self._turns = 0
        self._viewer: socket.socket | None = None
        self._far_end, self._near_end = os.openpty()
        import tty  # exists only on POSIX; elsewhere Bochs has been refused before

        tty.setraw(self._near_end)
        os.set_blocking(self._far_end, False)
        self.line = os.ttyname(self._near_end)
        self.sent = b""

    def type(self, log: bytes) -> None:
        """Type the next key, if the guest has started. log: Bochs' log up to now."""
        if GUEST_BEGINS not in log:
            return
        self._turns += 1
        if self._turns < _FIRST_TURN:
            return
        if self._text:
            with contextlib.suppress(BlockingIOError):
                self._text = self._text[os.write(self._far_end, self._text) :]
        if self._keys:
            try:
                self._press(log, self._keys.pop(0))
            except (OSError, EOFError):
                self._keys.clear()  # the display has closed: Bochs has ended

    def listen(self) -> None:
        """Take what the guest has sent along the serial line, for which Bochs would wait otherwise."""
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
            threading.Thread(target=_discard, args=(self._viewer,), daemon=True).start()
        keysym = KEYSYMS[event.key] if event.key in KEYSYMS else ord(event.key)
        self._viewer.sendall(struct.pack(">BB2xI", 4, event.down, keysym))

    @staticmethod
    def _shake_hands(viewer: socket.socket) -> None:
        """RFC 6143, 7.1 to 7.3, in version 3.3: no authentication, the display is shared."""
        _receive(viewer, len(_VERSION))
        viewer.sendall(_VERSION)
        _receive(viewer, 4)
        viewer.sendall(b"\x01")
        (name_length,) = struct.unpack(">20xI", _receive(viewer, 24))
        _receive(viewer, name_length)

    def close(self) -> None:
        self.listen()
        if self._viewer is not None:
            with contextlib.suppress(OSError):
                self._viewer.shutdown(socket.SHUT_RDWR)  # ends _discard
            self._viewer.close()
        os.close(self._near_end)
        os.close(self._far_end)


def _discard(viewer: socket.socket) -> None:
    """Read the pictures of the screen, which Bochs sends unasked, until the connection ends. Once 4 MB
    lie unread, its CPU stands still in send(2), and does not even stop for its debugger."""
    viewer.settimeout(None)
    with contextlib.suppress(OSError):
        while viewer.recv(1 << 20):
            pass


def _receive(viewer: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = viewer.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return data
