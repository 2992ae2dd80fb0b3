"""virtio-net: an Ethernet card that its driver knows to be none (virtio 1.2, 5.1).

Queue 0 holds buffers for frames that come, queue 1 frames to send; each begins with a header of 12
bytes. A frame that has arrived waits in the network until there is a buffer for it. The device wants to
be told of new buffers only when one has had to wait.
"""

from __future__ import annotations

from struct import Struct

from cores.pc.devices.base import Slot
from cores.pc.devices.virtio.device import VirtioDevice
from cores.pc.devices.virtio.dma import ViolationError
from cores.pc.devices.virtio.queue import Chain
from cores.pc.network.link import LONGEST, Link
from cores.plural import counted

MAC, STATUS = 1 << 5, 1 << 16
RECEIVE, TRANSMIT = 0, 1
HEADER = Struct("<BBHHHHH")
"""flags, gso_type, hdr_len, gso_size, csum_start, csum_offset, num_buffers."""
_ONE_BUFFER = HEADER.pack(0, 0, 0, 0, 0, 0, 1)
_LINK_IS_UP = 1


class VirtioNet(VirtioDevice):
    """A card. link: what its cable leads to, None for no cable. starved: a frame waits, or may, for
    which the driver has given no buffer."""

    name = "virtio-net"
    id = 1
    queue_names = ("receive", "transmit")
    wiring = VirtioDevice.wiring | {"_link"}

    def __init__(self, slot: Slot, slot_number: int, link: Link | None) -> None:
        self._link = link
        self.starved = False
        super().__init__(slot, slot_number)

    def own_features(self) -> int:
        return MAC | STATUS

    def config(self) -> bytes:
        if self._link is None:
            return bytes(8)
        return self._link.mac + _LINK_IS_UP.to_bytes(2, "little")

    def restarted(self) -> None:
        self.starved = False

    def wants_kicks(self, number: int) -> bool:
        return not self.polls and (number == TRANSMIT or self.starved)

    def serve(self, number: int, now: int) -> None:
        if number == TRANSMIT:
            self.drain(TRANSMIT, lambda chain: self._send(chain, now))
        else:
            self.starved = False
            self.at(now)

    def _send(self, chain: Chain, now: int) -> int:
        data = chain.read(self.dma, HEADER.size + LONGEST + 1)
        if len(data) < HEADER.size:
            raise ViolationError(f"sent {counted(len(data), 'byte')}, fewer than the header has")
        if self._link is not None:
            self._link.transmit(data[HEADER.size :], now)
        return 0

    # Frames that come.

    def at(self, now: int) -> None:
        link, queue = self._link, self._queues[RECEIVE]
        if link is None or self.starved or not queue.ready:
            return
        came = False
        while (due := link.next_arrival()) is not None and due <= now:
            if not queue.waiting():
                self.starved = True
                queue.kicks(self.wants_kicks(RECEIVE))
                if not queue.waiting():
                    break
                self.starved = False  # one came before the driver knew that it has to tell
            frame = link.receive(now)
            if frame is None or (chain := queue.pop()) is None:
                break
            if chain.room < HEADER.size + len(frame):
                raise ViolationError(
                    f"gave a buffer of {counted(chain.room, 'byte')} for a frame of {len(frame)}"
                    " and its header"
                )
            queue.push(chain, chain.write(self.dma, _ONE_BUFFER + frame))
            came = True
        if came:
            if not self.starved:
                queue.kicks(self.wants_kicks(RECEIVE))
            self.interrupt_for(queue)

    def next_event(self) -> int | None:
        if self._link is None or self.starved or not (self.works and self._queues[RECEIVE].ready):
            return None
        return self._link.next_arrival()
