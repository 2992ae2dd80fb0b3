"""A slot of the mainboard: the connections it offers to the device that is plugged in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from cores.pc.devices.storage.disk import Disk
from cores.pc.network.link import Link
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.stop import Finish

IrqLine = Callable[[bool], None]
"""One input of the interrupt controller: called with the level of the wire."""


MOST_CONSOLE = 64 << 20
"""Bytes of console output that are kept; a guest must not fill the host's memory."""


class TextTaker(Protocol):
    """A device besides keyboard and serial port that takes what the user types."""

    @property
    def hungry(self) -> bool:
        """Has the guest given it room for text?"""

    def type(self, text: bytes) -> int:
        """Gives how many of the bytes it has taken."""


@dataclass(frozen=True, slots=True)
class Slot:
    """The mainboard's side of one device. memory: physical memory, for bus-master devices. console: the
    output of the machine's consoles; append to it. disks: master and slave, as far as they are there.
    line: gives the interrupt line of a number (0-15). finish: ends the machine. clock: where the CMOS
    clock begins, in seconds since 2000-01-01 00:00:00. now: the tick of the present access. pause:
    holds the guest after the present instruction, until a tick. links: the networks, for the cards in
    this order. polls: virtio devices look for work, the guest need not tell (``--poll``). listeners:
    append a device that takes what the user types."""

    memory: PhysicalMemory
    console: bytearray
    disks: tuple[Disk, ...]
    line: Callable[[int], IrqLine]
    finish: Finish
    clock: int
    now: Callable[[], int]
    pause: Callable[[int], None]
    links: tuple[Link, ...] = ()
    polls: bool = False
    listeners: list[TextTaker] = field(default_factory=list)
