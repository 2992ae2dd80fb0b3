"""Virtio devices behind their registers, driven by a driver written from the specification."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from struct import pack, unpack

import pytest

from cores.pc.devices.board import Board
from cores.pc.devices.storage.disk import Disk
from cores.pc.devices.virtio.bus import BASE
from cores.pc.physical_memory import PhysicalMemory
from tests.cores.pc.devices.virtio.driver import (
    EVENT_IDX,
    INDIRECT,
    INDIRECT_DESC,
    WRITE,
    Driver,
    Echo,
    Ring,
    make_board,
)

BUFFER = 0x60000
HEADER = bytes(12)


def net(memory: PhysicalMemory, *, features: int = 0, polls: bool = False) -> Driver:
    board = make_board(memory, ("net",), networks=(Echo(),), polls=polls)
    return Driver(board, memory, features=features)


def frame(size: int = 60, fill: int = 1) -> bytes:
    return b"\xff" * 6 + bytes(6) + b"\x88\xb5" + bytes([fill]) * (size - 14)


def send(driver: Driver, *frames: bytes) -> None:
    for n, one in enumerate(frames):
        driver.memory.write(BUFFER + 0x800 * n, HEADER + one)
        driver.rings[1].add((BUFFER + 0x800 * n, 12 + len(one), 0))
    driver.rings[1].kick()


def test_registers(memory: PhysicalMemory) -> None:
    """Magic, version, IDs in order, an empty slot behind them, and features by pages."""
    board = make_board(memory, ("console", "net", "block"), networks=(Echo(),))
    ids = [int.from_bytes(memory.device_read(BASE + 0x200 * n + 8, 4), "little") for n in range(8)]
    assert ids == [3, 1, 2, 0, 0, 0, 0, 0]
    assert memory.device_read(BASE + 0x600, 8) == b"virt" + pack("<I", 2)
    driver = Driver(board, memory, slot=1)
    driver.put(0x14, 1)
    assert driver.get(0x10) == 1
    driver.put(0x14, 0)
    assert driver.get(0x10) & (1 << 5 | 1 << 28 | 1 << 29) == 1 << 5 | 1 << 28 | 1 << 29
    driver.put(0x14, 2)
    assert driver.get(0x10) == 0
    assert memory.device_read(driver.base + 0x100, 6) == bytes.fromhex("525400123456")
    driver.put(0x30, 5)
    assert driver.get(0x34) == 0
    assert memory.device_read(BASE, 2) == b"vi"
    assert memory.device_peek(BASE, 0x1000)[:4] == b"virt"


def test_features_are_negotiated(memory: PhysicalMemory) -> None:
    """A feature that was not offered, or version 1 left out, and FEATURES_OK does not stay."""
    driver = net(memory)
    for features in (0, 1 << 32 | 1 << 3, 1 << 32 | 1 << 63):
        driver.put(0x70, 0)
        driver.put(0x70, 3)
        for page in (0, 1):
            driver.put(0x24, page)
            driver.put(0x20, features >> 32 * page & 0xFFFFFFFF)
        driver.put(0x70, 11)
        assert driver.get(0x70) == 3


@pytest.mark.parametrize("features", [0, EVENT_IDX, INDIRECT_DESC])
def test_net_echo(memory: PhysicalMemory, features: int) -> None:
    """Frames go out with one kick and come back at their tick, into the driver's buffers, with an
    interrupt on IRQ 11 that its acknowledgement ends."""
    driver = net(memory, features=features)
    receive, transmit = driver.rings
    if features & EVENT_IDX:
        memory.write(transmit.available + 4 + 16, pack("<H", 7))  # of the first only
    else:
        memory.write(transmit.available, pack("<H", 1))
    for n in range(3):
        receive.add((0x70000 + 0x800 * n, 12, WRITE), (0x70000 + 0x800 * n + 12, 1514, WRITE))
    send(driver, frame(fill=1), frame(200, 2), frame(1514, 3))
    assert [written for _, written in transmit.done()] == [0, 0, 0]
    assert not driver.line
    board = driver.board
    assert board.deadline == 50
    board.advance(49)
    assert receive.done() == []
    board.advance(50)
    assert [written for _, written in receive.done()] == [72, 212, 1526]
    assert memory.read(0x70800, 212) == pack("<10xH", 1) + frame(200, 2)
    assert driver.line
    assert driver.get(0x60) == 1
    driver.put(0x64, 1)
    assert not driver.line
    assert (driver.device.kicks, driver.device.raised) == (1, 1)


def test_net_waits_for_buffers(memory: PhysicalMemory) -> None:
    """Frames for which there is no buffer wait; then, and only then, the device wants to hear of new
    ones."""
    driver = net(memory)
    receive, board = driver.rings[0], driver.board
    assert not receive.wants_kick()
    send(driver, frame(), frame(fill=2))
    board.advance(50)
    assert receive.wants_kick()
    assert board.next_event() is None
    receive.add((0x70000, 1526, WRITE))
    receive.kick()
    assert len(receive.done()) == 1
    receive.add((0x70000, 1526, WRITE))
    receive.kick()
    assert memory.read(0x70000 + 12, 60) == frame(fill=2)
    assert not receive.wants_kick()
    assert not driver.broken


def test_polled(memory: PhysicalMemory) -> None:
    """With --poll no kick is wanted; the queue is looked at every 1000 ticks, and before a sleep."""
    for features in (0, EVENT_IDX):
        driver = net(memory, features=features, polls=True)
        receive, transmit, board = *driver.rings, driver.board
        assert not receive.wants_kick()
        assert not transmit.wants_kick()
        receive.add((0x70000, 1526, WRITE))
        memory.write(BUFFER, HEADER + frame())
        transmit.add((BUFFER, 72, 0))
        assert board.deadline == 1000
        assert board.next_event() is None
        board.advance(1000)
        assert len(transmit.done()) == 1
        assert board.next_event() == 1050
        board.advance(1050)
        assert len(receive.done()) == 1
        assert board.deadline == 2000
        transmit.add((BUFFER, 72, 0))
        board.poll()
        assert len(transmit.done()) == 1
        assert driver.device.kicks == 0


@pytest.fixture
def disk(image: Path) -> Disk:
    return Disk(str(image))


def request(driver: Driver, kind: int, sector: int, data: tuple[int, int], *, write: bool) -> int:
    """A request in three buffers; gives its status."""
    memory, ring = driver.memory, driver.rings[0]
    memory.write(BUFFER, pack("<IIQ", kind, 0, sector))
    ring.add((BUFFER, 16, 0), (*data, WRITE if write else 0), (BUFFER + 16, 1, WRITE))
    ring.kick()
    ((_, driver.written),) = ring.done()  # type: ignore[attr-defined]
    return memory.read(BUFFER + 16, 1)[0]


def test_block(memory: PhysicalMemory, disk: Disk) -> None:
    """Reads and writes sectors, flushes, says who it is, and refuses what lies behind the end."""
    driver = Driver(make_board(memory, ("block",), disks=(disk,)), memory)
    assert unpack("<Q", memory.device_read(driver.base + 0x100, 8)) == (40,)
    assert unpack("<I", memory.device_read(driver.base + 0x114, 4)) == (512,)
    assert request(driver, 0, 7, (0x70001, 1024), write=True) == 0
    assert driver.written == 1025  # type: ignore[attr-defined]
    assert memory.read(0x70001, 1024) == b"\x07" * 512 + b"\x08" * 512
    assert request(driver, 1, 20, (0x70001, 1024), write=False) == 0
    assert disk.read(20, 2) == b"\x07" * 512 + b"\x08" * 512
    assert request(driver, 4, 0, (0x70000, 512), write=True) == 0
    assert request(driver, 8, 0, (0x70000, 20), write=True) == 0
    assert memory.read(0x70000, 9) == b"ringscope"
    for kind, sector, length in (
        (0, 40, 512),
        (0, 39, 1024),
        (0, 0, 500),
        (0, 1 << 63, 512),
        (1, 40, 512),
    ):
        assert request(driver, kind, sector, (0x70000, length), write=kind == 0) == 1
    assert request(driver, 99, 0, (0x70000, 512), write=True) == 2
    disk.close()


def test_block_in_any_buffers(memory: PhysicalMemory, disk: Disk) -> None:
    """A request may be cut into buffers anywhere, its header and its status too, also in a table."""
    driver = Driver(make_board(memory, ("block",), disks=(disk,)), memory, features=INDIRECT_DESC)
    ring = driver.rings[0]
    memory.write(BUFFER, pack("<IIQ", 0, 0, 3))
    cuts = [(BUFFER, 5, 0), (BUFFER + 5, 11, 0), (0x70000, 100, WRITE), (0x71000, 413, WRITE)]
    table = b"".join(pack("<QIHH", *cut, i + 1) for i, cut in enumerate(cuts))
    flags = [cut[2] | (i < 3) for i, cut in enumerate(cuts)]
    table = b"".join(pack("<QIHH", a, n, flags[i], i + 1) for i, (a, n, _) in enumerate(cuts))
    memory.write(0x72000, table)
    ring.add((0x72000, len(table), INDIRECT))
    ring.kick()
    assert [written for _, written in ring.done()] == [513]
    assert memory.read(0x70000, 100) + memory.read(0x71000, 413) == b"\x03" * 512 + b"\0"
    disk.close()


def test_console(memory: PhysicalMemory) -> None:
    """What the driver sends stands on the console; what the user types comes into its buffers, where
    neither keyboard nor serial port is listened to."""
    board = make_board(memory, ("console",), input=b"typed")
    driver = Driver(board, memory)
    memory.write(BUFFER, b"hello world")
    driver.rings[1].add((BUFFER, 6, 0), (BUFFER + 6, 5, 0))
    driver.rings[1].kick()
    assert board.console == b"hello world"
    driver.rings[0].add((0x70000, 3, WRITE))
    driver.rings[0].add((0x71000, 3, WRITE))
    driver.rings[0].kick()
    assert [written for _, written in driver.rings[0].done()] == [3, 2]
    assert memory.read(0x70000, 3) + memory.read(0x71000, 2) == b"typed"
    board.type_text(b"!")
    driver.rings[0].add((0x70000, 3, WRITE))
    driver.rings[0].kick()
    assert memory.read(0x70000, 1) == b"!"


def test_a_broken_rule_stops_the_device(memory: PhysicalMemory) -> None:
    """A descriptor outside RAM: DEVICE_NEEDS_RESET, an interrupt for it, a note, no store; nothing more
    is taken until a reset, after which it works again."""
    driver = net(memory)
    memory.writes = []
    driver.rings[1].add((0x70000, 60, 0), (1 << 40, 60, 0))
    memory.writes.clear()
    driver.rings[1].kick()
    assert memory.writes == []
    memory.writes = None
    assert driver.broken
    assert driver.get(0x60) == 2
    assert driver.line
    assert "virtio-net needs a reset: its driver named 60 bytes at 0x10000000000" in " ".join(
        driver.board.notes()
    )
    send(driver, frame())
    assert driver.rings[1].done() == []
    again = Driver(driver.board, memory)
    assert not again.line
    memory.write(again.rings[1].available, bytes(64))
    memory.write(again.rings[1].used, bytes(64))
    send(again, frame())
    assert len(again.rings[1].done()) == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d.rings[1].add((BUFFER, 5, 0)),  # no whole header
        lambda d: d.rings[1].offer(200),
        lambda d: d.memory.write(d.rings[1].available + 2, pack("<H", 100)),
    ],
)
def test_other_broken_rules(memory: PhysicalMemory, spoil: Callable[[Driver], None]) -> None:
    """Too short a frame, a head and an index that cannot be."""
    driver = net(memory)
    spoil(driver)
    driver.rings[1].kick()
    assert driver.broken
    assert not driver.board.networks[0].passed


def test_goes_back(memory: PhysicalMemory) -> None:
    """A saved state brings the queues' positions back; RAM is the session's to restore."""
    driver = net(memory)
    state, ram = driver.board.save(), bytes(memory.view[: memory.size])
    send(driver, frame())
    driver.board.restore(state)
    memory.view[: memory.size] = ram
    assert driver.rings[1].done() == []
    driver.rings[1].next = driver.rings[1].taken = 0
    send(driver, frame())
    assert len(driver.rings[1].done()) == 1
    assert driver.board.is_lawful()


def test_any_registers_are_survived(memory: PhysicalMemory, disk: Disk) -> None:
    """Random stores into the registers of all devices: nothing raises, and the state may be saved."""
    random = Random(4)
    board: Board = make_board(memory, ("net", "block", "console"), networks=(Echo(),), disks=(disk,))
    offsets = [0x14, 0x20, 0x24, 0x30, 0x38, 0x44, 0x50, 0x64, 0x70, 0x80, 0x84, 0x90, 0x94, 0xA0, 0xA4]
    values = [0, 1, 2, 4, 8, 15, 0x1000, 0x2000, 0x30000, 0xFFFFFFFF]
    for tick in range(3000):
        value = random.choice(values) if random.random() < 0.8 else random.getrandbits(32)
        size = random.choice([1, 4, 4, 4, 8])
        at = BASE + 0x200 * random.randrange(3) + random.choice([*offsets, random.randrange(0x1F8)])
        if at % 0x1000 + size <= 0x1000:
            memory.device_write(at, value.to_bytes(8, "little")[:size])
            memory.device_read(at, size)
        board.advance(tick * 10)
    assert board.is_lawful()
    board.restore(board.save())
    disk.close()


def test_no_work_without_agreed_features(memory: PhysicalMemory) -> None:
    """DRIVER_OK without FEATURES_OK breaks a rule: nothing is taken from the queues. The note says so,
    and after a reset that it is over."""
    driver = net(memory)
    for status in (4, 1 | 2 | 4):
        driver.put(0x70, 0)
        driver.rings[1] = Ring(driver, 1, 0x46000, 8)
        driver.put(0x70, status)
        send(driver, frame())
        assert (driver.broken, driver.rings[1].done()) == (True, [])
        (note,) = driver.device.notes()
        assert note.startswith("virtio-net needs a reset: its driver said DRIVER_OK without")
    driver.put(0x70, 0)
    (note,) = driver.device.notes()
    assert note.startswith("virtio-net needed a reset, and got it: ")
