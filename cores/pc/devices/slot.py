"""A slot of the mainboard: what it offers to the device that is plugged in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cores.pc.devices.storage.disk import Disk
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.stop import Finish

IrqLine = Callable[[bool], None]
"""One input of the interrupt controller: call it with the level that the wire now has."""


@dataclass(frozen=True, slots=True)
class Slot:
    """memory: physical memory, for devices that read and write it by themselves. console: what the
    machine's consoles have written; append to it. disk: the data disk, None where there is none.
    line: the interrupt line of a number (0-15). finish: ends the machine."""

    memory: PhysicalMemory
    console: bytearray
    disk: Disk | None
    line: Callable[[int], IrqLine]
    finish: Finish
