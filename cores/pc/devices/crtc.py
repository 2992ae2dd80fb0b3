"""The VGA's CRT controller at 0x3D4 (index) and 0x3D5 (data): 25 registers, the cursor among them.

Source: IBM, "VGA Technical Reference", CRT controller registers. All are readable and keep what is
written; the text screen (vga.py) stays 80 by 25 at 0xB8000 whatever they say. They start with the
values of text mode 3. Registers 0 to 7 are write-protected by bit 7 of register 0x11, but for bit 4
of 7.
"""

from __future__ import annotations

from cores.pc.devices.base import Device
from cores.pc.devices.vga import COLUMNS, ROWS

INDEX, DATA = 0x3D4, 0x3D5
CURSOR_START, CURSOR_HIGH, CURSOR_LOW, PROTECT, OVERFLOW = 0x0A, 0x0E, 0x0F, 0x11, 0x07
CURSOR_OFF = 0x20
MODE_3 = bytes.fromhex("5f4f50825581bf1f004f0d0e00000000 9c8e8f281f96b9a3ff")
"""The registers as a BIOS sets them for 80 by 25 text."""


class Crtc(Device):
    """index: the register selected. registers: all 25."""

    name = "CRT controller"
    ports = (INDEX, DATA)

    def __init__(self) -> None:
        self.index = 0
        self.registers = MODE_3

    def read(self, port: int, size: int) -> int:
        if port == INDEX:
            return self.index
        return self.registers[self.index] if self.index < len(MODE_3) else 0

    def write(self, port: int, size: int, value: int) -> None:
        if port == INDEX:
            self.index = value
            return
        if self.index >= len(MODE_3):
            return
        if self.index <= OVERFLOW and self.registers[PROTECT] & 0x80:
            if self.index < OVERFLOW:
                return
            value = self.registers[OVERFLOW] & ~0x10 | value & 0x10
        self.registers = (
            self.registers[: self.index] + bytes((value,)) + self.registers[self.index + 1 :]
        )

    def describe(self, port: int, value: int, is_write: bool) -> str:
        what = "cursor" if self.index in (CURSOR_HIGH, CURSOR_LOW) else f"register {self.index:x}"
        return f"{self.name}, {what}"

    @property
    def cursor(self) -> tuple[int, int] | None:
        """Row and column of the cursor; None while it is off, and at the first cell, where it stands
        until a guest moves it."""
        at = self.registers[CURSOR_HIGH] << 8 | self.registers[CURSOR_LOW]
        if not 0 < at < COLUMNS * ROWS or self.registers[CURSOR_START] & CURSOR_OFF:
            return None
        return divmod(at, COLUMNS)

    def facts(self, now: int) -> tuple[tuple[str, str], ...]:
        row, column = divmod(self.registers[CURSOR_HIGH] << 8 | self.registers[CURSOR_LOW], 80)
        return (("cursor", f"row {row}, column {column}"),)

    def is_lawful(self) -> bool:
        return len(self.registers) == len(MODE_3) and super().is_lawful()
