"""The base class of devices: port accesses, virtual time, interrupt lines, saved state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol, Self, get_type_hints

from cores.pc.devices.slot import IrqLine, Slot, TextTaker

__all__ = [
    "BYTE",
    "QUOTED",
    "Device",
    "InputQueue",
    "IrqLine",
    "MemoryDevice",
    "PortlessDevice",
    "Slot",
    "TextTaker",
]

BYTE = frozenset({1})


class Device(ABC):
    """One device on the port bus.

    Time is given in ticks of 1 MHz (contract.md: in exact mode one completed instruction or delivery is
    one tick; in free mode a tick is a microsecond of the host's monotonic clock). A device never reads
    a clock: the board passes the time before each access.

    Saving takes every attribute except those that ``wiring`` names, so that no state is left out.
    Therefore a device keeps only values that do not change in place (int, bytes, tuple), or overrides
    how they are saved.

    The permitted types of a saved state are those of the present one (``shape``); where a value's type
    is not enough, as with None or an empty tuple, the class declares the attribute.
    """

    name: str = ""
    """Its common name, for the log of exits: "PIC"."""

    ports: Sequence[int] = ()
    """The port numbers that it answers."""

    wiring: frozenset[str] = frozenset()
    """Attributes that are connections (lines, memory, parts), not state."""

    wide: frozenset[str] = frozenset()
    """Attributes that are more than a byte: times, counts, addresses."""

    irq: int | None = None
    """The number of its interrupt line (0-15). If it raises the line by itself, ``next_event`` says
    when."""

    parts: tuple[Device, ...] = ()
    """Devices that it consists of, which are saved and shown by themselves."""

    timely: bool = False
    """Whether reads depend on the time: the board passes it the time before each access."""

    masters: bool = False
    """Whether it stores to RAM by itself: its events count also while its interrupt is masked."""

    @classmethod
    def plug(cls, slot: Slot) -> Self:
        """A device of this kind, connected to the parts of the mainboard that it needs."""
        return cls()

    @property
    def title(self) -> str:
        """Its heading in the list of all devices."""
        return self.name[:1].upper() + self.name[1:]

    def facts(self, now: int) -> tuple[tuple[str, str], ...]:
        """Its state in words at tick ``now``, for inspection: (name, value). Changes nothing. A device
        without facts is not shown."""
        return ()

    def notes(self) -> list[str]:
        """Sentences for the user about the guest's use of the device, usually none."""
        return []

    def widths(self, port: int) -> frozenset[int]:
        """Access sizes in bytes that it accepts whole at ``port``; the bus splits others."""
        return BYTE

    @abstractmethod
    def read(self, port: int, size: int) -> int:
        """IN: the value, ``size`` bytes of it."""

    @abstractmethod
    def write(self, port: int, size: int, value: int) -> None:
        """OUT."""

    def read_string(self, port: int, size: int, count: int) -> bytes:
        """REP INS: ``count`` reads in a row, as one block, little endian."""
        return b"".join(self.read(port, size).to_bytes(size, "little") for _ in range(count))

    def write_string(self, port: int, size: int, data: bytes) -> None:
        """REP OUTS: the block as writes of ``size`` bytes in a row."""
        for at in range(0, len(data), size):
            self.write(port, size, int.from_bytes(data[at : at + size], "little"))

    def describe(self, port: int, value: int, is_write: bool) -> str:
        """The access in a few words, for the log of exits."""
        return self.name

    def advance(self, now: int) -> None:  # noqa: B027 - most devices stand outside time
        """Process the events that are due at tick ``now``."""

    def next_event(self) -> int | None:
        """The tick at which it will next raise its line by itself; None: never."""
        return None

    def next_poll(self) -> int | None:
        """The tick at which it will next look into RAM whether the guest has left it something there;
        None: never. A sleeping guest is not woken for that."""
        return None

    def poll(self, now: int) -> None:  # noqa: B027
        """Look now."""

    def save(self) -> dict[str, Any]:
        """All of its state, as values that later changes do not affect."""
        return {name: value for name, value in vars(self).items() if name not in self.wiring}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a saved state."""
        vars(self).update(state)

    def shape(self) -> dict[str, Any]:
        """The types of a saved state's values, for ``cores.debugging.plain_values``."""
        declared = get_type_hints(type(self))
        return {name: declared.get(name, type(value)) for name, value in self.save().items()}

    def is_lawful(self) -> bool:
        """Whether a guest could have brought the device into this state; a state from a file may be
        any."""
        numbers = ((name, value) for name, value in self.save().items() if isinstance(value, int))
        return all(name in self.wide or 0 <= value < 256 for name, value in numbers)


class PortlessDevice(Device):
    """A device that is reached by other ways than ports."""

    def read(self, port: int, size: int) -> int:
        raise TypeError(f"{self.name} has no ports")

    def write(self, port: int, size: int, value: int) -> None:
        raise TypeError(f"{self.name} has no ports")


class MemoryDevice(PortlessDevice):
    """A device in physical memory (``cores.pc.physical_memory.MmioDevice``)."""

    window: range = range(0)
    """The physical addresses that it answers: whole pages."""

    stale: bool = False
    """Whether another thread has changed what its interrupt line should be."""

    def is_timely(self, offset: int) -> bool:
        """Whether a load there depends on the time; the board passes it the time before."""
        return True

    @abstractmethod
    def mmio_read(self, offset: int, size: int) -> bytes:
        """A load, ``offset`` bytes into the window."""

    @abstractmethod
    def mmio_peek(self, offset: int, size: int) -> bytes:
        """The answer of ``mmio_read``, without its effects; of any size, up to the whole page."""

    @abstractmethod
    def mmio_write(self, offset: int, data: bytes) -> None:
        """A store."""

    def describe_access(self, offset: int) -> str:
        """The register there by name, for the log of exits; "" where the address says enough."""
        return ""


QUOTED = tuple(f"'{byte:c}'" if 0x20 <= byte < 0x7F else f"{byte:#04x}" for byte in range(256))
"""Each byte as the log shows it: 'A', else 0x0a."""


class InputQueue(Protocol):
    """The user's input, which waits for a device that the guest reads: see typed_input.py."""

    def offer(self) -> None:
        """Give the next byte to the device that the guest listens to, if it has read the last."""

    def offers(self, device: Device) -> bool:
        """Would a guest that polls ``device`` find a byte there?"""

    def take(self, device: Device) -> None:
        """The guest reads the byte that it has found by polling."""
