"""Two 8259A interrupt controllers, cascaded as in every PC since the AT.

Source: Intel, "8259A Programmable Interrupt Controller" (231468-003). The master answers at 0x20 and
0x21, the slave at 0xA0 and 0xA1; the slave's INT output is the master's input 2.

Three interpretations of the datasheet that a guest can notice:
- A request whose line falls before it is acknowledged is lost (also in Bochs; QEMU remembers it).
- ICW1 resets the edge detector, after which the datasheet wants a new edge. Here, as with QEMU's
  devices, a line that is still high counts as one: input that was pending before the guest's
  initialisation would otherwise never interrupt.
- A non-specific EOI clears the highest bit in service even in special mask mode (QEMU and Bochs).
"""

from __future__ import annotations

from collections.abc import Callable

from cores.pc.devices.base import Device

MASTER, SLAVE = 0x20, 0xA0
"""The first of the two ports of each."""

CASCADE = 2
"""The master's input to which the slave's output is connected."""

BIOS_BASES = 0x08, 0x70
"""Vectors of IRQ 0 and IRQ 8 as set by firmware, until the guest sends its own ICW2."""


class Pic(Device):
    """One 8259A. ``output`` is called with the level of its INT pin.

    irr, imr, isr: requests, masks, in service; bit n is input n. held: inputs whose requests the VMM
    holds back for now. lowest: the input with the lowest priority (7 until rotated; the next one has
    the highest).
    """

    name = "PIC"
    wiring = frozenset({"ports", "held", "_output"})
    timely = True  # a request by a clock may have become due

    def __init__(self, port: int, base: int, output: Callable[[bool], None]) -> None:
        self.ports = (port, port + 1)
        self.held = 0
        self._output = output
        self.base = base
        self.imr = 0xFF  # contract.md: masked at boot
        self.irr = self.isr = self.lines = 0
        self.lowest = 7
        self.awaited = 0  # the ICW that port + 1 takes next; 0: OCW1
        self.single = self.wants_icw4 = False
        self.level_triggered = self.auto_eoi = self.rotate_on_auto_eoi = False
        self.special_mask = self.fully_nested = False
        self.read_isr = self.polled = False

    @property
    def title(self) -> str:
        return f"PIC, {'slave' if self._first else 'master'}"

    @property
    def _first(self) -> int:
        """The number of the IRQ at its input 0."""
        return 0 if self.ports[0] == MASTER else 8

    def facts(self, now: int) -> tuple[tuple[str, str], ...]:
        setting = f"awaits ICW{self.awaited}" if self.awaited else "ready"
        return (
            ("vectors", f"{self.base:x} to {self.base + 7:x}"),
            ("lets through", self._irqs(~self.imr)),
            ("requested", self._irqs(self.irr)),
            ("in service", self._irqs(self.isr)),
            ("state", setting + (", automatic EOI" if self.auto_eoi else "")),
        )

    def _irqs(self, bits: int) -> str:
        return " ".join(f"IRQ {self._first + n}" for n in range(8) if bits >> n & 1) or "none"

    def is_lawful(self) -> bool:
        return self.base & 7 == 0 and self.lowest < 8 and super().is_lawful()

    # The request side: lines in, INT out.

    def set_line(self, line: int, level: bool) -> None:
        """Set the level of input ``line``."""
        bit = 1 << line
        if level:
            if not self.lines & bit or self.level_triggered:
                self.irr |= bit
            self.lines |= bit
        else:
            self.lines &= ~bit
            self.irr &= ~bit
        self._update()

    def unmasks(self, line: int) -> bool:
        """Has the guest let requests on ``line`` through?"""
        return not self.awaited and not self.imr >> line & 1

    def accepts(self, line: int) -> bool:
        """Whether a request on ``line`` would reach the INT pin now: unmasked, initialised, and no
        input of higher priority in service."""
        return self.unmasks(line) and self._rank(line) < self._ceiling()

    def requested(self) -> int | None:
        """The input whose request drives the INT pin."""
        line = self._highest(self.irr & ~(self.imr | self.held))
        return line if line is not None and self.accepts(line) else None

    def acknowledge(self) -> int:
        """An INTA cycle: returns the input served, which is now in service. Without a request it is 7,
        and no input is in service: the spurious interrupt."""
        line = self.requested()
        if line is None:
            return 7
        bit = 1 << line
        if not self.level_triggered:
            self.irr &= ~bit
        if not self.auto_eoi:
            self.isr |= bit
        elif self.rotate_on_auto_eoi:
            self.lowest = line
        self._output(False)  # INT falls with INTA, so that a slave's next request is an edge
        self._update()
        return line

    def _rank(self, line: int) -> int:
        return (line - self.lowest - 1) & 7  # 0: the highest priority

    def _highest(self, bits: int) -> int | None:
        if not bits:
            return None
        return min((n for n in range(8) if bits >> n & 1), key=self._rank)

    def _ceiling(self) -> int:
        """The rank that a request must exceed: that of the highest input in service."""
        serving = self.isr
        if self.special_mask:
            serving &= ~self.imr
        if self.fully_nested:
            serving &= ~(1 << CASCADE)  # the slave may interrupt its own handlers
        line = self._highest(serving)
        return 8 if line is None else self._rank(line)

    def refresh(self) -> None:
        """Show the output again, after ``held`` was set."""
        self._update()

    def _update(self) -> None:
        self._output(self.requested() is not None)

    # The register side.

    def read(self, port: int, size: int) -> int:
        if self.polled:
            self.polled = False
            self.held = 0  # the guest asks by itself
            line = self.requested()
            return 0 if line is None else 0x80 | self.acknowledge()
        if port & 1:
            return self.imr
        return self.isr if self.read_isr else self.irr

    def write(self, port: int, size: int, value: int) -> None:
        if not port & 1:
            if value & 0x10:
                self._initialise(value)
            elif value & 0x08:
                self._ocw3(value)
            else:
                self._ocw2(value)
        elif self.awaited:
            self._icw(value)
        else:
            self.imr = value
        self._update()

    def _initialise(self, icw1: int) -> None:
        self.wants_icw4 = bool(icw1 & 0x01)
        self.single = bool(icw1 & 0x02)
        self.level_triggered = bool(icw1 & 0x08)
        self.imr = self.isr = 0
        self.irr = self.lines
        self.lowest = 7
        self.auto_eoi = self.rotate_on_auto_eoi = False
        self.special_mask = self.fully_nested = False
        self.read_isr = self.polled = False
        self.awaited = 2

    def _icw(self, value: int) -> None:
        """ICW2 to ICW4, in the order that ICW1 announced. ICW3 is ignored: the cascade is fixed."""
        step = self.awaited
        if step == 2:
            self.base = value & 0xF8
        elif step == 4:
            self.auto_eoi = bool(value & 0x02)
            self.fully_nested = bool(value & 0x10)
        if step == 2 and not self.single:
            self.awaited = 3
        elif step < 4 and self.wants_icw4:
            self.awaited = 4
        else:
            self.awaited = 0

    def _ocw2(self, value: int) -> None:
        """End of interrupt and rotation; bits 5-7 are the command, bits 0-2 an input."""
        command, line = value >> 5, value & 7
        if command in (0, 4):
            self.rotate_on_auto_eoi = command == 4
        elif command == 6:
            self.lowest = line
        elif command != 2:
            served = line if command & 2 else self._highest(self.isr)
            if served is not None:
                self.isr &= ~(1 << served)
                if command & 4:
                    self.lowest = served

    def _ocw3(self, value: int) -> None:
        if value & 0x40:
            self.special_mask = bool(value & 0x20)
        if value & 0x04:
            self.polled = True
        elif value & 0x02:
            self.read_isr = bool(value & 0x01)


