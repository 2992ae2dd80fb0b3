"""Power-off at port 0x604: the ACPI PM1a control register of QEMU's PC.

ACPI specification 4.8.3.2.1: bit 13 (SLP_EN) enters the sleeping state named in bits 10-12; in QEMU
state 0 is S5, off. So a 16-bit write of 0x2000 switches off; other accesses have no effect.
"""

from __future__ import annotations

from typing import Self

from cores.pc.devices.base import Device, Slot
from cores.pc.stop import Ending, Finish, Stop

SLEEP_ENABLE = 0x2000


class Power(Device):
    """The device. finish: called when the guest has switched its machine off."""

    name = "power"
    ports = (0x604,)
    wiring = frozenset({"_finish"})

    def __init__(self, finish: Finish) -> None:
        self._finish = finish

    @classmethod
    def plug(cls, slot: Slot) -> Self:
        return cls(slot.finish)

    def widths(self, port: int) -> frozenset[int]:
        return frozenset({2})

    def read(self, port: int, size: int) -> int:
        return 0xFFFF

    def write(self, port: int, size: int, value: int) -> None:
        if value == SLEEP_ENABLE:
            self._finish(Ending(Stop.POWEROFF))

    def describe(self, port: int, value: int, is_write: bool) -> str:
        return "power off" if is_write and value == SLEEP_ENABLE else self.name
