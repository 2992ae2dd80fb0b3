"""The local APIC at 0xFEE00000: the CPU's own interrupt controller, with a timer.

Source: SDM vol. 3, ch. 10 (Local APIC, xAPIC mode), in the version without x2APIC, TSC-deadline timer
and CMCI. One CPU, so interprocessor interrupts reach it alone or nothing.

    PICs --- LINT0 (ExtINT) ---+
    I/O APIC --- messages ---> IRR --> priority --> INTR of the CPU
    timer, errors, own IPIs ---+       NMI -------> NMI of the CPU

It starts as firmware leaves it (QEMU's SeaBIOS): enabled, with LINT0 as the virtual wire of the PICs,
so that a kernel that knows PICs only never notices it. Accesses are 32 bits wide at multiples of 16;
other stores are ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cores.pc.devices.base import MemoryDevice
from cores.x86.registers import ApicBase

WINDOW = range(ApicBase.ADDRESS, ApicBase.ADDRESS + 0x1000)

ID, VERSION, TPR, PPR, EOI, LDR, DFR, SVR = 0x02, 0x03, 0x08, 0x0A, 0x0B, 0x0D, 0x0E, 0x0F
ISR, TMR, IRR, ESR, ICR_LOW, ICR_HIGH = 0x10, 0x18, 0x20, 0x28, 0x30, 0x31
TIMER, THERMAL, COUNTERS, LINT0, LINT1, ERROR = range(0x32, 0x38)
INITIAL_COUNT, CURRENT_COUNT, DIVIDE = 0x38, 0x39, 0x3E
"""Register numbers: the offset divided by 16 (SDM vol. 3, table 10-1)."""

_NUMBERS = (*range(ID, VERSION + 1), *range(TPR, ICR_HIGH + 1), *range(TIMER, DIVIDE + 1))
"""A range that has all of them."""
_ZERO = frozenset({0x09, EOI, 0x0C})
"""Arbitration priority, EOI and remote read: they exist, and read zero."""
_STILL = _ZERO | {ID, VERSION, TPR, LDR, DFR, SVR, ICR_LOW, ICR_HIGH, INITIAL_COUNT, DIVIDE}
_STILL |= frozenset(range(TIMER, ERROR + 1))
"""Registers that do not depend on the time."""

VERSION_NUMBER = 0x14
_VERSION = VERSION_NUMBER | 5 << 16
"""Six LVT entries, as QEMU's."""

MASKED, PERIODIC, SOFTWARE_ENABLE = 1 << 16, 1 << 17, 1 << 8
_LVT_BITS = {
    TIMER: 0x300FF, THERMAL: 0x107FF, COUNTERS: 0x107FF, LINT0: 0x1A7FF, LINT1: 0x1A7FF, ERROR: 0x100FF,
}  # fmt: skip
_ICR_BITS = 0xCCFFF
FIXED, LOWEST, SMI, NMI, INIT, STARTUP, EXTINT = 0, 1, 2, 4, 5, 6, 7
"""Delivery modes (bits 8-10)."""

SEND_ILLEGAL, RECEIVE_ILLEGAL, ILLEGAL_ADDRESS = 1 << 5, 1 << 6, 1 << 7
"""Bits of ESR."""
_FIRST_LAWFUL = 16
"""Vectors below are illegal."""

NS_PER_TICK = 1000
"""The timer counts virtual time at 1 GHz (contract.md): a count is a nanosecond, divided."""


