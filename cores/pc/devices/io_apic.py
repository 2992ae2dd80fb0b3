"""The I/O APIC at 0xFEC00000: 24 interrupt inputs, each with an entry that says what it becomes.

Source: Intel, "82093AA I/O Advanced Programmable Interrupt Controller" (290566-001). IRQ n of the ISA
bus is input n, but IRQ 0, the timer, is input 2, as in every PC with MP tables. All entries are masked
at first. An edge at a masked input is lost; a level at one is seen when the mask is cleared.
"""

from __future__ import annotations

from cores.pc.devices.base import MemoryDevice
from cores.pc.devices.local_apic import FIXED, LOWEST, LocalApic

BASE = 0xFEC00000
WINDOW = range(BASE, BASE + 0x1000)
INPUTS = 24
VERSION_NUMBER = 0x11
_VERSION = VERSION_NUMBER | (INPUTS - 1) << 16
_SELECT, _DATA = 0x00, 0x10

MASKED, LEVEL, REMOTE_IRR, LOGICAL = 1 << 16, 1 << 15, 1 << 14, 1 << 11
_WRITABLE = 0xFF00_0000_0001_AFFF
"""Bits of an entry that a guest can set: not delivery status and remote IRR."""


def input_of(irq: int) -> int:
    """The input at which a line of the ISA bus arrives."""
    return 2 if irq == 0 else irq


class IoApic(MemoryDevice):
    """The I/O APIC. entries: the redirection table. lines: levels of the inputs, a bit each."""

    name = "I/O APIC"
    window = WINDOW
    wiring = frozenset({"_local"})
    wide = frozenset({"lines"})

    entries: tuple[int, ...]

    def __init__(self, local: LocalApic) -> None:
        self._local = local
        self.id = self.select = self.lines = 0
        self.entries = (MASKED,) * INPUTS

    # Lines

    def set_line(self, number: int, level: bool) -> None:
        """Set the level of input ``number``."""
        bit, entry = 1 << number, self.entries[number]
        rises = level and not self.lines & bit
        self.lines = self.lines | bit if level else self.lines & ~bit
        if not entry & MASKED and (level if entry & LEVEL else rises):
            self._deliver(number)

    def unmasks(self, number: int) -> bool:
        """Has the guest let requests at input ``number`` through?"""
        return not self.entries[number] & MASKED

    def accepts(self, number: int) -> bool:
        """Whether a request at input ``number`` would interrupt the CPU now."""
        entry = self.entries[number]
        waits = entry & MASKED or entry & REMOTE_IRR
        return not waits and (
            entry >> 8 & 7 not in (FIXED, LOWEST) or self._local.accepts(entry & 0xFF)
        )

    def vector_of(self, number: int) -> int | None:
        """The vector that a rise of input ``number`` would request now; None where it would not
        interrupt the CPU, or not by a vector."""
        entry = self.entries[number]
        by_vector = entry >> 8 & 7 in (FIXED, LOWEST)
        if not by_vector or not self._local.addressed(entry >> 56, bool(entry & LOGICAL)):
            return None
        return entry & 0xFF if self.accepts(number) else None

    def end_of_interrupt(self, vector: int) -> None:
        """The local APIC has ended a level-triggered interrupt: inputs that are still high request it
        again."""
        for number, entry in enumerate(self.entries):
            if entry & REMOTE_IRR and entry & 0xFF == vector:
                self._set(number, entry & ~REMOTE_IRR)
                self._offer(number)

    def _offer(self, number: int) -> None:
        """Deliver an input that is level-triggered and high."""
        entry = self.entries[number]
        if entry & LEVEL and not entry & MASKED and self.lines >> number & 1:
            self._deliver(number)

    def _deliver(self, number: int) -> None:
        entry = self.entries[number]
        level = bool(entry & LEVEL)
        if entry & REMOTE_IRR or not self._local.addressed(entry >> 56, bool(entry & LOGICAL)):
            return
        accepted = self._local.receive(entry >> 8 & 7, entry & 0xFF, level=level)
        if accepted and level:
            self._set(number, entry | REMOTE_IRR)

    def _set(self, number: int, entry: int) -> None:
        self.entries = (*self.entries[:number], entry, *self.entries[number + 1 :])

    # Registers: one is selected by a store to the window's beginning, and accessed at 0x10.

    def mmio_read(self, offset: int, size: int) -> bytes:
        return self.mmio_peek(offset, size)

    def mmio_peek(self, offset: int, size: int) -> bytes:
        page = bytearray(max(offset + size, _DATA + 4))
        page[_SELECT] = self.select
        page[_DATA : _DATA + 4] = self._value().to_bytes(4, "little")
        return bytes(page[offset : offset + size])

    def mmio_write(self, offset: int, data: bytes) -> None:
        if offset == _SELECT:
            self.select = data[0]
        elif offset == _DATA and len(data) >= 4:
            self._store(int.from_bytes(data[:4], "little"))

    def _value(self) -> int:
        if self.select in (0, 2):  # identification, arbitration
            return self.id << 24
        if self.select == 1:
            return _VERSION
        number, high = divmod(self.select - 0x10, 2)
        if not 0 <= number < INPUTS:
            return 0
        return self.entries[number] >> (32 if high else 0) & 0xFFFFFFFF

    def _store(self, value: int) -> None:
        if self.select == 0:
            self.id = value >> 24 & 0xF
        number, high = divmod(self.select - 0x10, 2)
        if not 0 <= number < INPUTS:
            return
        entry = self.entries[number]
        kept = 0xFFFFFFFF if high else 0xFFFFFFFF << 32
        entry = entry & (kept | ~_WRITABLE) | (value << (32 if high else 0)) & _WRITABLE & ~kept
        if not entry & LEVEL:
            entry &= ~REMOTE_IRR
        self._set(number, entry)
        self._offer(number)

    # For the user and for saved sessions

    def facts(self, now: int) -> tuple[tuple[str, str], ...]:
        used = [number for number, entry in enumerate(self.entries) if not entry & MASKED]
        words = tuple((f"input {number}", self._words(self.entries[number])) for number in used)
        return words or (("inputs", "all masked"),)

    @staticmethod
    def _words(entry: int) -> str:
        trigger = "level" if entry & LEVEL else "edge"
        return f"vector {entry & 0xFF:x}, {trigger}{', in service' if entry & REMOTE_IRR else ''}"

    def is_lawful(self) -> bool:
        whole = len(self.entries) == INPUTS and all(0 <= e < 1 << 64 for e in self.entries)
        return whole and 0 <= self.lines < 1 << INPUTS and super().is_lawful()
