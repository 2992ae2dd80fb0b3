"""The interval timer against its clock: floor(ticks x 1.193182)."""

from __future__ import annotations

import pytest

from cores.pc.devices.pit import Pit, clock_at, tick_of


class Rig:
    """A PIT, and the number of rising edges on its line."""

    def __init__(self) -> None:
        self.edges = 0
        self.level = False
        self.pit = Pit(self._line)

    def _line(self, level: bool) -> None:
        self.edges += level and not self.level
        self.level = level

    def load(self, control: int, *data: int) -> None:
        self.pit.write(0x43, 1, control)
        for value in data:
            self.pit.write(0x40 + (control >> 6), 1, value)

    def count(self, counter: int = 0) -> int:
        self.pit.write(0x43, 1, counter << 6)
        port = 0x40 + counter
        return self.pit.read(port, 1) | self.pit.read(port, 1) << 8

    def status(self, counter: int = 0) -> int:
        self.pit.write(0x43, 1, 0xE0 | 2 << counter)
        return self.pit.read(0x40 + counter, 1)


@pytest.mark.parametrize("clock", [0, 1, 2, 1193, 65536, 1_193_182, 10**12 + 7])
def test_tick_of_is_the_first(clock: int) -> None:
    """``tick_of`` is the first tick at which so many clocks have passed."""
    tick = tick_of(clock)
    assert clock_at(tick) >= clock
    assert tick == 0 or clock_at(tick - 1) < clock


def test_frequency() -> None:
    """A million ticks, one second, are 1,193,182 clocks (contract: floor(ticks x 1.193182))."""
    assert [clock_at(tick) for tick in (1, 999_999, 1_000_000)] == [1, 1_193_180, 1_193_182]


def test_runs_from_the_start() -> None:
    """At boot counter 0 runs as firmware leaves it: mode 2, 65536."""
    rig = Rig()
    assert rig.status() == 0xB4
    rig.pit.advance(1000)
    assert rig.count() == 65536 - 1193
    assert rig.pit.next_event() == tick_of(65536) == 54926


def test_mode_2_beats() -> None:
    """Mode 2, rate generator: an edge each period, and a count from N to 1."""
    rig = Rig()
    rig.pit.advance(500)
    rig.load(0x34, 0x9C, 0x2E)  # 11932: 100 Hz
    start = clock_at(500)
    beats = []
    for _ in range(3):
        event = rig.pit.next_event()
        assert event is not None
        rig.pit.advance(event - 1)
        assert rig.edges == len(beats)
        rig.pit.advance(event)
        beats.append(event)
        assert rig.edges == len(beats)
    assert beats == [tick_of(start + 11932 * n) for n in (1, 2, 3)]
    assert rig.count() == 11932


def test_mode_3_counts_by_two() -> None:
    """Mode 3, square wave: the count falls by two, and OUT is high for the first half."""
    rig = Rig()
    rig.load(0x36, 0xE8, 0x03)  # 1000
    assert rig.status() & 0x80
    rig.pit.advance(tick_of(100))
    assert rig.count() == 800
    rig.pit.advance(tick_of(600))
    assert not rig.status() & 0x80
    assert rig.count() == 800
    rig.pit.advance(tick_of(1000))
    assert rig.edges == 1


def test_mode_0_fires_once() -> None:
    """Mode 0, terminal count: OUT is low until the count is over, then high, with one edge; counting
    goes on."""
    rig = Rig()
    rig.load(0x30, 100, 0)
    assert not rig.status() & 0x80
    rig.pit.advance(tick_of(100))
    assert rig.edges == 1
    assert rig.status() & 0x80
    assert rig.pit.next_event() is None
    rig.pit.advance(tick_of(103))
    assert rig.count() == 0x10000 - 3
    rig.pit.write(0x40, 1, 50)  # the low byte of a new count stops the old
    assert not rig.level
    rig.pit.write(0x40, 1, 0)
    rig.pit.advance(tick_of(clock_at(tick_of(103)) + 50))
    assert rig.edges == 2


def test_mode_4_strobes() -> None:
    """Mode 4, software strobe: one low clock at the end, hence one edge."""
    rig = Rig()
    rig.load(0x38, 10, 0)
    assert rig.pit.next_event() == tick_of(11)
    rig.pit.advance(1000)
    assert rig.edges == 1
    assert rig.pit.next_event() is None


