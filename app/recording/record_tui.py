"""A recording of the interface: Ringscope runs in a terminal of its own, and what it draws goes to
the real terminal and into the cast; keys go the other way.

A cast is played on other people's terminals. What would change how their keys and mice work is left
out of it, and so are questions, which their terminals would answer into the player.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import select
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from types import FrameType
from typing import TextIO

from app.main import again
from app.recording.asciicast import Cast
from app.teacher import second_terminal
from lessons.format.script import Lesson

POLL = 0.05
"""Seconds between two looks for a new step, while nothing is drawn."""
_NOT_FOR_PLAYERS = re.compile(
    r"\x1b\[\?(?:1000|1002|1003|1004|1005|1006|1015|1016|2004|2048)[hl]"  # mouse, focus, paste, resize
    r"|\x1b\[\?[0-9;]*\$p|\x1b\[[<>=?][0-9;]*u|\x1b\[[>=]?[0-9;]*c|\x1b\[[0-9;]*n"  # keys; questions
    r"|\x1b\[>[0-9;]*[qm]|\x1bP\+q[^\x1b]*\x1b\\|\x1b_G[^\x1b]*\x1b\\"  # questions: name, graphics
)
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|[P_][^\x1b]*\x1b?)?\Z")
"""A control sequence whose end is still to come."""


class Screen:
    """Cleans what is drawn, and writes it with the clock's time. clock: gives seconds from the
    beginning."""

    def __init__(self, cast: Cast, clock: Callable[[], float]) -> None:
        self._cast = cast
        self._clock = clock
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def drawn(self, chunk: bytes) -> None:
        """A piece of output, cut anywhere."""
        text = self._rest + self._decoder.decode(chunk)
        cut = found.start() if (found := _UNFINISHED.search(text)) else len(text)
        text, self._rest = text[:cut], text[cut:]
        if text := _NOT_FOR_PLAYERS.sub("", text):
            self._cast.output(self._clock(), text)

    def marker(self, label: str) -> None:
        self._cast.marker(self._clock(), label)


def record(lesson: Lesson, file: TextIO, words: list[str]) -> int:
    """Play it in the interface, and record that. words: the command line that plays it. Needs a POSIX
    terminal on standard input and output; gives the exit code (as a shell would, for a signal)."""
    import pty
    import termios

    columns, rows = os.get_terminal_size()
    began = perf_counter()
    screen = Screen(Cast(file, lesson.title, columns, rows), lambda: perf_counter() - began)
    with tempfile.TemporaryDirectory(prefix="ringscope") as directory:
        size = {"COLUMNS": str(columns), "LINES": str(rows)}
        environment = os.environ | size | {"RINGSCOPE_RUNTIME": directory}
        child, terminal = pty.fork()
        if child == 0:
            os.execve(sys.executable, again(*words), environment)
        try:
            termios.tcsetwinsize(terminal, (rows, columns))
            with _raw(), _signals_for(child):
                _relay(terminal, screen, _steps(lesson, Path(directory), screen.marker))
        finally:
            os.close(terminal)  # hangs up: without its terminal the child ends
            _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _relay(terminal: int, screen: Screen, look: Callable[[], None]) -> None:
    """Relay keys and output until the child's terminal is closed."""
    listening = [terminal, sys.stdin.fileno()]
    while True:
        ready, _, _ = select.select(listening, [], [], POLL)
        if terminal in ready:
            try:
                chunk = os.read(terminal, 1 << 16)
            except OSError:  # EIO: no process has it open any more
                chunk = b""
            if not chunk:
                return
            _write_all(sys.stdout.fileno(), chunk)
            screen.drawn(chunk)
        if sys.stdin.fileno() in ready:
            keys = os.read(sys.stdin.fileno(), 1 << 12)
            if not keys:
                return
            _write_all(terminal, keys)
        look()


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _steps(lesson: Lesson, directory: Path, begin: Callable[[str], None]) -> Callable[[], None]:
    """Tells ``begin`` of every step once, when the player says that it is there."""
    coming = list(lesson.headings)

    def look() -> None:
        place = second_terminal.place(directory)
        while place is not None and coming and coming[0][0] < place.position:
            begin(coming.pop(0)[1].title)

    return look


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    """Every key goes to the child as it is."""
    import termios
    import tty

    before = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        yield
    finally:
        with contextlib.suppress(termios.error):  # it may have hung up
            termios.tcsetattr(0, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _signals_for(child: int) -> Iterator[None]:
    """Told to end, or to go on after a stop, we leave it to the child: what it draws then restores the
    terminal, or takes it anew."""
    import tty

    def pass_on(number: int, _: FrameType | None) -> None:
        if number == signal.SIGCONT:  # a shell has had the terminal meanwhile, and set it up for itself
            tty.setraw(0)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    signals = (signal.SIGTERM, signal.SIGHUP, signal.SIGCONT)
    before = {number: signal.signal(number, pass_on) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