class LocalApic(MemoryDevice):
    """The local APIC of the one CPU.

    irr, isr, tmr: vectors requested, in service, and level-triggered. lvt: the six entries from
    ``TIMER`` on. errors: those since ESR was last written. external: the level of the PICs' output.
    nmi: an NMI waits for the CPU. armed: the timer counts, down from ``initial`` since the nanosecond
    ``origin``. held: vectors that the VMM holds back for now.

    Its outputs, set by the board: pins(INTR, NMI) to the CPU, end_of_interrupt(vector) to the I/O APIC,
    acknowledge_pics(), the INTA cycle that gets the PICs' vector, and prioritized(CR8), which tells the
    CPU of a store to TPR.
    """

    name = "local APIC"
    window = WINDOW
    wiring = frozenset(
        {"held", "pins", "end_of_interrupt", "acknowledge_pics", "prioritized", "starts"}
    )
    wide = frozenset({"now", "svr", "icr_low", "icr_high", "initial", "origin"})

    irr: frozenset[int]
    isr: frozenset[int]
    tmr: frozenset[int]
    lvt: tuple[int, ...]

    def __init__(self) -> None:
        self.pins: Callable[[bool, bool], None] = lambda intr, nmi: None
        self.end_of_interrupt: Callable[[int], None] = lambda vector: None
        self.acknowledge_pics: Callable[[], int] = lambda: 0
        self.prioritized: Callable[[int], None] = lambda cr8: None
        self.starts = 0  # how often the guest has set the initial count; for the VMM, and no state
        self.held: frozenset[int] = frozenset()
        self.now = 0
        self.enabled = True
        self.external = self.nmi = False
        self._reset()
        self.svr = 0x1FF
        self._set_lvt(LINT0, 0x8700)
        self._set_lvt(LINT1, 0x8400)

    def _reset(self) -> None:
        """The state after power-up (SDM vol. 3, 10.4.7.1)."""
        self.id = self.tpr = self.ldr = self.esr = self.errors = 0
        self.dfr, self.svr = 0xF, 0xFF
        self.icr_low = self.icr_high = 0
        self.irr = self.isr = self.tmr = frozenset()
        self.lvt = (MASKED,) * len(_LVT_BITS)
        self.initial = self.origin = self.divide = 0
        self.armed = False

    # The CPU's side

    def enable(self, enabled: bool) -> None:
        """IA32_APIC_BASE.EN: enabled again, it is in the state after power-up (SDM vol. 3, 10.4.3)."""
        self.enabled = enabled
        self._reset()
        self._update()

    @property
    def priority(self) -> int:
        """Bits 4-7 of TPR, which are CR8 (SDM vol. 3, 10.8.6.1)."""
        return self.tpr >> 4

    @priority.setter
    def priority(self, cr8: int) -> None:
        self.tpr = cr8 << 4
        self._update()

    def acknowledge(self) -> int:
        """The CPU takes the interrupt: its vector."""
        vector = self._deliverable()
        if vector is None:
            return self.acknowledge_pics() if self.is_virtual_wire() else self.svr & 0xFF
        self.irr -= {vector}
        self.isr |= {vector}
        self._update()
        return vector

    def take_nmi(self) -> None:
        """The CPU takes the NMI."""
        self.nmi = False
        self._update()

    # Interrupts in

    def set_external(self, level: bool) -> None:
        """The PICs' output, at pin LINT0."""
        rises, self.external = level and not self.external, level
        entry = self._entry(LINT0)
        if rises and self.enabled and not entry & MASKED:
            self._local(entry)
        self._update()

    def accepts_external(self) -> bool:
        """Whether a rise of the PICs' output would interrupt the CPU."""
        entry = self._entry(LINT0)
        if not self.enabled:
            return True
        if entry & MASKED:
            return False
        mode = entry >> 8 & 7
        return self.accepts(entry & 0xFF) if mode == FIXED else mode in (EXTINT, NMI)

    def is_virtual_wire(self) -> bool:
        """Whether the PICs' output is the CPU's INTR pin (SDM vol. 3, 10.5.1; 10.4.3 if disabled)."""
        entry = self._entry(LINT0)
        return not self.enabled or (not entry & MASKED and entry >> 8 & 7 == EXTINT)

    def addressed(self, destination: int, logical: bool) -> bool:
        """Whether a message with this destination is for this APIC (SDM vol. 3, 10.6.2)."""
        if destination == 0xFF:
            return True
        if not logical:
            return destination == self.id
        if self.dfr == 0xF:
            return bool(destination & self.ldr)
        return destination >> 4 == self.ldr >> 4 and bool(destination & self.ldr & 0xF)

    def receive(self, mode: int, vector: int, *, level: bool = False) -> bool:
        """A message from the I/O APIC or an IPI; whether it was accepted. SMI, INIT and start-up have
        no effect on this platform."""
        if not self.enabled:
            return False
        if mode in (FIXED, LOWEST):
            return self._request(vector, level=level)
        if mode == NMI:
            self.nmi = True
            self._update()
        return True

    def accepts(self, vector: int) -> bool:
        """Whether a request for ``vector`` would interrupt the CPU now."""
        works = self.enabled and self.svr & SOFTWARE_ENABLE
        return bool(works) and vector >= _FIRST_LAWFUL and vector >> 4 > self._priority() >> 4

    def _request(self, vector: int, *, level: bool = False) -> bool:
        if not self.svr & SOFTWARE_ENABLE:
            return False
        if vector < _FIRST_LAWFUL:
            self._error(RECEIVE_ILLEGAL)
            return False
        self.irr |= {vector}
        self.tmr = self.tmr | {vector} if level else self.tmr - {vector}
        self._update()
        return True

    def _local(self, entry: int) -> None:
        """An interrupt of a source in the LVT, which is not masked."""
        if entry >> 8 & 7 != EXTINT:
            self.receive(entry >> 8 & 7, entry & 0xFF)

    def _error(self, bit: int) -> None:
        self.errors |= bit
        entry = self._entry(ERROR)
        if not entry & MASKED and entry & 0xFF >= _FIRST_LAWFUL:
            self._request(entry & 0xFF)

    # Interrupts out

    def _priority(self) -> int:
        """PPR (SDM vol. 3, 10.8.3.1)."""
        serving = max(self.isr, default=0)
        return self.tpr if self.tpr >> 4 >= serving >> 4 else serving & 0xF0

    def _deliverable(self) -> int | None:
        vector = max(self.irr - self.held if self.held else self.irr, default=0)
        return vector if vector and self.accepts(vector) else None

    def refresh(self) -> None:
        """Show the outputs again, after a saved state was restored or ``held`` was set."""
        self._update()

    def _update(self) -> None:
        self.pins(
            (self.external and self.is_virtual_wire()) or self._deliverable() is not None, self.nmi
        )

    def _end(self) -> None:
        vector = max(self.isr, default=None)
        if vector is None:
            return
        self.isr -= {vector}
        if vector in self.tmr:
            self.end_of_interrupt(vector)
        self._update()

    # Timer

    @property
    def _divisor(self) -> int:
        """1 to 128: the bits 0, 1 and 3 of the divide register (SDM vol. 3, figure 10-10)."""
        return 1 << ((self.divide >> 1 & 4 | self.divide & 3) + 1 & 7)

    @property
    def _expiry(self) -> int:
        """The nanosecond at which the count reaches zero."""
        return self.origin + self.initial * self._divisor

    def _count(self) -> int:
        if not self.armed:
            return 0
        return self.initial - (self.now * NS_PER_TICK - self.origin) // self._divisor

    def _set_divide(self, value: int) -> None:
        """The count goes on from where it is, at the new rate."""
        passed = self.initial - self._count()
        self.divide = value & 0xB
        self.origin = self.now * NS_PER_TICK - passed * self._divisor

    def _set_initial(self, value: int) -> None:
        self.initial, self.origin = value, self.now * NS_PER_TICK
        self.armed = value > 0
        self.starts += 1

    def advance(self, now: int) -> None:
        self.now = now
        if not self.armed or now * NS_PER_TICK < self._expiry:
            return
        entry = self._entry(TIMER)
        if entry & PERIODIC:
            period = self.initial * self._divisor
            self.origin += (now * NS_PER_TICK - self.origin) // period * period
        else:
            self.armed = False
        if not entry & MASKED:
            self._request(entry & 0xFF)

    def next_event(self) -> int | None:
        entry = self._entry(TIMER)
        if not self.armed or entry & MASKED or not self.accepts(entry & 0xFF):
            return None
        return -(-self._expiry // NS_PER_TICK)

    # Registers

    def is_timely(self, offset: int) -> bool:
        return offset >> 4 not in _STILL

    def mmio_read(self, offset: int, size: int) -> bytes:
        place = offset % 16
        if not self.enabled or place >= 4:
            return self.mmio_peek(offset, size)
        value = self._value(offset >> 4)
        if value is None:
            self._error(ILLEGAL_ADDRESS)
        if place + size > 4:
            return self.mmio_peek(offset, size)
        return ((value or 0) >> 8 * place).to_bytes(4, "little")[:size]  # the usual case

    def mmio_peek(self, offset: int, size: int) -> bytes:
        if not self.enabled:
            return b"\xff" * size
        first, last = offset >> 4, offset + size - 1 >> 4
        image = b"".join(
            (self._value(number) or 0).to_bytes(16, "little") for number in range(first, last + 1)
        )
        return image[offset % 16 : offset % 16 + size]

    def mmio_write(self, offset: int, data: bytes) -> None:
        if self.enabled and offset % 16 == 0 and len(data) >= 4:
            self._store(offset >> 4, int.from_bytes(data[:4], "little"))

    def registers(self) -> tuple[object, ...]:
        """All that ``image`` depends on, but for the time."""
        return (
            self.enabled, self.id, self.tpr, self.ldr, self.dfr, self.svr, self.esr, self.icr_low,
            self.icr_high, self.isr, self.tmr, self.irr, self.lvt, self.initial, self.divide,
        )  # fmt: skip

    def image(self) -> bytes:
        """The whole page as loads see it now."""
        if not self.enabled:
            return b"\xff" * len(WINDOW)
        page = bytearray(len(WINDOW))
        for number in _NUMBERS:
            page[number << 4 : (number << 4) + 4] = (self._value(number) or 0).to_bytes(4, "little")
        return bytes(page)

    def _value(self, number: int) -> int | None:
        """A register's value; None where there is none."""
        if TIMER <= number <= ERROR:
            return self._entry(number)
        if ISR <= number < ESR:
            group, word = number >> 3, number & 7
            vectors = {ISR >> 3: self.isr, TMR >> 3: self.tmr, IRR >> 3: self.irr}[group]
            return sum(1 << v % 32 for v in vectors if v // 32 == word)
        if number in _ZERO:
            return 0
        match number:
            case 0x02:
                return self.id << 24
            case 0x03:
                return _VERSION
            case 0x08:
                return self.tpr
            case 0x0A:
                return self._priority()
            case 0x0D:
                return self.ldr << 24
            case 0x0E:
                return self.dfr << 28 | 0x0FFFFFFF
            case 0x0F:
                return self.svr
            case 0x28:
                return self.esr
            case 0x30:
                return self.icr_low
            case 0x31:
                return self.icr_high
            case 0x38:
                return self.initial
            case 0x39:
                return self._count()
            case 0x3E:
                return self.divide
        return None

    def _store(self, number: int, value: int) -> None:
        if TIMER <= number <= ERROR:
            self._set_lvt(number, value)
            self._update()
            return
        match number:
            case 0x02:
                self.id = value >> 24
            case 0x08:
                self.tpr = value & 0xFF
                self.prioritized(self.priority)
                self._update()
            case 0x0B:
                self._end()
            case 0x0D:
                self.ldr = value >> 24
            case 0x0E:
                self.dfr = value >> 28
            case 0x0F:
                self.svr = value & 0x1FF
                self.lvt = tuple(map(self._masked, self.lvt))
                self._update()
            case 0x28:
                self.esr, self.errors = self.errors, 0
            case 0x30:
                self.icr_low = value & _ICR_BITS
                self._send()
            case 0x31:
                self.icr_high = value & 0xFF000000
            case 0x38:
                self._set_initial(value)
            case 0x3E:
                self._set_divide(value)
            case _ if self._value(number) is None:
                self._error(ILLEGAL_ADDRESS)

    def _entry(self, number: int) -> int:
        return self.lvt[number - TIMER]

    def _set_lvt(self, number: int, value: int) -> None:
        entries = list(self.lvt)
        entries[number - TIMER] = self._masked(value & _LVT_BITS[number])
        self.lvt = tuple(entries)

    def _masked(self, entry: int) -> int:
        """While the APIC is disabled by SVR, every entry is masked (SDM vol. 3, 10.4.7.2)."""
        return entry if self.svr & SOFTWARE_ENABLE else entry | MASKED

    def _send(self) -> None:
        """The ICR's low half was written: an interprocessor interrupt (SDM vol. 3, 10.6.1)."""
        command = self.icr_low
        mode, vector, shorthand = command >> 8 & 7, command & 0xFF, command >> 18 & 3
        if mode in (FIXED, LOWEST) and vector < _FIRST_LAWFUL:
            self._error(SEND_ILLEGAL)
        elif shorthand in (1, 2) or (
            shorthand == 0 and self.addressed(self.icr_high >> 24, bool(command & 1 << 11))
        ):
            self.receive(mode, vector)

    # For the user and for saved sessions

    def facts(self, now: int) -> tuple[tuple[str, str], ...]:
        if not self.enabled:
            return (("state", "disabled by IA32_APIC_BASE"),)
        timer, wire = self._entry(TIMER), self._entry(LINT0)
        kind = "periodic" if timer & PERIODIC else "one-shot"
        rest = f", {self._count():,} of {self.initial:,} left" if self.armed else ", not counting"
        wired = "masked" if wire & MASKED else "ExtINT" if wire >> 8 & 7 == EXTINT else f"{wire:x}"
        return (
            ("state", "enabled" if self.svr & SOFTWARE_ENABLE else "disabled by SVR"),
            ("requested", _vectors(self.irr)),
            ("in service", _vectors(self.isr)),
            ("task priority", f"{self.tpr:02x}"),
            ("timer", f"vector {timer & 0xFF:x}, {kind}{', masked' if timer & MASKED else ''}{rest}"),
            ("LINT0 (the PICs)", wired),
        )

    def is_lawful(self) -> bool:
        vectors = self.irr | self.isr | self.tmr
        words = (self.svr, self.icr_low, self.icr_high, self.initial, *self.lvt)
        return (
            all(_FIRST_LAWFUL <= vector < 256 for vector in vectors)
            and len(self.lvt) == len(_LVT_BITS)
            and all(0 <= word < 1 << 32 for word in words)
            and not (self.armed and not self.initial)
            and super().is_lawful()
        )


def _vectors(vectors: Iterable[int]) -> str:
    return " ".join(f"{vector:x}" for vector in sorted(vectors)) or "none"
