"""virtio-blk: the machine's first disk, many sectors with one request (virtio 1.2, 5.2).

A request is a header of 16 bytes, the data, and a byte for the status, in as many buffers as the driver
likes.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct

from cores.pc.devices.storage.disk import SECTOR, DiskError
from cores.pc.devices.virtio.device import VirtioDevice
from cores.pc.devices.virtio.dma import ViolationError
from cores.pc.devices.virtio.queue import Chain

FLUSH_FEATURE, BLOCK_SIZE_FEATURE = 1 << 9, 1 << 6
HEADER = Struct("<IIQ")
"""type, reserved, sector."""
DONE, FAILED, UNSUPPORTED = 0, 1, 2
_ID = b"ringscope".ljust(20, b"\0")
_CONFIG = Struct("<QIIHBBI")
"""capacity in sectors, size_max, seg_max, cylinders, heads, sectors of a track, block size."""


class Request(IntEnum):
    READ = 0
    WRITE = 1
    FLUSH = 4
    IDENTIFY = 8


class VirtioBlock(VirtioDevice):
    """The disk. Without one its capacity is 0."""

    name = "virtio-blk"
    id = 2
    queue_names = ("requests",)

    def own_features(self) -> int:
        return FLUSH_FEATURE | BLOCK_SIZE_FEATURE

    def config(self) -> bytes:
        return _CONFIG.pack(self._sectors, 0, 0, 0, 0, 0, SECTOR)

    @property
    def _sectors(self) -> int:
        return self._slot.disks[0].sectors if self._slot.disks else 0

    def serve(self, number: int, now: int) -> None:
        self.drain(number, self._request)

    def _request(self, chain: Chain) -> int:
        """Gives the number of bytes written, that of the status included."""
        header = chain.read(self.dma, HEADER.size)
        if len(header) < HEADER.size or not chain.room:
            raise ViolationError("made a disk request without a whole header or a byte for the status")
        kind, _, sector = HEADER.unpack(header)
        room = chain.room - 1
        written = 0
        try:
            match kind:
                case Request.READ:
                    written, status = self._read(chain, sector, room)
                case Request.WRITE:
                    status = self._write(chain, sector)
                case Request.FLUSH:
                    status = DONE
                case Request.IDENTIFY:
                    written, status = chain.write(self.dma, _ID[:room]), DONE
                case _:
                    status = UNSUPPORTED
        except DiskError:
            status = FAILED
        chain.write(self.dma, bytes((status,)), at=room)
        return written + 1

    def _read(self, chain: Chain, sector: int, length: int) -> tuple[int, int]:
        count = length // SECTOR
        if length % SECTOR or sector + count > self._sectors:
            return 0, FAILED
        if not count:
            return 0, DONE
        return chain.write(self.dma, self._slot.disks[0].read(sector, count)), DONE

    def _write(self, chain: Chain, sector: int) -> int:
        data = chain.read(self.dma)[HEADER.size :]
        if len(data) % SECTOR or sector + len(data) // SECTOR > self._sectors:
            return FAILED
        if data:
            self._slot.disks[0].write(sector, data)
        return DONE
