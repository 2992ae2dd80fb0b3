"""Stop reasons of a machine, and the interface by which a device ends it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Stop(StrEnum):
    """The reason a machine has stopped (contract.md, compare --json)."""

    EXIT = "exit"
    POWEROFF = "poweroff"
    HALTED = "halted"
    SHUTDOWN = "shutdown"
    BUDGET = "budget"
    UNTIL = "until"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Ending:
    """A device's request to end its machine. stop: Stop.EXIT or Stop.POWEROFF, which the guest asks
    for, or Stop.UNTIL, where the user waits for a text. status: the unsigned value written, with EXIT
    only."""

    stop: Stop
    status: int | None = None


Finish = Callable[[Ending], None]
"""Called by the device through which the guest ends its machine."""
