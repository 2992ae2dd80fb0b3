"""The exit port at 0xF4, after QEMU's isa-debug-exit: a write ends the machine.

Here the exit status is the value written, whatever its width; QEMU's process exits with (value << 1) |
1, which is decoded where its status is read.
"""

from __future__ import annotations

from typing import Self

from cores.pc.devices.base import Device, Slot
from cores.pc.stop import Ending, Finish, Stop


class ExitPort(Device):
    """The device. finish: called with the exit status."""

    name = "exit port"
    ports = (0xF4,)
    wiring = frozenset({"_finish"})

    def __init__(self, finish: Finish) -> None:
        self._finish = finish

    @classmethod
    def plug(cls, slot: Slot) -> Self:
        return cls(slot.finish)

    def widths(self, port: int) -> frozenset[int]:
        return frozenset({1, 2, 4})

    def read(self, port: int, size: int) -> int:
        return (1 << 8 * size) - 1

    def write(self, port: int, size: int, value: int) -> None:
        self._finish(Ending(Stop.EXIT, value))

    def describe(self, port: int, value: int, is_write: bool) -> str:
        return f"exit with {value}" if is_write else self.name
