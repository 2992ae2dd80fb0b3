"""virtio-console: a line of text in both directions (virtio 1.2, 5.3). One port, without a size.

What the driver sends on queue 1 goes to the machine's console. Buffers in queue 0 get what the user
types, where the guest takes interrupts of neither keyboard nor serial port.
"""

from __future__ import annotations

from cores.pc.devices.slot import MOST_CONSOLE, Slot
from cores.pc.devices.virtio.device import VirtioDevice
from cores.pc.devices.virtio.queue import Chain

RECEIVE, TRANSMIT = 0, 1


class VirtioConsole(VirtioDevice):
    """The console. hungry: the driver has given buffers for what the user types."""

    name = "virtio-console"
    id = 3
    queue_names = ("receive", "transmit")

    def __init__(self, slot: Slot, slot_number: int) -> None:
        self.hungry = False
        super().__init__(slot, slot_number)
        slot.listeners.append(self)

    def config(self) -> bytes:
        return bytes(4) + (1).to_bytes(4, "little") + bytes(4)  # columns, rows; ports; emergency write

    def restarted(self) -> None:
        self.hungry = False

    def serve(self, number: int, now: int) -> None:
        if number == TRANSMIT:
            self.drain(TRANSMIT, self._print)
        else:
            self.hungry = self._queues[RECEIVE].waiting() > 0

    def _print(self, chain: Chain) -> int:
        console = self._slot.console
        console.extend(chain.read(self.dma, max(MOST_CONSOLE + 1 - len(console), 0)))
        return 0

    def type(self, text: bytes) -> int:
        """The user types; gives how many bytes the driver's next buffer takes. See TypedInput."""
        taken = 0

        def give() -> None:
            nonlocal taken
            queue = self._queues[RECEIVE]
            chain = queue.pop()
            if chain is not None:
                taken = chain.write(self.dma, text)
                queue.push(chain, taken)
            self.hungry = queue.waiting() > 0
            self.interrupt_for(queue)

        if self.works and self.hungry:
            self.carefully(give)
        return taken
