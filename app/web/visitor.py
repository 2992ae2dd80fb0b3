"""A visitor of ``ringscope serve``: an interface in a process of its own, drawn by a browser.

The process speaks the protocol of Textual's web driver (textual/drivers/web_driver.py) on its standard
files: packets of a letter, four bytes of length (big-endian) and a payload; D is what a terminal would
get or send, M a message in JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

FIRST_LINE = b"__GANGLION__\n"
"""What the driver says before its first packet."""
LARGEST_PACKET = 1 << 24
SIZES = (range(20, 401), range(10, 201))
"""Columns and rows that a browser's window may have."""
FOLDER = "ringscope-visitor-"
"""How the name of a session's folder begins."""
GRACE = 5.0
"""Seconds that a process has to end in."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one visitor. memory: MiB of address space of each process. cpu: seconds of each. minutes: that
    the session lasts at most."""

    memory: int = 1024
    cpu: int = 900
    minutes: float = 60.0


class Visitor:
    """A process and its folder. Used as an asynchronous context."""

    def __init__(self, command: Sequence[str], columns: int, rows: int) -> None:
        """command: starts the interface; the number of the lifeline's descriptor is put behind it."""
        self._command = command
        self._size = _fitting(columns, rows)

    async def __aenter__(self) -> Visitor:
        self._folder = tempfile.mkdtemp(prefix=FOLDER)
        theirs, self._lifeline = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, str(theirs), stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, cwd=self._folder,
                env=self._environment(), pass_fds=(theirs,), start_new_session=True,
            )  # fmt: skip
        except BaseException:
            os.close(self._lifeline)
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        finally:
            os.close(theirs)
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the process, and with it its guests'; nothing of the session stays."""
        os.close(self._lifeline)  # it ends itself
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(asyncio.shield(self._process.wait()), GRACE)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()
        finally:
            await self._drain()
            shutil.rmtree(self._folder, ignore_errors=True)

    async def _drain(self) -> None:
        """Read what is left, so that the pipe is closed."""
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(GRACE):
                while self._process.stdout is not None and await self._process.stdout.read(1 << 16):
                    pass

    def _environment(self) -> dict[str, str]:
        """No more of the server's than is needed; settings, progress and texts are its own."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
        own = ("HOME", "TMPDIR", "RINGSCOPE_CONFIG", "RINGSCOPE_DATA", "RINGSCOPE_RUNTIME")
        return kept | dict.fromkeys(own, self._folder) | {
            "TERM": "xterm-256color", "COLORTERM": "truecolor", "TEXTUAL_COLOR_SYSTEM": "truecolor",
            "TEXTUAL_DRIVER": "textual.drivers.web_driver:WebDriver", "TEXTUAL_FPS": "30",
            "COLUMNS": str(self._size[0]), "ROWS": str(self._size[1]),
        }  # fmt: skip

    async def output(self) -> AsyncIterator[bytes]:
        """What its terminal gets, until it ends."""
        stream = self._process.stdout
        assert stream is not None
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ValueError):
            while await stream.readline() != FIRST_LINE:
                if stream.at_eof():
                    return
            while True:
                head = await stream.readexactly(5)
                length = int.from_bytes(head[1:], "big")
                if length > LARGEST_PACKET:
                    return
                payload = await stream.readexactly(length)
                if head[:1] == b"D":
                    yield payload
                elif head[:1] == b"M" and json.loads(payload).get("type") == "exit":
                    return

    async def type(self, text: str) -> None:
        """What its user types, or does with the mouse."""
        await self._send(b"D", text.encode("utf-8", "replace"))

    async def resize(self, columns: int, rows: int) -> None:
        width, height = _fitting(columns, rows)
        await self._tell({"type": "resize", "width": width, "height": height})

    async def focus(self, *, on: bool) -> None:
        await self._tell({"type": "focus" if on else "blur"})

    async def _tell(self, message: dict[str, object]) -> None:
        await self._send(b"M", json.dumps(message).encode())

    async def _send(self, kind: bytes, payload: bytes) -> None:
        stream = self._process.stdin
        assert stream is not None
        with contextlib.suppress(ConnectionError, RuntimeError):  # it has ended: the output says so
            stream.write(kind + len(payload).to_bytes(4, "big") + payload)
            await stream.drain()


def _fitting(columns: int, rows: int) -> tuple[int, int]:
    width, height = SIZES
    return min(max(columns, width[0]), width[-1]), min(max(rows, height[0]), height[-1])
