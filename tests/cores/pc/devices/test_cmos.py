"""The clock: its time, setting it, and its three interrupts."""

from __future__ import annotations

import pytest

from cores.pc.devices.board import Board
from cores.pc.devices.cmos import SECOND, Cmos
from cores.pc.physical_memory import PhysicalMemory


class Rig:
    """A clock and its interrupt line."""

    def __init__(self, ram: int = 16 << 20) -> None:
        self.edges = 0
        self.level = False
        self.cmos = Cmos(self._line, ram)

    def _line(self, level: bool) -> None:
        self.edges += level and not self.level
        self.level = level

    def get(self, *indices: int) -> list[int]:
        values = []
        for index in indices:
            self.cmos.write(0x70, 1, index)
            values.append(self.cmos.read(0x71, 1))
        return values

    def set(self, index: int, value: int) -> None:
        self.cmos.write(0x70, 1, index)
        self.cmos.write(0x71, 1, value)

    def sleep(self) -> int:
        """Advance to the next event, as HLT does."""
        event = self.cmos.next_event()
        assert event is not None
        self.cmos.advance(event - 1)
        assert not self.level
        self.cmos.advance(event)
        assert self.level
        return event


DATE = (0x32, 9, 8, 7, 6)
CLOCK = (4, 2, 0)


def test_starts_with_the_century() -> None:
    """At tick 0 it is Saturday, 2000-01-01 00:00:00, in BCD and 24 hours."""
    rig = Rig()
    assert rig.get(*DATE, *CLOCK) == [0x20, 0x00, 0x01, 0x01, 7, 0, 0, 0]
    assert rig.get(0x0B, 0x0D) == [0x02, 0x80]
    assert rig.cmos.read(0x70, 1) == 0xFF


def test_time_passes() -> None:
    """60 days (of a leap year) and 13:45:59 later it is March the first."""
    rig = Rig()
    rig.cmos.advance((60 * 86400 + 13 * 3600 + 45 * 60 + 59) * SECOND)
    assert rig.get(*DATE, *CLOCK) == [0x20, 0x00, 0x03, 0x01, 4, 0x13, 0x45, 0x59]
    rig.set(0x0B, 0x04)  # binary, 12 hours
    assert rig.get(*CLOCK) == [0x80 | 1, 45, 59]
    rig.set(0x0B, 0x00)
    assert rig.get(4) == [0x81]


def test_midnight_in_12_hours() -> None:
    """Midnight is 12 am and noon 12 pm."""
    rig = Rig()
    rig.set(0x0B, 0x00)
    assert rig.get(4) == [0x12]
    rig.cmos.advance(12 * 3600 * SECOND)
    assert rig.get(4) == [0x92]


def test_update_in_progress() -> None:
    """Register A announces an update in the last 244 microseconds of a second."""
    rig = Rig()
    for tick, warned in (
        (0, 0),
        (SECOND - 245, 0),
        (SECOND - 244, 0x80),
        (SECOND - 1, 0x80),
        (SECOND, 0),
    ):
        rig.cmos.advance(tick)
        assert rig.get(0x0A) == [0x26 | warned]


def test_setting_the_time() -> None:
    """With SET the clock stops; with SET cleared it continues from the written time."""
    rig = Rig()
    rig.cmos.advance(5 * SECOND + 10)
    rig.set(0x0B, 0x82)
    for index, value in (
        (0, 0x58),
        (2, 0x59),
        (4, 0x23),
        (6, 5),
        (7, 0x31),
        (8, 0x12),
        (9, 0x99),
        (0x32, 0x19),
    ):
        rig.set(index, value)
    rig.cmos.advance(9 * SECOND)
    assert rig.get(0) == [0x58]
    rig.set(0x0B, 0x02)
    assert rig.get(*DATE, *CLOCK) == [0x19, 0x99, 0x12, 0x31, 5, 0x23, 0x59, 0x58]
    rig.cmos.advance(11 * SECOND)
    assert rig.get(*DATE, *CLOCK) == [0x20, 0x00, 0x01, 0x01, 6, 0, 0, 0]