class Pics:
    """Master and slave, cascaded. ``output`` is called with the level of the CPU's INTR pin."""

    def __init__(self, output: Callable[[bool], None]) -> None:
        self.master = Pic(MASTER, BIOS_BASES[0], output)
        self.slave = Pic(SLAVE, BIOS_BASES[1], lambda level: self.master.set_line(CASCADE, level))

    def set_irq(self, irq: int, level: bool) -> None:
        """Set the level of IRQ line 0-15."""
        if irq < 8:
            self.master.set_line(irq, level)
        else:
            self.slave.set_line(irq - 8, level)

    @property
    def irr(self) -> int:
        """The IRQs that are requested, a bit each."""
        return self.master.irr & ~(1 << CASCADE) | self.slave.irr << 8

    @property
    def imr(self) -> int:
        """Those that are masked."""
        return self.master.imr | self.slave.imr << 8

    def hold(self, irqs: int) -> None:
        """Hold back the requests of these IRQs, a bit each, and of no other."""
        for pic, bits in ((self.slave, irqs >> 8), (self.master, irqs & 0xFF)):
            pic.held = bits
            pic.refresh()

    def accepts(self, irq: int) -> bool:
        """Whether ``irq`` would interrupt the CPU if its line rose now."""
        if irq < 8:
            return self.master.accepts(irq)
        return self.slave.accepts(irq - 8) and self.master.accepts(CASCADE)

    def vector_of(self, irq: int) -> int | None:
        """The vector of ``irq`` if its line rose now, before any other; None where that would not
        interrupt the CPU."""
        pic = self.master if irq < 8 else self.slave
        return pic.base | irq & 7 if self.accepts(irq) else None

    def acknowledge(self) -> int:
        """The CPU's INTA cycles: returns the vector 0-255 to deliver. A request that is gone gives the
        vector of IRQ 7, or of IRQ 15 if the slave's request is gone."""
        line = self.master.acknowledge()
        if line == CASCADE:
            return self.slave.base | self.slave.acknowledge()
        return self.master.base | line
