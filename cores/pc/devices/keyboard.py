"""The keyboard and its controller: an 8042 at 0x60 and 0x64 with a PS/2 keyboard, IRQ 1.

Sources: IBM, "PS/2 Hardware Interface Technical Reference: Keyboard and Auxiliary Device Controller"
and "Keyboards". There is no mouse. At boot its state is that left by firmware: enabled, with its
interrupt on, scan code set 2 translated into set 1, and 0xFA, the answer to firmware's last command, as
the byte that was read last.

The user's input is queued in front of the keyboard, and the next byte is sent when the guest has read
the last. Answers to commands take precedence: an unread scan code in the output buffer is put back for
them, so that a driver that sends a command and waits for 0xFA is not confused by text that was given
before the machine started.
"""

from __future__ import annotations

from typing import Self

from cores.pc.devices.base import Device, InputQueue, IrqLine, Slot
from cores.pc.devices.scancodes import Stroke, encode, is_key, strokes

DATA, COMMAND = 0x60, 0x64

OUTPUT_FULL, SYSTEM, WAS_COMMAND, UNLOCKED = 0x01, 0x04, 0x08, 0x10  # status
INTERRUPT, SYSTEM_FLAG, CLOCK_OFF, NO_MOUSE, TRANSLATE = 0x01, 0x04, 0x10, 0x20, 0x40  # config
ACK, RESEND, TEST_PASSED = 0xFA, 0xFE, 0xAA

TRANSLATED = {0x83: 0x41, 0x01: 0x43, 0x02: 0x41}
"""Set 2 to set 1, for the keyboard's answers that the controller's translation changes."""

PARAMETERS = {0x60, 0xD1, 0xD2, 0xD3, 0xD4}
"""Controller commands that take a byte at port 0x60."""


