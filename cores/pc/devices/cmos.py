"""The clock and its CMOS RAM: an MC146818 at 0x70 (index) and 0x71 (data), IRQ 8.

Source: Motorola, "MC146818A Real-Time Clock Plus RAM" (1984). At tick 0 it is 2000-01-01 00:00:00
unless the user sets another time (contract.md). The time is computed from the ticks at each read;
setting it moves the origin. Stopping the divider (register A) has no effect, and daylight saving is not
modelled; the century is in byte 0x32, as in PC firmware.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Self

from cores.pc.devices.base import Device, IrqLine, Slot

SECOND = 1_000_000
"""Ticks per second."""

DAY = 86_400
EPOCH = date(2000, 1, 1).toordinal()

SECONDS, MINUTES, HOURS, WEEKDAY, MONTHDAY, MONTH, YEAR = 0, 2, 4, 6, 7, 8, 9
SECONDS_ALARM, MINUTES_ALARM, HOURS_ALARM = 1, 3, 5
REGISTER_A, REGISTER_B, REGISTER_C, REGISTER_D, CENTURY = 0x0A, 0x0B, 0x0C, 0x0D, 0x32
TIME = (SECONDS, MINUTES, HOURS, WEEKDAY, MONTHDAY, MONTH, YEAR, CENTURY)

SET, HOURS_24, BINARY = 0x80, 0x02, 0x04  # register B
PERIODIC, ALARM, UPDATE = 0x40, 0x20, 0x10  # enables in register B, flags in C
ANY_FLAG = 0x80

UPDATE_WARNING = 244
"""Ticks for which "update in progress" is set before the seconds change."""


class Cmos(Device):
    """The MC146818. irq: high from the rising edge of an enabled flag until register C is read.
    ram_bytes: the guest's RAM, whose size firmware stores in the CMOS RAM. clock: see ``Slot``."""

    name = "CMOS"
    ports = (0x70, 0x71)
    irq = 8
    timely = True
    wiring = frozenset({"_irq"})
    wide = frozenset({"now", "origin"})

    stopped: tuple[int, ...] | None

    def __init__(self, irq: IrqLine, ram_bytes: int, clock: int = 0) -> None:
        self._irq = irq
        self.now = 0
        self.index = 0
        self.flags = 0
        self.origin = clock  # seconds since 2000-01-01 at tick 0
        self.weekday_shift = 6  # that day was a Saturday, day 7 of a week that starts on Sunday
        self.stopped = None  # TIME's values while SET is 1
        self.cells = _firmware_cells(ram_bytes)

    @classmethod
    def plug(cls, slot: Slot) -> Self:
        return cls(slot.line(cls.irq), slot.memory.size, slot.clock)

    def facts(self, now: int) -> tuple[tuple[str, str], ...]:
        return (("index", f"{self.index:02x}"),)

    def read(self, port: int, size: int) -> int:
        if port == 0x70:
            return 0xFF  # write only
        index = self.index
        if index in TIME:
            return self._coded(index, self._fields()[TIME.index(index)])
        if index == REGISTER_A:
            updating = self.stopped is None and -self.now % SECOND in range(1, UPDATE_WARNING + 1)
            return self.cells[REGISTER_A] | (0x80 if updating else 0)
        if index == REGISTER_C:
            flags = self._flags()
            self.flags = 0
            self._irq(False)
            return flags
        return 0x80 if index == REGISTER_D else self.cells[index]

    def write(self, port: int, size: int, value: int) -> None:
        if port == 0x70:
            self.index = value & 0x7F
        elif self.index in TIME:
            fields = list(self._fields())
            fields[TIME.index(self.index)] = self._decoded(self.index, value)
            self._set_time(tuple(fields))
        elif self.index == REGISTER_A:
            self._store(REGISTER_A, value & 0x7F)
        elif self.index == REGISTER_B:
            self._control(value)
        elif self.index not in (REGISTER_C, REGISTER_D):
            self._store(self.index, value)

    def is_lawful(self) -> bool:
        whole = self.stopped is None or len(self.stopped) == len(TIME)
        return whole and len(self.cells) == 128 and self.index < 128 and super().is_lawful()

    # Time.

    def _fields(self) -> tuple[int, ...]:
        """The time as numbers, in TIME's order."""
        if self.stopped is not None:
            return self.stopped
        days, second = divmod(self._clock(self.now), DAY)
        day = date.fromordinal((EPOCH + days - 1) % date.max.toordinal() + 1)
        weekday = (days + self.weekday_shift) % 7 + 1
        clock = second % 60, second // 60 % 60, second // 3600
        return *clock, weekday, day.day, day.month, day.year % 100, day.year // 100

    def _set_time(self, fields: tuple[int, ...]) -> None:
        """Set the clock to ``fields``; out-of-range ones carry over instead of being kept."""
        if self.stopped is not None:
            self.stopped = fields
            return
        second, minute, hour, weekday, monthday, month, year, century = fields
        full_year = min(max(century * 100 + year, date.min.year), date.max.year)
        first = date(full_year, min(max(month, 1), 12), 1).toordinal()
        days = first - EPOCH + monthday - 1
        self.origin = days * DAY + hour * 3600 + minute * 60 + second - self.now // SECOND
        self.weekday_shift = (weekday - 1 - days) % 7

    def _clock(self, tick: int) -> int:
        return self.origin + tick // SECOND

    def _control(self, value: int) -> None:
        """Write register B. Setting SET stops the clock and its update interrupt."""
        if value & SET:
            self.stopped = self._fields()
            value &= ~UPDATE
        elif self.stopped is not None:
            fields, self.stopped = self.stopped, None
            self._store(REGISTER_B, value)
            self._set_time(fields)
        self._store(REGISTER_B, value)
        self._irq(bool(self._flags() & ANY_FLAG))

    def _coded(self, index: int, value: int) -> int:
        """A number in the format that register B selects: BCD or binary, 12 or 24 hours."""
        afternoon = 0
        if index == HOURS and not self.cells[REGISTER_B] & HOURS_24:
            afternoon = 0x80 if value >= 12 else 0
            value = value % 12 or 12
        binary = self.cells[REGISTER_B] & BINARY and index != CENTURY
        return (value if binary else value // 10 % 10 << 4 | value % 10) & 0xFF | afternoon

    def _decoded(self, index: int, value: int) -> int:
        twelve = index in (HOURS, HOURS_ALARM) and not self.cells[REGISTER_B] & HOURS_24
        afternoon = twelve and value & 0x80
        if twelve:
            value &= 0x7F
        if not self.cells[REGISTER_B] & BINARY or index == CENTURY:
            value = (value >> 4) * 10 + (value & 0xF)
        return value % 12 + (12 if afternoon else 0) if twelve else value

    # Interrupts.

    def advance(self, now: int) -> None:
        """Set the flags of the events since the last call."""
        before, self.now = self.now, now
        period = self._period()
        if period and now * 32_768 // SECOND // period > before * 32_768 // SECOND // period:
            self.flags |= PERIODIC
        if self.stopped is None and now // SECOND > before // SECOND:
            self.flags |= UPDATE
            alarm = self._next_alarm(self._clock(before))
            if alarm is not None and alarm <= self._clock(now):
                self.flags |= ALARM
        if self.flags & self.cells[REGISTER_B]:
            self._irq(True)

    def next_event(self) -> int | None:
        """The next enabled event, if the line is low."""
        enabled = self.cells[REGISTER_B]
        if self._flags() & ANY_FLAG:
            return None
        events = []
        period = self._period()
        if enabled & PERIODIC and period:
            beat = (self.now * 32_768 // SECOND // period + 1) * period
            events.append(-(-beat * SECOND // 32_768))
        if enabled & UPDATE and self.stopped is None:
            events.append((self.now // SECOND + 1) * SECOND)
        if enabled & ALARM and self.stopped is None:
            alarm = self._next_alarm(self._clock(self.now))
            if alarm is not None:
                events.append((alarm - self.origin) * SECOND)
        return min(events, default=None)

    def _flags(self) -> int:
        """The contents of register C."""
        raised = self.flags & self.cells[REGISTER_B] & (PERIODIC | ALARM | UPDATE)
        return self.flags | (ANY_FLAG if raised else 0)

    def _period(self) -> int:
        """The periodic interrupt's period in clocks of 32,768 Hz; 0: off."""
        rate = self.cells[REGISTER_A] & 0xF
        if rate in (1, 2):
            rate += 7  # with this time base the two fastest are the same as rates 8 and 9
        return 1 << rate - 1 if rate else 0

    def _next_alarm(self, after: int) -> int | None:
        """The first clock second after ``after`` that the alarm bytes match; None: they never match."""
        midnight = after - after % DAY
        hours = self._matching(HOURS_ALARM, 24)
        minutes = self._matching(MINUTES_ALARM, 60)
        seconds = self._matching(SECONDS_ALARM, 60)
        for day in (midnight, midnight + DAY):
            for hour in (h for h in hours if day + (h + 1) * 3600 > after):
                for minute in (m for m in minutes if day + hour * 3600 + (m + 1) * 60 > after):
                    for second in seconds:
                        moment = day + hour * 3600 + minute * 60 + second
                        if moment > after:
                            return moment
        return None

    def _matching(self, index: int, count: int) -> Iterable[int]:
        """The values that an alarm byte matches; with both top bits set, all."""
        value = self.cells[index]
        if value & 0xC0 == 0xC0:
            return range(count)
        wanted = self._decoded(index, value)
        return (wanted,) if wanted < count else ()

    def _store(self, index: int, value: int) -> None:
        self.cells = self.cells[:index] + bytes((value,)) + self.cells[index + 1 :]


def _firmware_cells(ram_bytes: int) -> bytes:
    """The 128 bytes as firmware sets them: 1024 Hz and 24-hour BCD; RAM below 640 KiB, from 1 MiB (at
    most 63 MiB of it) in KiB, and from 16 MiB in units of 64 KiB."""
    cells = bytearray(128)
    cells[REGISTER_A], cells[REGISTER_B] = 0x26, HOURS_24
    above_1m = min(max(ram_bytes - (1 << 20), 0) >> 10, 63 << 10)
    above_16m = min(max(ram_bytes - (16 << 20), 0) >> 16, 0xFFFF)
    for index, value in ((0x15, 640), (0x17, above_1m), (0x30, above_1m), (0x34, above_16m)):
        cells[index : index + 2] = value.to_bytes(2, "little")
    return bytes(cells)