@pytest.mark.parametrize("mode", [1, 5])
def test_gated_modes_wait(mode: int) -> None:
    """Modes 1 and 5 wait for an edge of the gate, which never comes."""
    rig = Rig()
    rig.load(0x30 | mode << 1, 10, 0)
    rig.pit.advance(10**6)
    assert rig.edges == 0
    assert rig.count() == 10


def test_nothing_before_the_count_is_whole() -> None:
    """After a control word the counter stands, with "null count" set, until both bytes are written."""
    rig = Rig()
    rig.load(0x34, 0x10)
    assert rig.pit.next_event() is None
    assert rig.status() & 0x40
    rig.pit.write(0x40, 1, 0x00)
    assert not rig.status() & 0x40


def test_null_count_until_it_is_loaded() -> None:
    """Mode 2 takes a new count at the end of the period; until then the old one counts down, with "null
    count" set (8254 data sheet, Read-Back Command)."""
    rig = Rig()
    rig.load(0x34, 0x00, 0x10)
    rig.pit.advance(tick_of(0x0800))
    rig.pit.write(0x40, 1, 0x00)
    rig.pit.write(0x40, 1, 0x20)
    assert rig.status() & 0x40
    assert rig.count() <= 0x1000
    assert rig.pit.next_event() == tick_of(0x1000)
    rig.pit.advance(tick_of(0x1000))
    assert not rig.status() & 0x40
    assert rig.count() > 0x1000
    assert rig.pit.next_event() == tick_of(0x3000)


@pytest.mark.parametrize(("written", "rise"), [(0x0400, 0x1400), (0x0C00, 0x1000)])
def test_a_new_square_wave_waits_for_half_a_period(written: int, rise: int) -> None:
    """Mode 3 takes a new count when OUT changes: in its high half, the low half has the new length."""
    rig = Rig()
    rig.load(0x36, 0x00, 0x10)
    rig.pit.advance(tick_of(written))
    rig.pit.write(0x40, 1, 0x00)
    rig.pit.write(0x40, 1, 0x18)
    assert rig.pit.next_event() == tick_of(rise)


def test_latch_holds() -> None:
    """A latched count is constant until it is read; a second latch before that is ignored."""
    rig = Rig()
    rig.load(0x34, 0, 0)
    rig.pit.advance(tick_of(0x1234))
    rig.pit.write(0x43, 1, 0x00)
    rig.pit.advance(tick_of(0x8000))
    rig.pit.write(0x43, 1, 0x00)
    assert [rig.pit.read(0x40, 1), rig.pit.read(0x40, 1)] == [0xCC, 0xED]
    assert rig.count() == 0x8000


def test_read_back() -> None:
    """Read-back latches status and count of several counters; the status is read first."""
    rig = Rig()
    rig.load(0x76, 0x00, 0x10)  # counter 1, mode 3
    rig.load(0x94, 0x40)  # counter 2, low byte only, mode 2
    rig.pit.write(0x43, 1, 0xCC)
    assert [rig.pit.read(0x41, 1) for _ in range(3)] == [0xB6, 0x00, 0x10]
    assert [rig.pit.read(0x42, 1) for _ in range(2)] == [0x94, 0x40]


def test_single_bytes() -> None:
    """Low-only and high-only access transfer one byte; the other is zero."""
    rig = Rig()
    rig.load(0x24, 0x12)
    assert rig.pit.read(0x40, 1) == 0x12
    assert rig.pit.next_event() == tick_of(0x1200)
    rig.load(0x14, 0x12)
    assert rig.pit.next_event() == tick_of(0x12)


def test_bcd() -> None:
    """In BCD a count of 0 is 10000 and is shown in decimal digits."""
    rig = Rig()
    rig.load(0x35, 0x00, 0x00)
    rig.pit.advance(tick_of(1))
    assert rig.count() == 0x9999
    rig.load(0x35, 0x00, 0x02)
    rig.pit.advance(tick_of(51))
    assert rig.count() == 0x0150


def test_missed_beats_are_one() -> None:
    """A jump over many periods is one edge, since there is one line."""
    rig = Rig()
    rig.load(0x34, 100, 0)
    rig.pit.advance(10**6)
    assert rig.edges == 1


def test_control_port_is_write_only() -> None:
    """Reading the control port gives all ones."""
    assert Rig().pit.read(0x43, 1) == 0xFF
