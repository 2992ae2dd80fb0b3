"""Why a machine has ended, and how a guest ends its machine through a device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Stop(StrEnum):
    """Why a machine has come to its end (contract.md, compare --json)."""

    EXIT = "exit"
    POWEROFF = "poweroff"
    HALTED = "halted"
    SHUTDOWN = "shutdown"
    BUDGET = "budget"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Ending:
    """stop: Stop.EXIT or Stop.POWEROFF. status: the unsigned value written, with EXIT only."""

    stop: Stop
    status: int | None = None


Finish = Callable[[Ending], None]
"""Called by the device that the guest has told to end."""
