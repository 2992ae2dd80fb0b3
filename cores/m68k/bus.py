"""The foreign machine's bus: RAM from 0, and two devices of one byte each at the top.

    0xFF0000    console: the byte written is printed
    0xFF0002    power-off: any write turns the machine off

An access to any other address is a bus error, which is delivered to the guest's handler.
"""

from __future__ import annotations

from dataclasses import dataclass

from cores.pc.ram import Ram
from cores.programs.program import M68K_DEVICES

from .exceptions import M68kException, Vector
from .registers import MASK24

CONSOLE, POWER_OFF = M68K_DEVICES, M68K_DEVICES + 2
DEVICES = range(M68K_DEVICES, M68K_DEVICES + 4)


@dataclass(frozen=True, slots=True)
class BusState:
    """The saved state of the bus, without RAM."""

    console: bytes
    off: bool
    accesses: int


class Bus:
    """Reads and writes of 24-bit addresses, big-endian.

    view, size: RAM. console: every byte written there. off: the power switch was used.
    accesses: the number of device accesses. unseen: ranges of RAM that the monitor has written; the
    engine discards its translations of them and removes them from the list.
    """

    def __init__(self, ram: Ram) -> None:
        self.ram = ram
        self.view = ram.view
        self.size = min(ram.size, M68K_DEVICES)
        self.console = bytearray()
        self.off = False
        self.accesses = 0
        self.unseen: list[tuple[int, int]] = []

    def is_ram(self, address: int, length: int) -> bool:
        return address + length <= self.size

    def peek(self, address: int, length: int) -> bytes:
        """Up to ``length`` bytes of RAM, without counting as an access."""
        address &= MASK24
        return bytes(self.view[min(address, self.size) : min(address + length, self.size)])

    def read(self, address: int, length: int, *, fetch: bool = False) -> int:
        """Read a word or a long word from RAM. Raises M68kException."""
        address = self._aligned(address, write=False, fetch=fetch)
        if not self.is_ram(address, length):
            raise M68kException(Vector.BUS_ERROR, address, fetch=fetch)
        return int.from_bytes(self.view[address : address + length], "big")

    def write(self, address: int, length: int, value: int) -> None:
        """Write a word or a long word to RAM. Raises M68kException."""
        address = self._aligned(address, write=True)
        if not self.is_ram(address, length):
            raise M68kException(Vector.BUS_ERROR, address, write=True)
        self.view[address : address + length] = value.to_bytes(length, "big")
        self.unseen.append((address, length))

    def device_write(self, address: int, data: bytes) -> None:
        """Write to a device, high byte first."""
        self.accesses += 1
        for at, byte in enumerate(data, address):
            if at == CONSOLE:
                self.console.append(byte)
            elif at == POWER_OFF:
                self.off = True

    def device_read(self, length: int) -> int:
        """Read from a device: all ones, since both are write-only."""
        self.accesses += 1
        return (1 << 8 * length) - 1

    def save(self) -> BusState:
        return BusState(bytes(self.console), self.off, self.accesses)

    def restore(self, state: BusState) -> None:
        self.console[:] = state.console
        self.off, self.accesses = state.off, state.accesses

    @staticmethod
    def _aligned(address: int, *, write: bool, fetch: bool = False) -> int:
        """The address in 24 bits. Raises M68kException if it is odd (M68000UM/AD, 6.3.10)."""
        address &= MASK24
        if address & 1:
            raise M68kException(Vector.ADDRESS_ERROR, address, write=write, fetch=fetch)
        return address
