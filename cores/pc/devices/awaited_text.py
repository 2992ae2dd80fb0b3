"""``--until TEXT``: the machine ends when its console or its screen has shown a text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import SupportsIndex


class WatchedConsole(bytearray):
    """The output of the consoles, which calls ``seen`` each time that a text has been completed.

    text: not empty."""

    def __init__(self, text: bytes, seen: Callable[[], None]) -> None:
        super().__init__()
        self._text, self._seen = text, seen

    def append(self, item: SupportsIndex) -> None:
        super().append(item)
        if self.endswith(self._text):
            self._seen()

    def extend(self, items: Iterable[SupportsIndex]) -> None:
        before = len(self)
        super().extend(items)
        if self.find(self._text, max(before + 1 - len(self._text), 0)) >= 0:
            self._seen()
