"""Exits a second, while the machines run freely: the difference of two moments some seconds apart."""

from __future__ import annotations

from collections import deque
from time import monotonic

from cores.machine.report import SessionSnapshot

WINDOW = 4.0
"""Seconds over which is counted."""
INTERVAL = 0.5
"""Seconds between two moments that are kept."""

Counts = dict[str, dict[str, int]]


class Rates:
    """by_core: exits a second by core and reason; empty until two moments of a run are known, and at
    its end."""

    def __init__(self) -> None:
        self.by_core: dict[str, dict[str, float]] = {}
        self._kept: deque[tuple[float, Counts]] = deque()

    def take(self, s: SessionSnapshot) -> None:
        """Look at a snapshot."""
        if s.mode != "free" or not s.running:
            self._kept.clear()
            self.by_core = {}
            return
        now = monotonic()
        if self._kept and now - self._kept[-1][0] < INTERVAL:
            return
        counts = {m.core: m.exits_by_reason for m in s.machines}
        self._kept.append((now, counts))
        while len(self._kept) > 2 and now - self._kept[1][0] >= WINDOW:
            self._kept.popleft()
        since, before = self._kept[0]
        if now > since:
            self.by_core = {
                core: {
                    name: (count - before.get(core, {}).get(name, 0)) / (now - since)
                    for name, count in reasons.items()
                }
                for core, reasons in counts.items()
            }
