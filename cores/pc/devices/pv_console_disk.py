"""The paravirtual console and disk at 0x5E0-0x5EF: one exit for a whole request.

No hardware like it exists: it is for a guest that knows it runs on a VMM (contract.md). A 32-bit read
of 0x5E0 gives "RPC1". A 32-bit write to 0x5E4 passes the physical address of a descriptor in RAM:

     0  u32  operation: 1 console write, 2 disk read, 3 disk write, 4 disk size
     4  u32  status, set here: 0 done, 1 bad request, 2 out of range, 3 refused
     8  u64  buffer, a physical address
    16  u64  length: bytes for the console, sectors for the disk; the size is returned here
    24  u64  LBA

An unknown operation is a bad request; a buffer that is not all RAM, or sectors beyond the end of the
disk, are out of range; refused are requests without a disk, and those in which the host failed.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Self

from cores.pc.devices.base import Device, Slot
from cores.pc.devices.storage.disk import SECTOR, Disk, DiskError
from cores.pc.physical_memory import PhysicalMemory

MAGIC = 0x31435052
IDENTITY_PORT, REQUEST_PORT = 0x5E0, 0x5E4

DESCRIPTOR = Struct("<IIQQQ")
STATUS_AT, LENGTH_AT = 4, 16

CHUNK = 2048
"""Sectors transferred at a time: a request for 500 MiB must not double the host's memory."""


class Operation(IntEnum):
    CONSOLE_WRITE = 1
    DISK_READ = 2
    DISK_WRITE = 3
    DISK_SIZE = 4


class Status(IntEnum):
    DONE = 0
    BAD_REQUEST = 1
    OUT_OF_RANGE = 2
    REFUSED = 3


class Paravirtual(Device):
    """The device. memory: holds descriptors and buffers. console: the machine's output. lost:
    descriptors that were not in RAM, to which no status could be written."""

    name = "paravirtual"
    ports = range(0x5E0, 0x5F0)
    wide = frozenset({"lost"})
    wiring = frozenset({"_memory", "_console", "disk"})

    def __init__(self, memory: PhysicalMemory, console: bytearray, disk: Disk | None) -> None:
        self._memory = memory
        self._console = console
        self.disk = disk
        self.lost = 0

    @classmethod
    def plug(cls, slot: Slot) -> Self:
        return cls(slot.memory, slot.console, slot.disks[0] if slot.disks else None)

    def widths(self, port: int) -> frozenset[int]:
        return frozenset({4}) if port in (IDENTITY_PORT, REQUEST_PORT) else frozenset()

    def notes(self) -> list[str]:
        lost = "the guest handed over a paravirtual descriptor that is not in RAM: ignored"
        return [lost] if self.lost else []

    def read(self, port: int, size: int) -> int:
        return MAGIC if port == IDENTITY_PORT else 0xFFFFFFFF

    def write(self, port: int, size: int, value: int) -> None:
        if port == REQUEST_PORT:
            self._request(value)

    def describe(self, port: int, value: int, is_write: bool) -> str:
        if not (is_write and port == REQUEST_PORT and self._memory.is_ram(value, DESCRIPTOR.size)):
            return self.name
        operation = int.from_bytes(self._memory.read(value, 4), "little")
        if operation not in Operation.__members__.values():
            return self.name
        return f"{self.name}: {Operation(operation).name.lower().replace('_', ' ')}"

    def _request(self, address: int) -> None:
        memory = self._memory
        if not memory.is_ram(address, DESCRIPTOR.size):
            self.lost += 1
            return
        operation, _, buffer, length, lba = DESCRIPTOR.unpack(memory.read(address, DESCRIPTOR.size))
        try:
            match operation:
                case Operation.CONSOLE_WRITE:
                    status = self._write_console(buffer, length)
                case Operation.DISK_READ | Operation.DISK_WRITE:
                    status = self._move_sectors(operation, buffer, length, lba)
                case Operation.DISK_SIZE:
                    sectors = self.disk.sectors if self.disk else 0
                    memory.write_u64(address + LENGTH_AT, sectors)
                    status = Status.DONE
                case _:
                    status = Status.BAD_REQUEST
        except DiskError:
            status = Status.REFUSED
        memory.write(address + STATUS_AT, status.to_bytes(4, "little"))

    def _write_console(self, buffer: int, length: int) -> Status:
        if not self._memory.is_ram(buffer, length):
            return Status.OUT_OF_RANGE
        self._console.extend(self._memory.read(buffer, length))
        return Status.DONE

    def _move_sectors(self, operation: int, buffer: int, count: int, lba: int) -> Status:
        """Transfer between disk and RAM. The sectors before a failure of the host stay transferred."""
        disk, memory = self.disk, self._memory
        if disk is None:
            return Status.REFUSED
        if lba + count > disk.sectors or not memory.is_ram(buffer, count * SECTOR):
            return Status.OUT_OF_RANGE
        for first in range(0, count, CHUNK):
            sectors = min(CHUNK, count - first)
            at = buffer + first * SECTOR
            if operation == Operation.DISK_READ:
                memory.write(at, disk.read(lba + first, sectors))
            else:
                disk.write(lba + first, memory.read(at, sectors * SECTOR))
        return Status.DONE
