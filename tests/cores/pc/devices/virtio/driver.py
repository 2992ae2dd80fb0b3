"""A virtio driver in Python, from the specification alone: registers by MMIO, queues in RAM."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import partial
from struct import pack, unpack

from cores.pc.devices.board import Board
from cores.pc.devices.storage.disk import Disk
from cores.pc.devices.virtio.bus import BASE, VirtioBus
from cores.pc.devices.virtio.device import VirtioDevice
from cores.pc.network.network import Network
from cores.pc.physical_memory import PhysicalMemory

NEXT, WRITE, INDIRECT = 1, 2, 4
VERSION_1, INDIRECT_DESC, EVENT_IDX = 1 << 32, 1 << 28, 1 << 29
OK = 1 | 2 | 4 | 8


class Echo(Network):
    """A network that sends back each frame after 50 ticks."""

    mode = "echo"

    def carry(self, frame: bytes, now: int) -> None:
        self.enqueue(frame, now + 50)


def make_board(
    memory: PhysicalMemory,
    names: Sequence[str],
    *,
    disks: tuple[Disk, ...] = (),
    networks: tuple[Network, ...] = (),
    polls: bool = False,
    input: bytes = b"",
) -> Board:
    special = (partial(VirtioBus.plug_with, names),)
    return Board(memory, special=special, disks=disks, networks=networks, polls=polls, input=input)


class Ring:
    """One queue of a driver, its three areas a page each. taken: used entries that were read."""

    def __init__(self, driver: Driver, number: int, at: int, size: int) -> None:
        self.driver, self.number, self.size = driver, number, size
        self.memory = driver.memory
        self.descriptors, self.available, self.used = at, at + 0x2000, at + 0x4000
        self.next = self.taken = 0
        self.free = deque(range(size))
        for area in (self.available, self.used):
            self.memory.write(area, bytes(0x2000))
        driver.put(0x30, number)
        assert size <= driver.get(0x34)
        driver.put(0x38, size)
        areas = (self.descriptors, self.available, self.used)
        for register, address in zip((0x80, 0x90, 0xA0), areas, strict=True):
            driver.put(register, address & 0xFFFFFFFF)
            driver.put(register + 4, address >> 32)
        driver.put(0x44, 1)

    def describe(self, index: int, address: int, length: int, flags: int = 0, next: int = 0) -> None:
        fields = pack("<QIHH", address, length, flags, next)
        self.memory.write(self.descriptors + 16 * index, fields)

    def offer(self, head: int) -> None:
        self.memory.write(self.available + 4 + 2 * (self.next % self.size), pack("<H", head))
        self.next = self.next + 1 & 0xFFFF
        self.memory.write(self.available + 2, pack("<H", self.next))

    def add(self, *buffers: tuple[int, int, int]) -> int:
        """A chain of (address, length, flags); gives its head."""
        indices = [self.free.popleft() for _ in buffers]
        for i, (address, length, flags) in enumerate(buffers):
            last = i == len(buffers) - 1
            following = 0 if last else indices[i + 1]
            self.describe(indices[i], address, length, flags | (0 if last else NEXT), following)
        self.free.extend(indices)
        self.offer(indices[0])
        return indices[0]

    def kick(self) -> None:
        self.driver.put(0x50, self.number)

    def wants_kick(self) -> bool:
        """For one more chain, as 2.7.10 has it."""
        if self.driver.features & EVENT_IDX:
            (event,) = unpack("<H", self.memory.read(self.used + 4 + 8 * self.size, 2))
            return bool(event == self.next)
        return not self.memory.read(self.used, 2)[0] & 1

    def done(self) -> list[tuple[int, int]]:
        """New entries of the used ring: (head, bytes written)."""
        (index,) = unpack("<H", self.memory.read(self.used + 2, 2))
        found = []
        while self.taken != index:
            entry = self.memory.read(self.used + 4 + 8 * (self.taken % self.size), 8)
            found.append(unpack("<II", entry))
            self.taken = self.taken + 1 & 0xFFFF
        return found


class Driver:
    """The driver of the device in one slot. queues: places of its queues, each of 0x6000 bytes."""

    def __init__(
        self, board: Board, memory: PhysicalMemory, *, slot: int = 0, features: int = 0, size: int = 8,
        queues: Sequence[int] = (0x40000, 0x46000),
    ) -> None:  # fmt: skip
        self.board, self.memory, self.base = board, memory, BASE + 0x200 * slot
        self.features = features | VERSION_1
        parts = [one for one in board.devices if isinstance(one, VirtioDevice)]
        self.device = parts[slot]
        assert (self.get(0), self.get(4)) == (0x74726976, 2)
        self.put(0x70, 0)
        self.put(0x70, 1 | 2)
        for page in (0, 1):
            self.put(0x24, page)
            self.put(0x20, self.features >> 32 * page & 0xFFFFFFFF)
        self.put(0x70, 1 | 2 | 8)
        assert self.get(0x70) == 11
        self.rings = [
            Ring(self, number, at, size)
            for number, at in enumerate(queues[: len(self.device.queue_names)])
        ]
        self.put(0x70, OK)

    def get(self, register: int, size: int = 4) -> int:
        return int.from_bytes(self.memory.device_read(self.base + register, size), "little")

    def put(self, register: int, value: int) -> None:
        self.memory.device_write(self.base + register, value.to_bytes(4, "little"))

    @property
    def broken(self) -> bool:
        return bool(self.get(0x70) & 0x40)

    @property
    def line(self) -> bool:
        """The level of IRQ 11, as the I/O APIC sees it."""
        return bool(self.board.io_apic.lines >> 11 & 1)
