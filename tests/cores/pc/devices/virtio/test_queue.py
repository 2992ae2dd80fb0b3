"""Split virtqueues: what a driver may do, and what a hostile one gets for it."""

from __future__ import annotations

from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cores.pc.devices.virtio.dma import Dma, ViolationError
from cores.pc.devices.virtio.queue import Chain, Queue, QueueState
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.ram import MIB, Ram

DESCRIPTORS, AVAILABLE, USED, BUFFERS = 0x20000, 0x22000, 0x24000, 0x30000
SIZE = 8
NEXT, WRITE, INDIRECT = 1, 2, 4


@pytest.fixture
def queue(memory: PhysicalMemory) -> Queue:
    return new_queue(memory)


def new_queue(memory: PhysicalMemory) -> Queue:
    queue = Queue(Dma(memory))
    queue.put(QueueState(SIZE, False, DESCRIPTORS, AVAILABLE, USED))
    queue.begin()
    return queue


def describe(queue: Queue, index: int, *fields: int, table: int = DESCRIPTORS) -> None:
    """(address, length, flags, next) of one descriptor."""
    queue.dma.write(table + 16 * index, pack("<QIHH", *(*fields, 0, 0, 0)[:4]))


def offer(queue: Queue, *heads: int) -> None:
    index = queue.dma.read_u16(AVAILABLE + 2)
    for head in heads:
        queue.dma.write_u16(AVAILABLE + 4 + 2 * (index % SIZE), head)
        index += 1
    queue.dma.write_u16(AVAILABLE + 2, index & 0xFFFF)


def test_chains_in_order(queue: Queue) -> None:
    """Chains come in the driver's order, read and written across their buffers, and go back by head."""
    queue.dma.write(BUFFERS, b"abcdefgh")
    describe(queue, 5, BUFFERS, 3, NEXT, 2)
    describe(queue, 2, BUFFERS + 3, 5, NEXT, 7)
    describe(queue, 7, BUFFERS + 0x100, 2, WRITE | NEXT, 0)
    describe(queue, 0, BUFFERS + 0x200, 4, WRITE)
    describe(queue, 1, BUFFERS, 1)
    offer(queue, 5, 1)
    chain = queue.pop()
    assert chain == Chain(
        5, ((BUFFERS, 3), (BUFFERS + 3, 5)), ((BUFFERS + 0x100, 2), (BUFFERS + 0x200, 4))
    )
    assert chain.read(queue.dma) == b"abcdefgh"
    assert chain.read(queue.dma, 5) == b"abcde"
    assert chain.write(queue.dma, b"123456789") == 6
    assert chain.write(queue.dma, b"!", at=5) == 1
    assert queue.dma.read(BUFFERS + 0x100, 2) + queue.dma.read(BUFFERS + 0x200, 4) == b"12345!"
    queue.push(chain, 6)
    second = queue.pop()
    assert second is not None
    assert (second.head, queue.pop()) == (1, None)
    queue.push(second, 0)
    assert queue.dma.read(USED, 20) == pack("<HHIIII", 0, 2, 5, 6, 1, 0)


def test_indirect_tables(queue: Queue) -> None:
    """An indirect table counts as its descriptors, alone or behind others, where that is negotiated."""
    queue.indirect = True
    for index, fields in enumerate([(BUFFERS, 4, NEXT, 1), (BUFFERS + 8, 4, WRITE)]):
        describe(queue, index, *fields, table=BUFFERS + 0x1000)
    describe(queue, 3, BUFFERS + 16, 2, NEXT, 4)
    describe(queue, 4, BUFFERS + 0x1000, 32, INDIRECT)
    offer(queue, 4, 3)
    assert queue.pop() == Chain(4, ((BUFFERS, 4),), ((BUFFERS + 8, 4),))
    assert queue.pop() == Chain(3, ((BUFFERS + 16, 2), (BUFFERS, 4)), ((BUFFERS + 8, 4),))


@pytest.mark.parametrize(
    ("descriptors", "says"),
    [
        ([(BUFFERS, 4, NEXT, 0)], "loop"),
        ([(BUFFERS, 4, NEXT, 1), (BUFFERS, 4, NEXT, 0)], "loop"),
        ([(BUFFERS, 4, NEXT, 9)], "descriptor 9"),
        ([(BUFFERS, 0)], "0 bytes"),
        ([(2 * MIB - 2, 4)], "not all RAM"),
        ([((1 << 64) - 2, 4)], "not all RAM"),
        ([(0xA0000 - 2, 4)], "not all RAM"),
        ([(0xB8000, 4000, WRITE)], "not all RAM"),
        ([(BUFFERS, 0xFFFFFFFF)], "bytes"),
        ([(BUFFERS, 4, WRITE | NEXT, 1), (BUFFERS, 4)], "behind"),
        ([(BUFFERS, 32, INDIRECT)], "without"),
    ],
)
def test_hostile_chains(queue: Queue, descriptors: list[tuple[int, ...]], says: str) -> None:
    """Loops, lengths, addresses and orders that cannot be: refused in words, and not taken."""
    for index, fields in enumerate(descriptors):
        describe(queue, index, *fields)
    offer(queue, 0)
    with pytest.raises(ViolationError, match=says):
        queue.pop()
    assert queue.next == 0


