"""A lesson that plays by itself: when has its reader had the time to read what is in sight?"""

from __future__ import annotations

from app.recording.asciicast import reading_time


class Autoplay:
    """speed: of reading; 1 is a reader's own. on: is it playing? alone: it was begun that way, and
    the program ends with it."""

    def __init__(self, speed: float = 0.0) -> None:
        self.speed = speed or 1.0
        self.on = self.alone = speed > 0
        self._text = ""
        self._due = 0.0

    def has_been_read(self, text: str, pause: float, now: float) -> bool:
        """pause: seconds that the lesson wants besides, at speed 1. now: time.monotonic()."""
        if text != self._text:
            self._text, self._due = text, now + (reading_time(text) + pause) / self.speed
        if now < self._due:
            return False
        self._text = ""
        return True
