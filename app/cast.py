"""Recordings in asciinema's format, version 2: a header, then a JSON line for each event.

Times are reading times, not the clock's: a recording made without a terminal plays at the speed of
a reader. Every named step is a marker ("m"), which players offer as chapters.
"""

from __future__ import annotations

import json
from typing import TextIO

WORDS_A_SECOND = 3.5
WIDTH, HEIGHT = 80, 30


def reading_time(text: str) -> float:
    """Seconds that a reader takes for it."""
    return 0.4 + len(text.split()) / WORDS_A_SECOND if text else 0.0


class Recording:
    """Writes one cast. speed: of reading; 2 is twice as fast."""

    def __init__(self, file: TextIO, title: str, speed: float) -> None:
        self._file = file
        self._speed = speed
        self._now = 0.0
        header = {"version": 2, "width": WIDTH, "height": HEIGHT, "title": title}
        file.write(json.dumps(header) + "\n")

    def output(self, text: str) -> None:
        """Print that, and leave time to read it."""
        self._event("o", text.replace("\n", "\r\n"))
        self.wait(reading_time(text))

    def marker(self, label: str) -> None:
        self._event("m", label)

    def wait(self, seconds: float) -> None:
        self._now += seconds / self._speed

    def _event(self, kind: str, data: str) -> None:
        self._file.write(json.dumps([round(self._now, 3), kind, data], ensure_ascii=False) + "\n")
