"""The debug console at port 0xE9, introduced by Bochs ("port_e9_hack") and adopted by QEMU (-device
isa-debugcon): written bytes appear on the host's console; a read gives 0xE9, by which a guest detects
it."""

from __future__ import annotations

from typing import Self

from cores.pc.devices.base import QUOTED, Device, Slot


class DebugConsole(Device):
    """The device. console: the bytes that all of the machine's consoles have written, in order."""

    name = "console"
    ports = (0xE9,)
    wiring = frozenset({"_console"})

    def __init__(self, console: bytearray) -> None:
        self._console = console

    @classmethod
    def plug(cls, slot: Slot) -> Self:
        return cls(slot.console)

    def read(self, port: int, size: int) -> int:
        return 0xE9

    def write(self, port: int, size: int, value: int) -> None:
        self._console.append(value)

    def write_string(self, port: int, size: int, data: bytes) -> None:
        self._console.extend(data)

    def describe(self, port: int, value: int, is_write: bool) -> str:
        return f"console {QUOTED[value & 0xFF]}" if is_write else "console"
