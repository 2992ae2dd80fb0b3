"""Recordings in asciinema's format, version 2: a header, then a JSON line for each event.

Every named step is a marker ("m"), which players offer as chapters. ``Recording`` is of a lesson
played as text: its times are reading times, not the clock's, so that one made without a terminal
plays at the speed of a reader. app/recording/record_tui.py records the interface.
"""

from __future__ import annotations

import json
from typing import TextIO

from cores.atomic_file import Kind


def _is_one(head: bytes) -> bool:
    """asciicast, whichever version: a JSON object on the first line that says so."""
    return head.startswith(b"{") and b'"version"' in head.partition(b"\n")[0]


KIND = Kind("a recording (asciicast)", _is_one)
WORDS_A_SECOND = 3.5
WIDTH, HEIGHT = 80, 30


def reading_time(text: str) -> float:
    """Seconds that a reader takes for it."""
    return 0.4 + len(text.split()) / WORDS_A_SECOND if text else 0.0


class Cast:
    """Writes the file. Times are seconds from the beginning, and never go back."""

    def __init__(self, file: TextIO, title: str, width: int, height: int) -> None:
        self._file = file
        self._last = 0.0
        header = {"version": 2, "width": width, "height": height, "title": title}
        header |= {"env": {"TERM": "xterm-256color"}}
        file.write(json.dumps(header, ensure_ascii=False) + "\n")

    def output(self, at: float, text: str) -> None:
        """Add output, as the terminal was given it."""
        self._event(at, "o", text)

    def marker(self, at: float, label: str) -> None:
        self._event(at, "m", label)

    def _event(self, at: float, kind: str, data: str) -> None:
        self._last = max(self._last, round(at, 3))
        self._file.write(json.dumps([self._last, kind, data], ensure_ascii=False) + "\n")


class Recording:
    """One lesson as text. speed: of reading; 2 is twice as fast."""

    def __init__(self, file: TextIO, title: str, speed: float) -> None:
        self._cast = Cast(file, title, WIDTH, HEIGHT)
        self._speed = speed
        self._now = 0.0

    def output(self, text: str) -> None:
        """Print that, and leave time to read it."""
        self._cast.output(self._now, text.replace("\n", "\r\n"))
        self.wait(reading_time(text))

    def marker(self, label: str) -> None:
        self._cast.marker(self._now, label)

    def wait(self, seconds: float) -> None:
        self._now += seconds / self._speed
