"""The log of a machine's exits: which of them are at hand, and which are in sight."""

from __future__ import annotations

from dataclasses import dataclass

from cores.machine.report import MachineSnapshot
from cores.vmm.trace import ExitEvent

MARGIN = 40
"""Events before the chosen one that may be shown with it."""


@dataclass(frozen=True, slots=True)
class Events:
    """The machine whose events are shown. selected: number of the chosen one (0: the machine's
    first); None: the newest. fetched: a stretch of the log from number ``begin`` on, where the
    newest, which the snapshot has, are not enough."""

    machine: MachineSnapshot
    selected: int | None = None
    fetched: tuple[ExitEvent, ...] = ()
    begin: int = 0

    @property
    def total(self) -> int:
        """Every event so far, those not counted as exits included."""
        return sum(self.machine.exits_by_reason.values())

    @property
    def current(self) -> int | None:
        """The number of the one that is shown or marked: the chosen one, else the newest."""
        if not self.total or not self.machine.events:
            return None
        return self.total - 1 if self.selected is None else max(0, min(self.selected, self.total - 1))

    @property
    def window(self) -> tuple[int, tuple[ExitEvent, ...]]:
        """Events at hand, and the number of the first of them."""
        newest = self.total - len(self.machine.events)
        if self.fetched and (self.current or 0) < newest + MARGIN:
            return self.begin, self.fetched
        return newest, self.machine.events

    @property
    def here(self) -> bool:
        """Is the chosen event among the newest, with some before it?"""
        newest = self.total - len(self.machine.events)
        return newest <= 0 or self.current is None or self.current >= newest + MARGIN

    @property
    def event(self) -> ExitEvent | None:
        """The current one; None while it is being fetched."""
        first, events = self.window
        at = -1 if self.current is None else self.current - first
        return events[at] if 0 <= at < len(events) else None


def visible(shown: Events, height: int) -> list[tuple[int, ExitEvent]]:
    """The events that the log has in its rows, with their numbers."""
    first, events = shown.window
    at = (shown.current or 0) - first
    wanted = at - height // 2 if shown.selected is not None else len(events)
    top = max(0, min(len(events) - height, wanted))
    return [(first + i, events[i]) for i in range(top, min(len(events), top + height))]
