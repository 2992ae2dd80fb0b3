"""Solo5's hypercalls (hvt), ports 0x500-0x508: a 32-bit OUT of the physical address of a structure.

    0x501 walltime     {nsecs}
    0x502 puts         {data, len}
    0x503 poll         {timeout_nsecs; ready_set, ret}
    0x504 block write  {handle, offset, data, len; ret}
    0x505 block read   the same
    0x506, 0x507       net write and read, which are not there yet
    0x508 halt         {cookie, exit_status}

All fields are 64 bits but for ret and exit_status, which are 32. Source: Solo5, include/hvt_abi.h and
tenders/hvt. The machine of a Solo5 unikernel has this device, and no other.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Self

from cores.pc.devices.base import Device, Slot
from cores.pc.devices.storage.disk import SECTOR, DiskError
from cores.pc.stop import Ending, Stop
from cores.programs import solo5

BASE = 0x500


class Call(IntEnum):
    """A hypercall: the port's distance from ``BASE``."""

    WALLTIME = 1
    PUTS = 2
    POLL = 3
    BLOCK_WRITE = 4
    BLOCK_READ = 5
    NET_WRITE = 6
    NET_READ = 7
    HALT = 8


OK, INVALID, UNSPECIFIED = 0, 2, 3
"""solo5_result_t."""

_PAIR, _POLLED, _BLOCK, _HALTED = Struct("<QQ"), Struct("<QQi"), Struct("<QQQQi"), Struct("<Qi")
_SIZES: dict[int, int] = {
    Call.WALLTIME: 8, Call.PUTS: _PAIR.size, Call.POLL: _POLLED.size, Call.BLOCK_WRITE: _BLOCK.size,
    Call.BLOCK_READ: _BLOCK.size, Call.NET_WRITE: 28, Call.NET_READ: 28, Call.HALT: _HALTED.size,
}  # fmt: skip
_EPOCH = 946_684_800
"""2000-01-01, in seconds after 1970."""
_LONGEST = 1 << 62


class Hypercalls(Device):
    """blocks: handles of the manifest's block devices; all of them are the machine's first disk. lost:
    hypercalls whose structure or data are not in RAM."""

    name = "Solo5 hypercall"
    ports = range(BASE, BASE + 12)
    wide = frozenset({"lost"})
    wiring = frozenset({"_slot", "_blocks"})

    def __init__(self, slot: Slot, blocks: frozenset[int]) -> None:
        self._slot, self._blocks = slot, blocks
        self.lost = 0

    @classmethod
    def for_manifest(cls, manifest: bytes, slot: Slot) -> Self:
        """The device of a unikernel with this manifest."""
        entries = solo5.entries_of(manifest)
        return cls(slot, frozenset(i for i, entry in enumerate(entries) if entry.kind == solo5.BLOCK))

    def widths(self, port: int) -> frozenset[int]:
        return frozenset({4})

    def notes(self) -> list[str]:
        notes = []
        if self.lost:
            notes.append("the guest made a hypercall with an address that is not in RAM: ignored")
        if len(self._blocks) > 1:
            notes.append(f"all {len(self._blocks)} block devices of the manifest are the same disk")
        return notes

    def read(self, port: int, size: int) -> int:
        return (1 << 8 * size) - 1

    def write(self, port: int, size: int, value: int) -> None:
        call, memory = port - BASE, self._slot.memory
        if size != 4 or call not in _SIZES:
            return  # a number that the ABI does not have
        if not memory.is_ram(value, _SIZES[call]):
            self.lost += 1
            return
        match call:
            case Call.WALLTIME:
                nanoseconds = (_EPOCH + self._slot.clock) * 10**9 + self._slot.now() * 1000
                memory.write_u64(value, nanoseconds)
            case Call.PUTS:
                self._puts(*_PAIR.unpack(memory.read(value, _PAIR.size)))
            case Call.POLL:
                timeout, _, _ = _POLLED.unpack(memory.read(value, _POLLED.size))
                memory.write(value + 8, bytes(12))  # nothing is ready, which is no error
                self._slot.pause(self._slot.now() + min(-(-timeout // 1000), _LONGEST))
            case Call.BLOCK_WRITE | Call.BLOCK_READ:
                fields = _BLOCK.unpack(memory.read(value, _BLOCK.size))
                result = self._move(call == Call.BLOCK_READ, *fields[:4])
                memory.write(value + 32, result.to_bytes(4, "little"))
            case Call.NET_WRITE | Call.NET_READ:
                memory.write(value + 24, UNSPECIFIED.to_bytes(4, "little"))
            case Call.HALT:
                _, status = _HALTED.unpack(memory.read(value, _HALTED.size))
                self._slot.finish(Ending(Stop.EXIT, status & 0xFFFFFFFF))

    def _puts(self, data: int, length: int) -> None:
        if self._slot.memory.is_ram(data, length):
            self._slot.console.extend(self._slot.memory.read(data, length))
        else:
            self.lost += 1

    def _move(self, is_read: bool, handle: int, offset: int, data: int, length: int) -> int:
        """Transfer whole blocks between disk and RAM."""
        disks, memory = self._slot.disks, self._slot.memory
        if handle not in self._blocks or not disks or offset % SECTOR or length % SECTOR:
            return INVALID
        if offset + length > disks[0].sectors * SECTOR or not memory.is_ram(data, length):
            return INVALID
        try:
            if is_read:
                memory.write(data, disks[0].read(offset // SECTOR, length // SECTOR))
            else:
                disks[0].write(offset // SECTOR, memory.read(data, length))
        except DiskError:
            return UNSPECIFIED
        return OK

    def describe(self, port: int, value: int, is_write: bool) -> str:
        if not is_write or port - BASE not in _SIZES:
            return self.name
        return f"{self.name}: {Call(port - BASE).name.lower().replace('_', ' ')}"
