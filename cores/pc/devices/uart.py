"""The serial port: a 16550A UART at 0x3F8-0x3FF (COM1), IRQ 4.

Source: National Semiconductor, "PC16550D Universal Asynchronous Receiver/Transmitter" (1995).
Transmitted bytes go to the machine's console at once; the user's input is queued and received one byte
at a time, the next when the guest has read the last.

On a PC the modem control's OUT2 gates the interrupt line; QEMU does not model that, guests are written
against QEMU, and so it is not gated here.
"""

from __future__ import annotations

from typing import Self

from cores.pc.devices.base import QUOTED, Device, InputQueue, IrqLine, Slot
from cores.plural import counted

DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR = range(8)

DATA_READY, OVERRUN, TRANSMITTER_EMPTY = 0x01, 0x02, 0x60  # LSR; THR and shift register empty
ON_DATA, ON_EMPTY, ON_ERROR, ON_MODEM = 0x01, 0x02, 0x04, 0x08  # IER
DLAB, LOOPBACK = 0x80, 0x10
MODEM_PRESENT = 0xB0
"""MSR: carrier, data set ready, clear to send, as with a terminal connected."""
TRIGGERS = 1, 4, 8, 14


class Uart(Device):
    """The UART. console: receives transmitted bytes. irq: its interrupt line."""

    name = "UART"
    ports = range(0x3F8, 0x400)
    irq = 4
    wide = frozenset({"divisor", "taken"})
    wiring = frozenset({"_console", "_irq", "typed", "polls"})

    def __init__(self, console: bytearray, irq: IrqLine) -> None:
        self._console = console
        self._irq = irq
        self.divisor = 12  # 9600 baud
        self.ier = self.fcr = self.lcr = self.scr = 0
        self.mcr = 0x08
        self.modem_changes = 0
        self.overrun = False
        self.empty_pending = False  # "THR empty" has not been reported yet
        self.looped = b""  # received in loopback, not yet read
        self.input = b""  # what the user has typed, and
        self.taken = 0  # how much of it the guest has read
        self.typed: InputQueue | None = None
        self.announced = False  # the line status has shown a byte that still waits in ``typed``
        self.polls = 0  # reads of the line status in a row without data; for the user, and no state

    @classmethod
    def plug(cls, slot: Slot) -> Self:
        return cls(slot.console, slot.line(cls.irq))

    def receive(self, text: bytes) -> None:
        """The user's input, received as the guest reads."""
        self.input = self.input[self.taken :] + text
        self.taken = 0
        self._update()

    @property
    def unread(self) -> bool:
        """Is there something that the guest has not read yet?"""
        return self._data_ready()

    @property
    def interrupts(self) -> bool:
        """Does a received byte raise the line?"""
        return bool(self.ier & ON_DATA)

    def facts(self, now: int) -> tuple[tuple[str, str], ...]:
        bits = ((1, "data"), (2, "empty"), (4, "error"), (8, "modem"))
        enabled = " ".join(name for bit, name in bits if self.ier & bit)
        return (
            ("interrupts on", enabled or "nothing"),
            ("to receive", counted(len(self.input) - self.taken, "byte")),
            ("speed", f"{115_200 // self.divisor:,} baud" if self.divisor else "divisor 0"),
            ("line control", f"{self.lcr:02x}"),
            ("modem control", f"{self.mcr:02x}" + (", loopback" if self.mcr & 0x10 else "")),
        )

    def read(self, port: int, size: int) -> int:
        match port & 7:
            case 0:
                return self.divisor & 0xFF if self.lcr & DLAB else self._received()
            case 1:
                return self.divisor >> 8 if self.lcr & DLAB else self.ier
            case 2:
                return self._identify()
            case 3:
                return self.lcr
            case 4:
                return self.mcr
            case 5:
                status = self._line_status()
                if self.typed is not None and self.typed.offers(self) and not self.mcr & LOOPBACK:
                    self.announced = True
                    status |= DATA_READY
                self.polls = 0 if status & DATA_READY else self.polls + 1
                self.overrun = False
                self._update()
                return status
            case 6:
                status = self._modem_lines() | self.modem_changes
                self.modem_changes = 0
                self._update()
                return status
        return self.scr

    def write(self, port: int, size: int, value: int) -> None:
        register = port & 7
        if register <= IER and self.lcr & DLAB:
            shift = 8 * register
            self.divisor = self.divisor & 0xFF00 >> shift | value << shift
            return
        match register:
            case 0:
                self._transmit(value)
            case 1:
                if value & ON_EMPTY and not self.ier & ON_EMPTY:
                    self.empty_pending = True  # enabled while empty: reported at once
                self.ier = value & 0x0F
                self._offer()
            case 2:
                self._control_fifo(value)
            case 3:
                self.lcr = value
            case 4:
                self._control_modem(value)
            case 7:
                self.scr = value
        self._update()

    def describe(self, port: int, value: int, is_write: bool) -> str:
        sent = is_write and port & 7 == DATA and not self.lcr & DLAB
        return f"UART {QUOTED[value & 0xFF]}" if sent else self.name

    def _received(self) -> int:
        value = 0
        if self.announced and self.typed is not None and self.typed.offers(self):
            self.typed.take(self)
        self.announced = False
        if self.looped:
            value, self.looped = self.looped[0], self.looped[1:]
        elif self._data_ready():
            value = self.input[self.taken]
            self.taken += 1
        self._irq(False)  # each byte is an edge of its own to the PIC
        self._update()
        self._offer()
        return value

    def _offer(self) -> None:
        if self.typed is not None:
            self.typed.offer()

    def _transmit(self, value: int) -> None:
        self.empty_pending = False
        self.polls = 0  # it has waited to send
        self._update()  # the line falls, to rise again when the byte is out
        if self.mcr & LOOPBACK:
            self._loop_back(value)
        else:
            self._console.append(value)
        self.empty_pending = True

    def _loop_back(self, value: int) -> None:
        depth = 16 if self.fcr & 1 else 1
        if len(self.looped) < depth:
            self.looped += bytes((value,))
            return
        self.overrun = True
        if not self.fcr & 1:
            self.looped = bytes((value,))  # without FIFO the new byte overwrites the old

    def _control_fifo(self, value: int) -> None:
        """Write FCR. Typed input is not in the FIFO yet, so clearing it loses none."""
        if value & 0x02 or (value ^ self.fcr) & 0x01:
            self.looped = b""
        self.fcr = value & 0xC9 if value & 0x01 else 0

    def _control_modem(self, value: int) -> None:
        before = self._modem_lines()
        self.mcr = value & 0x1F
        after = self._modem_lines()
        changed = (before ^ after) >> 4 & 0x0B
        rang = (before & ~after) >> 4 & 0x04  # the ring indicator reports its trailing edge only
        self.modem_changes |= changed | rang

    def _modem_lines(self) -> int:
        if not self.mcr & LOOPBACK:
            return MODEM_PRESENT
        dtr, rts, outputs = self.mcr & 1, self.mcr >> 1 & 1, self.mcr >> 2 & 3
        return outputs << 6 | dtr << 5 | rts << 4

    def _data_ready(self) -> bool:
        if self.looped:
            return True
        return self.taken < len(self.input) and not self.mcr & LOOPBACK

    def _line_status(self) -> int:
        ready = DATA_READY if self._data_ready() else 0
        return TRANSMITTER_EMPTY | ready | (OVERRUN if self.overrun else 0)

    def _pending(self) -> int:
        """The interrupt of the highest priority, as IIR names it; 1: none."""
        if self.ier & ON_ERROR and self.overrun:
            return 0x06
        if self.ier & ON_DATA and self._data_ready():
            waiting = max(1, len(self.looped))
            # Below the FIFO's trigger level the time-out interrupt reports the bytes.
            return 0x0C if self.fcr & 1 and waiting < TRIGGERS[self.fcr >> 6] else 0x04
        if self.ier & ON_EMPTY and self.empty_pending:
            return 0x02
        if self.ier & ON_MODEM and self.modem_changes:
            return 0x00
        return 0x01

    def _identify(self) -> int:
        pending = self._pending()
        if pending == 0x02:
            self.empty_pending = False
            self._update()
        return pending | (0xC0 if self.fcr & 1 else 0)

    def _update(self) -> None:
        self._irq(self._pending() != 0x01)
