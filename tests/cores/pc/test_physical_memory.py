"""Windows of devices in the guest's physical memory."""

from __future__ import annotations

import pytest

from cores.pc.physical_memory import PhysicalMemory
from cores.pc.ram import Ram


class Echo:
    """A device that answers the offset of each byte."""

    def mmio_read(self, offset: int, size: int) -> bytes:
        return bytes((offset + i) & 0xFF for i in range(size))

    mmio_peek = mmio_read

    def mmio_write(self, offset: int, data: bytes) -> None:
        raise AssertionError("nothing is stored")


@pytest.fixture
def memory() -> PhysicalMemory:
    return PhysicalMemory(Ram(2 << 20))


def test_a_window_is_whole(memory: PhysicalMemory) -> None:
    """The device answers each byte of its window, and none beside it."""
    memory.attach(range(0xD0000000, 0xD0002000), Echo())
    assert memory.read(0xD0001FFE, 4) == b"\xfe\xff\xff\xff"
    assert memory.read(0xCFFFFFFE, 4) == b"\xff\xff\x00\x01"


@pytest.mark.parametrize(
    ("window", "complaint"),
    [
        (range(0xD0000000, 0xD0000200), "whole pages"),
        (range(0xD0000000, 0xD0001200), "whole pages"),
        (range(0xD0000800, 0xD0001000), "whole pages"),
        (range(0xD0000000, 0xD0000000), "whole pages"),
        (range(0x1FF000, 0x201000), "RAM"),
        (range(0xC0000000, 0xC0002000), "another window"),
    ],
)
def test_a_window_that_cannot_be_answered_is_refused(
    memory: PhysicalMemory, window: range, complaint: str
) -> None:
    """A window of which a part would be dropped, in RAM, or taken, is refused, and nothing is
    attached."""
    memory.attach(range(0xC0001000, 0xC0002000), Echo())
    with pytest.raises(ValueError, match=complaint):
        memory.attach(window, Echo())
    assert memory.read(window.start, 2) == b"\xff\xff" if window.start >= 2 << 20 else b"\0\0"
