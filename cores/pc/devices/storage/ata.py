"""The disk controller: the primary ATA channel at 0x1F0-0x1F7 and 0x3F6, IRQ 14, with up to two disks.

Source: T13, "AT Attachment with Packet Interface - 5" (ATA/ATAPI-5, 1321D). Without a slave the master
answers in its place, with a status of 0 (9.16.1). Without any disk the bus floats: every register reads
all ones.
"""

from __future__ import annotations

from typing import Self

from cores.pc.devices.base import BYTE, Device, IrqLine, Slot
from cores.pc.devices.storage.ata_drive import AtaDrive
from cores.pc.devices.storage.disk import Disk

DATA_PORT, CONTROL_PORT = 0x1F0, 0x3F6


class Ata(Device):
    """The channel. parts: its drives, master first. asked_in_vain: there is none, and the guest has
    looked for one."""

    name = "ATA disk"
    ports = (*range(DATA_PORT, DATA_PORT + 8), CONTROL_PORT)
    irq = 14
    wiring = frozenset({"_irq", "parts"})

    parts: tuple[AtaDrive, ...]

    def __init__(self, disks: tuple[Disk, ...], irq: IrqLine) -> None:
        self._irq = irq
        self.parts = ()
        self.parts = tuple(AtaDrive(disk, n, self._interrupt) for n, disk in enumerate(disks[:2]))
        self.asked_in_vain = False

    @classmethod
    def plug(cls, slot: Slot) -> Self:
        return cls(slot.disks, slot.line(cls.irq))

    def widths(self, port: int) -> frozenset[int]:
        return frozenset({1, 2, 4}) if port == DATA_PORT else BYTE

    def facts(self, now: int) -> tuple[tuple[str, str], ...]:
        return () if self.parts else (("state", "no disk"),)

    def notes(self) -> list[str]:
        asked = "the guest asked for a disk, and there is none: give it one with --disk"
        return [asked] if self.asked_in_vain else []

    def read(self, port: int, size: int) -> int:
        drive = self._answering()
        if drive is None:
            self.asked_in_vain = True
            return (1 << 8 * size) - 1
        return drive.alternate_status() if port == CONTROL_PORT else drive.read(port & 7, size)

    def write(self, port: int, size: int, value: int) -> None:
        self.asked_in_vain = self.asked_in_vain or not self.parts
        for drive in self.parts:
            if port == CONTROL_PORT:
                drive.set_control(value)
            else:
                drive.write(port & 7, size, value)

    def read_string(self, port: int, size: int, count: int) -> bytes:
        drive = self._answering()
        if port != DATA_PORT or size == 1 or drive is None:
            return super().read_string(port, size, count)
        return drive.read_block(size * count)

    def write_string(self, port: int, size: int, data: bytes) -> None:
        if port != DATA_PORT or size == 1:
            super().write_string(port, size, data)
            return
        for drive in self.parts:
            drive.write_block(data)

    def _answering(self) -> AtaDrive | None:
        """The selected drive, else the master in its place; None without any drive."""
        selected = (drive for drive in self.parts if drive.selected)
        return next(selected, self.parts[0] if self.parts else None)

    def _interrupt(self) -> None:
        self._irq(any(drive.interrupts for drive in self.parts))