class Keyboard(Device):
    """The 8042 and its keyboard. irq: high while the output buffer is full and the interrupt
    enabled."""

    name = "keyboard"
    ports = (DATA, COMMAND)
    irq = 1
    wiring = frozenset({"_irq", "typed", "polls"})
    wide = frozenset({"sent"})

    output: int | None
    strokes: tuple[Stroke, ...]

    def __init__(self, irq: IrqLine) -> None:
        self._irq = irq
        self.config = TRANSLATE | NO_MOUSE | SYSTEM_FLAG | INTERRUPT
        self.was_command = True
        self.controller_awaits = 0  # the controller command whose byte is to come
        self.keyboard_awaits = 0  # the keyboard command whose byte is to come
        self.output = None  # the output buffer
        self.output_is_key = False
        self.last = ACK  # the value of port 0x60 when there is nothing new
        self.last_sent = 0  # for 0xFE, resend
        self.answers = b""
        self.scan_set = 2
        self.scanning = True
        self.coming = b""  # the rest of the stroke that is being sent
        self.strokes = ()  # what the user has typed, and
        self.sent = 0  # how much of it has been sent
        self.reset_asked = False
        self.typed: InputQueue | None = None
        # The status has shown a key that still waits in ``typed``, or a read has found nothing while
        # one waited: many a small kernel only compares port 0x60 with what it read last.
        self.announced = False
        self.polls = 0  # reads of the status in a row that had no key; for the user, and no state

    @classmethod
    def plug(cls, slot: Slot) -> Self:
        return cls(slot.line(cls.irq))

    def type_text(self, text: bytes) -> None:
        """The user types this; see ``strokes``."""
        self.press(*strokes(text))

    def press(self, *strokes: Stroke) -> None:
        """The user presses keys."""
        self.strokes = self.strokes[self.sent :] + strokes
        self.sent = 0
        self._offer()

    @property
    def unread(self) -> bool:
        """Is there something that the guest has not read yet?"""
        return self.output is not None or bool(self.coming) or self.sent < len(self.strokes)

    @property
    def interrupts(self) -> bool:
        """Does a key raise the line?"""
        return bool(self.config & INTERRUPT) and not self.config & CLOCK_OFF

    def facts(self, now: int) -> tuple[tuple[str, str], ...]:
        return (
            ("output buffer", "empty" if self.output is None else f"{self.output:02x}"),
            ("keys waiting", f"{len(self.strokes) - self.sent:,}"),
            ("configuration", f"{self.config:02x}"),
            ("scanning", "yes" if self.scanning else "no"),
        )

    def notes(self) -> list[str]:
        asked = "the guest asked the keyboard controller to reset the CPU: ignored"
        return [asked] if self.reset_asked else []

    def read(self, port: int, size: int) -> int:
        if port == COMMAND:
            self.announced = self.output is None and self._offered()
            full = OUTPUT_FULL if self.output is not None or self.announced else 0
            self.polls = 0 if full else self.polls + 1
            system = SYSTEM if self.config & SYSTEM_FLAG else 0
            return UNLOCKED | full | system | (WAS_COMMAND if self.was_command else 0)
        if self.announced and self._offered() and self.typed is not None:
            self.typed.take(self)
        self.announced = self.output is None and self._offered()
        if self.output is not None:
            self.last, self.output = self.output, None
            self._offer()
            self._ask_for_more()
        return self.last

    def _offered(self) -> bool:
        """Could the keyboard send a key that waits?"""
        able = self.scanning and not self.config & CLOCK_OFF
        return able and self.typed is not None and self.typed.offers(self)

    def _ask_for_more(self) -> None:
        if self.typed is not None:
            self.typed.offer()

    def write(self, port: int, size: int, value: int) -> None:
        self.was_command = port == COMMAND
        if port == COMMAND:
            self._command(value)
        elif self.controller_awaits:
            awaited, self.controller_awaits = self.controller_awaits, 0
            self._parameter(awaited, value)
        else:
            self.config &= ~CLOCK_OFF  # a command to the keyboard turns it on
            self._to_keyboard(value)
        self._offer()
        self._ask_for_more()

    def is_lawful(self) -> bool:
        keys = (event.key for events in self.strokes for event in events)
        return self.sent >= 0 and all(map(is_key, keys)) and super().is_lawful()

    # The controller.

    def _command(self, command: int) -> None:
        self.controller_awaits = command if command in PARAMETERS else 0
        match command:
            case 0x20:
                self._answer(self.config)
            case 0xAA:
                self.config |= SYSTEM_FLAG
                self._answer(0x55)
            case 0xAB:
                self._answer(0x00)  # the test of the keyboard's wires passed
            case 0xA9:
                self._answer(0xFF)  # there is no mouse port to test
            case 0xAD:
                self.config |= CLOCK_OFF
                self._step_back()
            case 0xAE:
                self.config &= ~CLOCK_OFF
            case 0xC0:
                self._answer(0x80)  # input port: keyboard not locked
            case 0xD0:
                # Output port: wires high, interrupt request, A20 open, no reset.
                self._answer(0xCF | (0x10 if self.output is not None else 0))
            case _ if command >= 0xF0 and not command & 1:
                self.reset_asked = True  # pulses the CPU's reset line

    def _parameter(self, command: int, value: int) -> None:
        match command:
            case 0x60:
                self.config = value
            case 0xD1:
                self.reset_asked |= not value & 1
            case 0xD2:
                self._answer(value)

    # The keyboard.

    def _to_keyboard(self, value: int) -> None:
        if self.keyboard_awaits and value < 0xED:
            awaited, self.keyboard_awaits = self.keyboard_awaits, 0
            self._keyboard_parameter(awaited, value)
            return
        self.keyboard_awaits = 0
        match value:
            case 0xED | 0xF0 | 0xF3:  # lamps, scan code set, typematic rate
                self.keyboard_awaits = value
                self._reply(ACK)
            case 0xEE:
                self._reply(0xEE)
            case 0xF2:
                self._reply(ACK, 0xAB, 0x83)
            case 0xF4:
                self.scanning = True
                self._reply(ACK)
            case 0xF5:
                self.scanning = False
                self._reply(ACK)
            case 0xF6 | 0xFF:
                self.scan_set = 2
                self.scanning = True
                self._reply(*((ACK,) if value == 0xF6 else (ACK, TEST_PASSED)))
            case 0xFE:
                self._reply(self.last_sent)
            case _:
                self._reply(RESEND)

    def _keyboard_parameter(self, command: int, value: int) -> None:
        if command == 0xF0 and value == 0:
            self._reply(ACK, self.scan_set)
        elif command == 0xF0 and value not in (1, 2):
            self._reply(RESEND)  # no set 3 here
        else:
            if command == 0xF0:
                self.scan_set = value
            self._reply(ACK)

    # The output buffer.

    def _reply(self, *codes: int) -> None:
        """The keyboard answers, through the controller's translation."""
        self.last_sent = codes[-1]
        translate = TRANSLATED if self.config & TRANSLATE else {}
        self._answer(*(translate.get(code, code) for code in codes))

    def _answer(self, *codes: int) -> None:
        self._step_back()
        self.answers = (self.answers + bytes(codes))[-16:]

    def _step_back(self) -> None:
        """Put an unread scan code back from the output buffer into the queue."""
        if self.output is not None and self.output_is_key:
            self.coming = bytes((self.output,)) + self.coming
            self.output = None

    def _offer(self) -> None:
        """Fill the output buffer, if it is empty and a byte is waiting; set the line. The line falls in
        between, since each byte is an interrupt of its own."""
        if self.output is None:
            self._irq(False)
            if self.answers:
                self.output, self.answers = self.answers[0], self.answers[1:]
                self.output_is_key = False
            elif self.scanning and not self.config & CLOCK_OFF and self._more_keys():
                self.output, self.coming = self.coming[0], self.coming[1:]
                self.output_is_key = True
                self.last_sent = self.output
        interrupts = self.config & INTERRUPT and not self.config & CLOCK_OFF
        self._irq(bool(interrupts) and self.output is not None)

    def _more_keys(self) -> bool:
        if not self.coming and self.sent < len(self.strokes):
            scan_set = 1 if self.config & TRANSLATE else self.scan_set
            events = self.strokes[self.sent]
            self.coming = b"".join(encode(event, scan_set) for event in events)
            self.sent += 1
        return bool(self.coming)
