"""How a guest ends its machine: by saying so to a device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cores.machine.report import Stop


@dataclass(frozen=True, slots=True)
class Ending:
    """stop: Stop.EXIT or Stop.POWEROFF. status: the unsigned value written, with EXIT only."""

    stop: Stop
    status: int | None = None


Finish = Callable[[Ending], None]
"""Called by the device that the guest has told to end."""
