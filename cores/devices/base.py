"""What a device is: it answers ports, keeps time, and pulls interrupt lines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence


class Device(ABC):
    """One device on the port bus.

    Time is given in ticks of 1 MHz (contract.md: in exact mode one completed instruction or
    delivery is one tick; in free mode a tick is a microsecond of the host's monotonic clock).
    A device never looks at a clock: the board tells it the time before each access.
    """

    ports: Sequence[int] = ()
    """The port numbers that it answers."""

    widths: frozenset[int] = frozenset({1})
    """Access sizes in bytes that it takes whole; the bus splits others into bytes."""

    @abstractmethod
    def read(self, port: int, size: int) -> int:
        """IN: the value, ``size`` bytes of it."""

    @abstractmethod
    def write(self, port: int, size: int, value: int) -> None:
        """OUT."""

    def advance(self, now: int) -> None:  # noqa: B027 - most devices stand outside time
        """It is ``now`` ticks: do what has become due."""

    def next_event(self) -> int | None:
        """The tick at which it will next do something by itself (raise a line); None: never."""
        return None

    def save(self) -> object:
        """All of its state, as a value that later changes do not touch."""
        return None

    def restore(self, state: object) -> None:  # noqa: B027
        """Go back to a saved state."""
