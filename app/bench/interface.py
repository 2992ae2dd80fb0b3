"""Response times of the interface: start-up, frames, the way of a key to the screen."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from statistics import quantiles
from time import perf_counter, process_time

from app.main import again
from app.programs import path_of

from .figures import Figure, Limit, Result, Skipped, Spread, alone, paired

SIZE, LARGE = (120, 40), (200, 60)
"""Columns and rows of the terminals."""
PATIENCE = 20.0
PRESSES = 20
DRAWING = 2.0
"""Seconds for which frames are drawn."""
_ENVIRONMENT = {"TERM": "xterm-256color", "LANG": "C.UTF-8", "RINGSCOPE_CONFIG": os.devnull}
_FIRST = "0x5ca1ab1e"
"""An operand of the first instruction of a copy of hello: no other text on the screen has it."""


def start_up() -> list[Result]:
    """From the command to its end, or to its first picture; against Python doing nothing."""

    def milliseconds(*arguments: str) -> float:
        began = perf_counter()
        subprocess.run(
            arguments, env=os.environ | _ENVIRONMENT, check=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        return (perf_counter() - began) * 1e3

    def python() -> float:
        return milliseconds(sys.executable, "-c", "pass")

    figures = paired(
        "start", "--help", "ms", lambda: milliseconds(*again("--help")),
        {"python -c pass": (python, None)},
    ) + paired(
        "start", "compare hello, all cores", "ms",
        lambda: milliseconds(*again("compare", "hello")),
        {"python -c pass": (python, None)}, times=3,
    )  # fmt: skip
    if os.name == "posix":
        limit = Limit("value", 500)
        figures.append(
            alone("start", "the first picture of hello", "ms", _first_picture, limit, times=3)
        )
    return figures


class Terminal:
    """A program in a pseudo-terminal, watched from outside."""

    def __init__(self, command: list[str]) -> None:
        import pty
        import termios

        self.fd, slave = pty.openpty()
        termios.tcsetwinsize(slave, (SIZE[1], SIZE[0]))
        self._process = subprocess.Popen(
            command, env=os.environ | _ENVIRONMENT, stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True,
        )  # fmt: skip
        os.close(slave)

    def press(self, key: str) -> None:
        os.write(self.fd, key.encode())

    def see(self, words: bytes) -> None:
        """Read until these words are written."""
        seen, end = b"", perf_counter() + PATIENCE
        while words not in seen:
            if not select.select([self.fd], [], [], max(0.0, end - perf_counter()))[0]:
                raise RuntimeError(f"{words!r} never came on the screen")
            try:
                seen = seen[-len(words) :] + os.read(self.fd, 1 << 16)
            except OSError:  # EIO: the other side is closed
                raise RuntimeError(f"the interface ended before {words!r} was seen") from None

    def pass_time(self, seconds: float) -> None:
        """Read, and look at nothing."""
        end = perf_counter() + seconds
        while (left := end - perf_counter()) > 0:
            if select.select([self.fd], [], [], left)[0]:
                os.read(self.fd, 1 << 16)

    def close(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        os.close(self.fd)


def _first_picture() -> float:
    """Milliseconds until the first instruction of hello is on the screen."""
    source = Path(path_of("hello")).read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "hello.s")
        path.write_text(source.replace("_start:", f"_start:\n mov eax, {_FIRST}", 1))
        began = perf_counter()
        with closing(Terminal(again(str(path)))) as terminal:
            terminal.see(_FIRST.encode())
            return (perf_counter() - began) * 1e3


def screen() -> list[Result]:
    """Drawing three stepping machines; a key's way to the screen while all machines run freely."""
    try:
        import textual  # noqa: F401 - only asked whether it is there
    except ImportError:
        return [Skipped("screen", "the Python package 'textual' is not installed")]
    what = "three machines drawn, 30 frames/s"
    results: list[Result] = [
        Figure("screen", f"{what}{at}", "% of a CPU", Spread.of([asyncio.run(_drawing(size))]),
               limit=Limit("value", limit))
        for size, at, limit in ((SIZE, "", 40), (LARGE, ", 200x60", 13))
    ]  # fmt: skip
    if os.name == "posix":
        latencies = _latencies()
        late = quantiles(latencies, n=20)[-1]
        results += [
            Figure("screen", "a key shown while all run freely, median", "ms", Spread.of(latencies)),
            Figure("screen", "the same, 95th percentile", "ms", Spread.of([late]),
                   limit=Limit("value", 50)),
        ]  # fmt: skip
    return results


def _latencies() -> list[float]:
    """Milliseconds from a key to its picture, while the guests spin."""
    from . import watched

    found = []
    with closing(Terminal(watched.command())) as terminal:
        for turn in range(-1, PRESSES):
            began = perf_counter()
            terminal.press(watched.KEY)
            terminal.see(watched.WORDS.encode())
            if turn >= 0:  # the first waited until the machines ran
                found.append((perf_counter() - began) * 1e3)
            terminal.press(watched.KEY)
            terminal.pass_time(0.25)
    return found


async def _drawing(size: tuple[int, int]) -> float:
    """Percent of one CPU, all of it spent on taking and drawing frames."""
    from app.tui.app import RingscopeApp

    from .replay import Replay

    os.environ["RINGSCOPE_CONFIG"] = os.devnull
    app = RingscopeApp(lambda path, disk: Replay, list, Replay)
    async with app.run_test(size=size) as pilot:
        while app.worker is None or app.worker.snapshot is None:
            await pilot.pause(0.05)
        app.worker.run()
        await pilot.pause(0.2)
        if not app.worker.snapshot.running:
            raise RuntimeError("nothing is drawn: the machines stand still")
        began, used = perf_counter(), process_time()
        await asyncio.sleep(DRAWING)
        return (process_time() - used) / (perf_counter() - began) * 100