@pytest.mark.parametrize("index", [0, 2, 4, 6, 7, 8, 9, 0x32])
@pytest.mark.parametrize("value", [0, 0x99, 0xFF])
def test_nonsense_is_survived(index: int, value: int) -> None:
    """No value written to a time byte breaks the clock."""
    rig = Rig()
    for control in (0x02, 0x00, 0x06, 0x82, 0x02):
        rig.set(0x0B, control)
        rig.set(index, value)
        rig.cmos.advance(rig.cmos.now + SECOND)
        rig.get(*DATE, *CLOCK)


def test_update_interrupt() -> None:
    """The update interrupt comes once a second and is held until register C is read, which clears the
    flags."""
    rig = Rig()
    rig.set(0x0B, 0x12)
    assert rig.sleep() == SECOND
    assert rig.cmos.next_event() is None
    assert rig.get(0x0C) == [0x80 | 0x10 | 0x40]
    assert not rig.level
    assert rig.get(0x0C) == [0]
    assert rig.sleep() == 2 * SECOND


@pytest.mark.parametrize(("rate", "first"), [(6, 977), (3, 123), (1, 3907), (15, 500_000)])
def test_periodic_interrupt(rate: int, first: int) -> None:
    """The periodic interrupt has register A's rate: 1024 Hz, 8192 Hz, 256 Hz, 2 Hz."""
    rig = Rig()
    rig.set(0x0A, 0x20 | rate)
    rig.set(0x0B, 0x42)
    assert rig.sleep() == first
    assert rig.get(0x0C)[0] & 0xC0 == 0xC0


def test_rate_zero_is_off() -> None:
    """Rate 0 has no periodic interrupt."""
    rig = Rig()
    rig.set(0x0A, 0x20)
    rig.set(0x0B, 0x42)
    assert rig.cmos.next_event() is None


def test_alarm() -> None:
    """The alarm comes at 00:01:05; with any hour, at the next full match; an impossible one never."""
    rig = Rig()
    for index, value in ((1, 0x05), (3, 0x01), (5, 0x00)):
        rig.set(index, value)
    rig.set(0x0B, 0x22)
    assert rig.sleep() == 65 * SECOND
    assert rig.get(0x0C)[0] & 0xA0 == 0xA0
    rig.set(5, 0xFF)
    assert rig.sleep() == (3600 + 65) * SECOND
    rig.get(0x0C)
    rig.set(3, 0xFF)
    rig.set(1, 0xC0)
    assert rig.sleep() == (3600 + 66) * SECOND
    rig.get(0x0C)
    rig.set(5, 0x00)
    assert rig.cmos.next_event() == 86400 * SECOND
    rig.set(5, 0x25)
    assert rig.cmos.next_event() is None


def test_flags_without_enables() -> None:
    """Flags rise in register C without an interrupt; enabling a raised one interrupts."""
    rig = Rig()
    rig.cmos.advance(SECOND)
    assert not rig.level
    rig.set(0x0B, 0x12)
    assert rig.level
    assert rig.get(0x0C)[0] & 0x90 == 0x90


def test_memory() -> None:
    """The other bytes are RAM, which holds the size of memory as firmware writes it."""
    rig = Rig(ram=64 << 20)
    assert rig.get(0x15, 0x16) == [0x80, 0x02]
    assert rig.get(0x34, 0x35) == [0x00, 0x03]
    rig.set(0x40, 0x5A)
    rig.set(0x0D, 0x00)
    assert rig.get(0x40, 0xC0, 0x0D) == [0x5A, 0x5A, 0x80]


def test_the_user_sets_where_it_begins(memory: PhysicalMemory) -> None:
    """``--clock``: the clock begins there, before 2000, too."""
    for clock, shown in ((26 * 365 * 86_400 + 7 * 86_400, 0x26), (-1, 0x99)):
        board = Board(memory, clock=clock)
        board.write(0x70, 1, 9)
        assert board.read(0x71, 1) == shown
