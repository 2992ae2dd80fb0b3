"""Signals from outside: to end, and to stop for a while. Whoever has the terminal next finds it as
it was."""

from __future__ import annotations

import asyncio
import os
import signal
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textual.app import App

GRACE = 10
"""Seconds to end in. Then the kernel ends us: the terminal may be one that takes nothing any more."""


def obey_endings(app: App[int]) -> None:
    """From now on SIGTERM and SIGHUP end the app as a key would; with its terminal gone, or its
    loop closed, they just end the process. It must be running."""
    if os.name != "posix":
        return
    loop = asyncio.get_running_loop()

    def end(number: int, _: FrameType | None) -> None:
        if loop.is_closed() or not os.isatty(0):
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        signal.alarm(GRACE)
        loop.call_soon_threadsafe(app.exit, 128 + number)

    # Not the loop's own handlers: it does not run while it waits for the terminal.
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, end)


def obey_stops(app: App[int]) -> None:
    """From now on the app leaves the terminal when it is stopped by SIGTSTP, and takes it anew whenever
    it goes on: what was done to it since is not known. Textual's own handlers start a second reader of
    the keys, and take what they find after a SIGSTOP for the terminal's original state."""
    if os.name != "posix":
        return
    loop = asyncio.get_running_loop()

    def stop() -> None:
        with app.suspend():
            os.kill(os.getpid(), signal.SIGSTOP)

    def go_on() -> None:
        with app.suspend():
            pass

    loop.add_signal_handler(signal.SIGTSTP, stop)
    loop.add_signal_handler(signal.SIGCONT, go_on)
