"""The user's input: one queue in front of the keyboard and the serial port's receiver (contract.md).

A byte goes to the device whose interrupt the guest takes, to the serial port if it takes both; while it
takes none, to the one that it polls and then reads. The next byte comes when the guest has read the
last. So a guest that has drivers for both devices sees each byte once. A virtio console gets what
neither of them takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cores.pc.devices import scancodes
from cores.pc.devices.base import Device, PortlessDevice, TextTaker
from cores.pc.devices.keyboard import Keyboard
from cores.pc.devices.uart import Uart
from cores.plural import counted


class TypedInput(PortlessDevice):
    """text: what the user has typed, as a terminal sends it. taken: how much of it has gone to a
    device. unmasked: whether the guest lets an interrupt line through. others:
    devices that take what these two do not."""

    name = "typed input"
    wide = frozenset({"taken"})
    wiring = frozenset({"_uart", "_keyboard", "_unmasked", "others"})

    def __init__(
        self,
        uart: Uart,
        keyboard: Keyboard,
        unmasked: Callable[[int], bool],
        others: Sequence[TextTaker] = (),
    ) -> None:
        self._uart, self._keyboard, self._unmasked = uart, keyboard, unmasked
        self.others = others
        uart.typed = keyboard.typed = self
        self.text = b""
        self.taken = 0

    def type(self, data: bytes) -> None:
        """The user types."""
        self.text = self.text[self.taken :] + data
        self.taken = 0
        self.offer()

    @property
    def waiting(self) -> bool:
        return self.taken < len(self.text)

    @property
    def unread(self) -> bool:
        """Does a device hold something that the guest has not read yet?"""
        return self._uart.unread or self._keyboard.unread

    def listening(self) -> Uart | Keyboard | None:
        """The device whose interrupt the guest takes."""
        return next((d for d in (self._uart, self._keyboard) if self._interrupts(d)), None)

    def offer(self) -> None:
        """Give the next byte to the device that the guest listens to, if it has read the last."""
        while self.waiting and not self.unread:
            device = self.listening()
            if device is None:
                self._offer_others()
                return
            self._give(device)

    def _offer_others(self) -> None:
        for other in self.others:
            while self.waiting and other.hungry and (taken := other.type(self.text[self.taken :])):
                self.taken += taken

    def offers(self, device: Device) -> bool:
        """Would a guest that polls ``device`` find a byte there?"""
        if not self.waiting or self.unread or self.listening() not in (None, device):
            return False
        return device is self._uart or bool(scancodes.strokes(self.text[self.taken :]))

    def take(self, device: Device) -> None:
        """The guest reads the byte that it has found by polling."""
        self._give(device)

    def _interrupts(self, device: Uart | Keyboard) -> bool:
        return device.interrupts and self._unmasked(device.irq)

    def _give(self, device: Device) -> None:
        if device is self._uart:
            self._uart.receive(self.text[self.taken : self.taken + 1])
            self.taken += 1
            return
        while self.waiting and not self._keyboard.unread:  # a byte without a key is left out
            size = scancodes.first(self.text, self.taken)
            self._keyboard.type_text(self.text[self.taken : self.taken + size])
            self.taken += size

    def facts(self, now: int) -> tuple[tuple[str, str], ...]:
        return (("waiting", counted(len(self.text) - self.taken, "byte")),) if self.waiting else ()

    def is_lawful(self) -> bool:
        return 0 <= self.taken <= len(self.text)