@pytest.mark.parametrize(
    ("inner", "length", "flags"),
    [((BUFFERS, 32, INDIRECT, 0), 16, 0), ((BUFFERS, 4), 24, 0), ((BUFFERS, 4), 0, 0),
     ((BUFFERS, 4), 16, NEXT), ((BUFFERS, 4, NEXT, 0), 16, 0), ((BUFFERS, 4, NEXT, 1), 16, 0)],
)  # fmt: skip
def test_hostile_indirect(queue: Queue, inner: tuple[int, ...], length: int, flags: int) -> None:
    """Tables inside tables, of odd lengths, with something behind them, and with loops."""
    queue.indirect = True
    describe(queue, 0, *inner, table=BUFFERS + 0x1000)
    describe(queue, 0, BUFFERS + 0x1000, length, INDIRECT | flags)
    offer(queue, 0)
    with pytest.raises(ViolationError):
        queue.pop()


def test_hostile_rings(queue: Queue) -> None:
    """Heads and indices that cannot be, and areas that are not aligned or not RAM."""
    offer(queue, SIZE)
    with pytest.raises(ViolationError, match="descriptor 8"):
        queue.pop()
    queue.dma.write_u16(AVAILABLE + 2, SIZE + 1)
    with pytest.raises(ViolationError, match="9 chains"):
        queue.pop()
    for areas in (
        (DESCRIPTORS + 8, AVAILABLE, USED), (DESCRIPTORS, AVAILABLE + 1, USED),
        (DESCRIPTORS, AVAILABLE, USED + 2),
        (2 * MIB - 16, AVAILABLE, USED), (DESCRIPTORS, 0xB8000, USED),
        (DESCRIPTORS, AVAILABLE, 1 << 63),
    ):  # fmt: skip
        queue.put(QueueState(SIZE, False, *areas))
        with pytest.raises(ViolationError):
            queue.begin()
        assert not queue.ready


def test_interrupts_by_flag_and_by_index(queue: Queue) -> None:
    """The driver's flag suppresses interrupts; with event indices its index says from where on."""
    chain = Chain(0, (), ())
    queue.push(chain, 0)
    assert queue.wants_interrupt()
    assert not queue.wants_interrupt()
    queue.dma.write_u16(AVAILABLE, 1)
    queue.push(chain, 0)
    assert not queue.wants_interrupt()
    queue.event_index = True
    queue.dma.write_u16(AVAILABLE + 4 + 2 * SIZE, 4)
    told = []
    for _ in range(6):
        queue.push(chain, 0)
        told.append(queue.wants_interrupt())
    assert told == [False, False, True, False, False, False]
    queue.dma.write_u16(AVAILABLE + 4 + 2 * SIZE, 9)
    for _ in range(4):
        queue.push(chain, 0)
    assert queue.wants_interrupt()


def test_kicks_by_flag_and_by_index(queue: Queue) -> None:
    """The device says by its flag, or by its index, whether it wants to be told."""
    queue.kicks(False)
    assert queue.dma.read_u16(USED) == 1
    queue.kicks(True)
    assert queue.dma.read_u16(USED) == 0
    queue.event_index, queue.next = True, 3
    queue.kicks(True)
    assert queue.dma.read_u16(USED + 4 + 8 * SIZE) == 3
    queue.kicks(False)
    assert queue.dma.read_u16(USED + 4 + 8 * SIZE) == 2


def test_indices_wrap(queue: Queue) -> None:
    """The rings' indices wrap at 65536."""
    describe(queue, 0, BUFFERS, 4, WRITE)
    queue.put(QueueState(SIZE, True, DESCRIPTORS, AVAILABLE, USED, 65530, 65530, 65530))
    queue.dma.write_u16(AVAILABLE + 2, 65530)
    for n in range(20):
        offer(queue, 0)
        chain = queue.pop()
        assert chain is not None
        queue.push(chain, n)
        assert queue.wants_interrupt()
    assert queue.dma.read_u16(USED + 2) == 14


words = st.integers(0, 0xFFFF)
places = st.one_of(
    st.integers(BUFFERS, BUFFERS + 64),
    st.integers(0, (1 << 64) - 1),
    st.integers(2 * MIB - 64, 2 * MIB),
)
descriptors = st.tuples(
    places, st.one_of(st.integers(0, 64), st.integers(0, (1 << 32) - 1)), st.integers(0, 7),
    st.one_of(st.integers(0, SIZE), words),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    st.lists(descriptors, min_size=SIZE, max_size=SIZE), st.lists(st.integers(0, SIZE), max_size=SIZE),
    st.booleans(), st.binary(min_size=64, max_size=64),
)  # fmt: skip
def test_any_queue(
    table: list[tuple[int, int, int, int]], heads: list[int], indirect: bool, inner: bytes
) -> None:
    """Whatever stands in the areas: a chain has only buffers in RAM and no more than the queue's
    entries, or the queue is refused; and nothing is written but the used ring."""
    ram = Ram(2 * MIB)
    try:
        memory = PhysicalMemory(ram)
        queue = new_queue(memory)
        queue.indirect = indirect
        memory.write(BUFFERS, inner)
        for index, fields in enumerate(table):
            describe(queue, index, *fields)
        offer(queue, *heads)
        memory.writes = []
        try:
            while (chain := queue.pop()) is not None:
                buffers = chain.readable + chain.writable
                assert 0 < len(buffers) <= SIZE
                assert all(memory.is_ram(*one) for one in buffers)
                queue.push(chain, 0)
        except ViolationError:
            pass
        assert all(USED <= gpa < USED + 6 + 8 * SIZE for gpa, _ in memory.writes)
        assert queue.state().is_lawful()
    finally:
        memory.writes = None
        ram.close()
