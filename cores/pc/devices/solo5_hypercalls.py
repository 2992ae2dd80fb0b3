"""Solo5's hypercalls (hvt), ports 0x500-0x508: a 32-bit OUT of the physical address of a structure.

    0x501 walltime     {nsecs}
    0x502 puts         {data, len}
    0x503 poll         {timeout_nsecs; ready_set, ret}
    0x504 block write  {handle, offset, data, len; ret}
    0x505 block read   the same
    0x506 net write    {handle, data, len; ret}
    0x507 net read     {handle, data, len; ret}, where len comes back
    0x508 halt         {cookie, exit_status}

All fields are 64 bits but for ret and exit_status, which are 32. Source: Solo5, include/hvt_abi.h and
tenders/hvt. The machine of a Solo5 unikernel has this device, and no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from struct import Struct
from typing import Self

from cores.pc.devices.base import Device, Slot
from cores.pc.devices.storage.disk import SECTOR, Disk, DiskError
from cores.pc.network.link import LONGEST, Link
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


OK, AGAIN, INVALID, UNSPECIFIED = 0, 1, 2, 3
"""solo5_result_t."""

_PAIR, _POLLED, _BLOCK, _HALTED = Struct("<QQ"), Struct("<QQi"), Struct("<QQQQi"), Struct("<Qi")
_NET = Struct("<QQQi")
_SIZES: dict[int, int] = {
    Call.WALLTIME: 8, Call.PUTS: _PAIR.size, Call.POLL: _POLLED.size, Call.BLOCK_WRITE: _BLOCK.size,
    Call.BLOCK_READ: _BLOCK.size, Call.NET_WRITE: _NET.size, Call.NET_READ: _NET.size,
    Call.HALT: _HALTED.size,
}  # fmt: skip
_EPOCH = 946_684_800
"""2000-01-01, in seconds after 1970."""
_LONGEST = 1 << 62


class Hypercalls(Device):
    """blocks, links: the disk of each block device's handle, and the network of each network device's.
    lost: hypercalls whose structure or data are not in RAM."""

    name = "Solo5 hypercall"
    ports = range(BASE, BASE + 12)
    wide = frozenset({"lost"})
    wiring = frozenset({"_slot", "_blocks", "_links"})

    def __init__(self, slot: Slot, blocks: Mapping[int, Disk], links: Mapping[int, Link]) -> None:
        self._slot, self._blocks, self._links = slot, blocks, links
        self.lost = 0

    @classmethod
    def for_manifest(cls, manifest: bytes, path: str, slot: Slot) -> Self:
        """The device of the unikernel at ``path``, with this manifest. Raises InputError."""
        blocks = solo5.assigned(manifest, solo5.BLOCK, [disk.called for disk in slot.disks], path)
        links = solo5.assigned(manifest, solo5.NETWORK, [link.called for link in slot.links], path)
        return cls(
            slot,
            {handle: slot.disks[number] for handle, number in blocks.items()},
            {handle: slot.links[number] for handle, number in links.items()},
        )

    def widths(self, port: int) -> frozenset[int]:
        return frozenset({4})

    def notes(self) -> list[str]:
        told = "the guest made a hypercall with an address that is not in RAM: ignored"
        return [told] if self.lost else []

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
                ready = self._wait(min(-(-timeout // 1000), _LONGEST))
                memory.write(value + 8, ready.to_bytes(8, "little") + bytes(4))
            case Call.BLOCK_WRITE | Call.BLOCK_READ:
                fields = _BLOCK.unpack(memory.read(value, _BLOCK.size))
                result = self._move(call == Call.BLOCK_READ, *fields[:4])
                memory.write(value + 32, result.to_bytes(4, "little"))
            case Call.NET_WRITE:
                handle, data, length, _ = _NET.unpack(memory.read(value, _NET.size))
                result = self._send(handle, data, length)
                memory.write(value + 24, result.to_bytes(4, "little"))
            case Call.NET_READ:
                handle, data, length, _ = _NET.unpack(memory.read(value, _NET.size))
                result, length = self._receive(handle, data, length)
                memory.write(value + 16, length.to_bytes(8, "little") + result.to_bytes(4, "little"))
            case Call.HALT:
                _, status = _HALTED.unpack(memory.read(value, _HALTED.size))
                self._slot.finish(Ending(Stop.EXIT, status & 0xFFFFFFFF))

    def _wait(self, ticks: int) -> int:
        """Hold the guest until a frame arrives, but no longer than ``ticks``. Gives the set of handles
        that will be ready then."""
        now = self._slot.now()
        arrivals = (link.next_arrival() for link in self._links.values())
        until = min([now + ticks, *(max(now, at) for at in arrivals if at is not None)])
        if until > now:
            self._slot.pause(until)
        return sum(1 << handle for handle, link in self._links.items() if link.arrived(until))

    def _send(self, handle: int, data: int, length: int) -> int:
        link, memory = self._links.get(handle), self._slot.memory
        if link is None or length > LONGEST or not memory.is_ram(data, length):
            return INVALID
        link.transmit(memory.read(data, length), self._slot.now())
        return OK

    def _receive(self, handle: int, data: int, length: int) -> tuple[int, int]:
        """The next frame: result, and bytes written. What does not fit is cut off, as by read(2)."""
        link, memory = self._links.get(handle), self._slot.memory
        if link is None or not memory.is_ram(data, length):
            return INVALID, length
        frame = link.receive(self._slot.now())
        if frame is None:
            return AGAIN, length
        memory.write(data, frame[:length])
        return OK, min(length, len(frame))

    def _puts(self, data: int, length: int) -> None:
        if self._slot.memory.is_ram(data, length):
            self._slot.console.extend(self._slot.memory.read(data, length))
        else:
            self.lost += 1

    def _move(self, is_read: bool, handle: int, offset: int, data: int, length: int) -> int:
        """Transfer whole blocks between disk and RAM."""
        disk, memory = self._blocks.get(handle), self._slot.memory
        if disk is None or offset % SECTOR or length % SECTOR:
            return INVALID
        if offset + length > disk.sectors * SECTOR or not memory.is_ram(data, length):
            return INVALID
        try:
            if is_read:
                memory.write(data, disk.read(offset // SECTOR, length // SECTOR))
            else:
                disk.write(offset // SECTOR, memory.read(data, length))
        except DiskError:
            return UNSPECIFIED
        return OK

    def describe(self, port: int, value: int, is_write: bool) -> str:
        if not is_write or port - BASE not in _SIZES:
            return self.name
        return f"{self.name}: {Call(port - BASE).name.lower().replace('_', ' ')}"
