"""The 8254 interval timer at 0x40-0x43: three counters of 1.193182 MHz; counter 0 is IRQ 0.

Source: Intel, "8254 Programmable Interval Timer" (231164-005). No counter is decremented: its value is
computed, at each read, from the time since it was loaded.

The gates are all high (on a PC only counter 2's can be changed, at port 0x61, which this platform does
not have); so modes 1 and 5, which wait for a gate's edge, never start. A new count takes effect at the
end of the period in mode 2, of the half period in mode 3, and at once in the other modes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

from cores.pc.devices.base import Device, IrqLine, Slot

FREQUENCY = 1_193_182
"""Input clocks per second."""

TICKS = 1_000_000
"""Ticks of virtual time per second."""

CONTROL = 0x43
LOW, HIGH, BOTH = 1, 2, 3
"""How a count is read or written: low byte only, high byte only, low then high."""


def clock_at(tick: int) -> int:
    """Input clocks since the start, at ``tick``: floor(ticks x 1.193182) (contract.md)."""
    return tick * FREQUENCY // TICKS


def tick_of(clock: int) -> int:
    """The first tick at or after ``clock`` input clocks."""
    return -(-clock * TICKS // FREQUENCY)


@dataclass(slots=True)
class Counter:
    """One of the three. period: the count loaded, 1-65536 (10000 in BCD). loaded: the clock at
    which it was, None while a count is awaited. following: a count written while mode 2 or 3
    counts, which takes over at the clock ``turn``; 0: none. half: the low byte of a count half written.
    high_next: the next byte read is the high one. latched: bytes latched and not yet read."""

    mode: int = 2
    access: int = BOTH
    bcd: bool = False
    period: int = 0x10000
    loaded: int | None = 0
    following: int = 0
    turn: int = 0
    half: int | None = None
    high_next: bool = False
    latched: bytes = b""
    latched_status: int | None = None

    def control(self, word: int) -> None:
        """Write a control word: counting stops until a count is written."""
        mode = word >> 1 & 7
        self.mode = mode if mode < 6 else mode - 4
        self.access = word >> 4 & 3
        self.bcd = bool(word & 1)
        self.loaded = self.half = self.latched_status = None
        self.following = 0
        self.high_next = False
        self.latched = b""

    def write(self, value: int, clock: int) -> None:
        """Write a byte of a new count."""
        self.catch_up(clock)
        if self.access == BOTH and self.half is None:
            self.half = value
            if self.mode == 0:
                self.loaded = None  # the first byte stops the old count (datasheet, mode 0)
            return
        if self.access == BOTH:
            count = value << 8 | (self.half or 0)
        else:
            count = value << 8 if self.access == HIGH else value
        self.half = None
        if self.bcd:
            digits = (count >> shift & 0xF for shift in (12, 8, 4, 0))
            count = sum(digit * scale for digit, scale in zip(digits, (1000, 100, 10, 1), strict=True))
        count = count or self._modulus
        if self.mode in (2, 3) and self.loaded is not None:
            self.following, self.turn = count, self._end_of_part(clock)
        else:
            self.period, self.loaded = count, clock

    def catch_up(self, clock: int) -> None:
        """Load the following count if its turn has come by ``clock`` (datasheet, modes 2 and 3)."""
        if not self.following or clock < self.turn:
            return
        rises = self.mode == 2 or (self.turn - (self.loaded or 0)) % self.period == 0
        self.period, self.following = self.following, 0
        self.loaded = self.turn if rises else self.turn - self._high

    def _end_of_part(self, clock: int) -> int:
        """The clock at which the period ends (mode 2), or the half period (mode 3)."""
        passed = self._passed(clock)
        begin = clock - passed % self.period
        high = self.mode == 3 and passed % self.period < self._high
        return begin + (self._high if high else self.period)

    def read(self, clock: int) -> int:
        """Read a byte: of the latched status, of the latched count, else of the running count."""
        if self.latched_status is not None:
            status, self.latched_status = self.latched_status, None
            return status
        if self.latched:
            value, self.latched = self.latched[0], self.latched[1:]
            return value
        self.catch_up(clock)
        count = self.count(clock)
        if self.access == BOTH:
            high, self.high_next = self.high_next, not self.high_next
        else:
            high = self.access == HIGH
        return count >> 8 if high else count & 0xFF

    def latch(self, clock: int) -> None:
        self.catch_up(clock)
        if not self.latched:
            both = self.count(clock).to_bytes(2, "little")
            self.latched = {LOW: both[:1], HIGH: both[1:]}.get(self.access, both)

    def latch_status(self, clock: int) -> None:
        self.catch_up(clock)
        if self.latched_status is None:
            null = self.loaded is None or bool(self.following)
            pin_and_null = self.out(clock) << 7 | null << 6
            self.latched_status = pin_and_null | self.access << 4 | self.mode << 1 | self.bcd

    def count(self, clock: int) -> int:
        """The counting element, 16 bits in the format that a guest reads."""
        passed = self._passed(clock)
        if self.mode == 2:
            value = self.period - passed % self.period
        elif self.mode == 3:
            value = self.period - 2 * passed % self.period  # it counts by two
        else:
            value = self.period - passed
        value %= self._modulus
        return int(str(value), 16) if self.bcd else value

    def out(self, clock: int) -> bool:
        """The level of the OUT pin."""
        if self.loaded is None:
            return self.mode != 0
        passed = self._passed(clock)
        match self.mode:
            case 0:
                return passed >= self.period
            case 2:
                return passed % self.period != self.period - 1
            case 3:
                return passed % self.period < self._high
            case 4:
                return passed != self.period
        return True

    def next_rise(self, clock: int) -> int | None:
        """The first clock after ``clock`` at which OUT goes from low to high."""
        if self.loaded is None or self.mode in (1, 5):
            return None
        if self.following and clock < self.turn:
            falls = self.mode == 3 and self.out(clock)
            return self.turn + self.following // 2 if falls else self.turn
        if self.mode in (2, 3):
            return self.loaded + (self._passed(clock) // self.period + 1) * self.period
        rise = self.loaded + self.period + (self.mode == 4)
        return rise if rise > clock else None

    @property
    def _high(self) -> int:
        """Clocks of a period in which mode 3 has OUT high."""
        return (self.period + 1) // 2

    @property
    def _modulus(self) -> int:
        return 10_000 if self.bcd else 0x10000

    def _passed(self, clock: int) -> int:
        if self.loaded is None or self.mode in (1, 5):
            return 0
        return clock - self.loaded


class Pit(Device):
    """The 8254. irq: counter 0's OUT. The line gets the rising edges, and falls only where mode 0 says
    so: between two ticks it stays high, so that a guest that disables interrupts for a while loses
    none.

    At boot all counters run freely in mode 2 from tick 0, as firmware leaves counter 0.
    """

    name = "PIT"
    ports = range(0x40, 0x44)
    irq = 0
    timely = True
    wiring = frozenset({"_irq"})
    wide = frozenset({"now", "_rise"})

    counters: tuple[Counter, Counter, Counter]
    _rise: int | None

    def __init__(self, irq: IrqLine) -> None:
        self._irq = irq
        self.now = 0
        self.counters = (Counter(), Counter(), Counter())
        self._rise = self.counters[0].next_rise(0)

    @classmethod
    def plug(cls, slot: Slot) -> Self:
        return cls(slot.line(cls.irq))

    def facts(self, now: int) -> tuple[tuple[str, str], ...]:
        clock, told = clock_at(now), []
        for number, counter in enumerate(self.counters):
            if counter.loaded is None:
                words = f"mode {counter.mode}, waits for its count"
            else:
                pin = "high" if counter.out(clock) else "low"
                words = (
                    f"mode {counter.mode}, {counter.count(clock):,} of {counter.period:,}, out {pin}"
                )
            told.append((f"counter {number}", words))
        return tuple(told)

    def read(self, port: int, size: int) -> int:
        if port == CONTROL:
            return 0xFF  # write only: reads float
        return self.counters[port & 3].read(clock_at(self.now))

    def write(self, port: int, size: int, value: int) -> None:
        clock = clock_at(self.now)
        if port != CONTROL:
            self.counters[port & 3].write(value, clock)
        elif value >> 6 == 3:
            self._read_back(value, clock)
        elif value & 0x30:
            self.counters[value >> 6].control(value)
        else:
            self.counters[value >> 6].latch(clock)
        first = self.counters[0]
        self._rise = first.next_rise(clock)
        if first.mode == 0 and not first.out(clock):
            self._irq(False)

    def _read_back(self, command: int, clock: int) -> None:
        """Latch count and status (bits 5 and 4, active low) of the counters in bits 1-3."""
        for number, counter in enumerate(self.counters):
            if command >> number + 1 & 1:
                if not command & 0x20:
                    counter.latch(clock)
                if not command & 0x10:
                    counter.latch_status(clock)

    def advance(self, now: int) -> None:
        self.now = now
        clock = clock_at(now)
        for counter in self.counters:
            counter.catch_up(clock)
        if self._rise is not None and clock >= self._rise:
            self._irq(False)
            self._irq(True)
            self._rise = self.counters[0].next_rise(clock)

    def next_event(self) -> int | None:
        return None if self._rise is None else tick_of(self._rise)

    def save(self) -> dict[str, Any]:
        return super().save() | {"counters": tuple(map(replace, self.counters))}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state | {"counters": tuple(map(replace, state["counters"]))})

    def is_lawful(self) -> bool:
        counting = all(0 < c.period <= 0x10000 and 0 <= c.mode < 6 for c in self.counters)
        return counting and super().is_lawful()
