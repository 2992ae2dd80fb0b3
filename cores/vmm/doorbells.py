"""Doorbells: on KVM, in free mode, a kick reaches the host without an exit to user space.

A store to QueueNotify is a doorbell: it says nothing but that somebody is there. The kernel knows its
address and its value (KVM_IOEVENTFD), adds one to an eventfd, and the guest goes on at once; a thread
that sleeps on the eventfd serves the queue meanwhile, beside the guest. If the guest accesses a
register first, the kick is served before that, as it is on a core without doorbells. The way back, an
interrupt, goes by an irqfd, where this host's KVM has such (irqfd.py); else it takes the guest's CPU.
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cores.engines.base import Engine
from cores.pc.devices.board import Board
from cores.pc.devices.virtio.bus import BASE, VirtioBus
from cores.pc.devices.virtio.device import QUEUE_NOTIFY, SPAN, VirtioDevice
from cores.vmm.ring_watch import RingWatch

AWAKE = 0.005
"""Seconds after which the thread looks in any case: the owner may have set up a device."""
RUNG = "running freely, a virtio kick is a doorbell (ioeventfd) on this core, and no exit"


@dataclass(frozen=True, slots=True)
class Bell:
    """One queue's doorbell. fd: its eventfd."""

    device: VirtioDevice
    queue: int
    fd: int

    @property
    def address(self) -> int:
        """Where the guest rings, as a physical address."""
        return BASE + SPAN * self.device.slot_number + QUEUE_NOTIFY


class Doorbells(RingWatch):
    """The doorbells of one machine, and the thread that hears them."""

    def __init__(self, board: Board, engine: Engine) -> None:
        super().__init__(board, engine)
        self._stop = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._bells = [
            Bell(device, queue, os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
            for device in board.devices
            if isinstance(device, VirtioDevice)
            for queue in range(len(device.queue_names))
        ]
        self._buses = [device for device in board.devices if isinstance(device, VirtioBus)]

    @contextmanager
    def watching(self) -> Iterator[None]:
        hung = [bell for bell in self._bells if self._hang(bell, on=True)]
        for bus in self._buses:
            bus.before_access = self.drain
        try:
            with super().watching():
                yield
        finally:
            for bell in hung:
                self._hang(bell, on=False)
            for bus in self._buses:
                bus.before_access = lambda: None
            self.drain()

    def _hang(self, bell: Bell, *, on: bool) -> bool:
        return self._engine.doorbell(bell.address, bell.queue, bell.fd, on=on)

    def drain(self) -> None:
        with self._board.lock:
            for bell in self._bells:
                try:
                    count = os.eventfd_read(bell.fd)
                except BlockingIOError:
                    continue
                self._board.rung(bell.device, bell.queue, count)

    def _look(self) -> bool:
        self.drain()
        return super()._look()

    def _wait(self) -> None:
        fds = [self._stop, *(bell.fd for bell in self._bells)]
        select.select(fds, [], [], min(self._board.until_arrival(), AWAKE))

    def _wake(self) -> None:
        os.eventfd_write(self._stop, 1)

    def close(self) -> None:
        super().close()
        for fd in (self._stop, *(bell.fd for bell in self._bells)):
            os.close(fd)


def doorbells(board: Board, engine: Engine) -> Doorbells | None:
    """The doorbells of a machine with virtio devices, where the engine has such; else None."""
    if not any(isinstance(device, VirtioDevice) for device in board.devices):
        return None
    if type(engine).doorbell is Engine.doorbell or not hasattr(os, "eventfd"):
        return None
    bells = Doorbells(board, engine)
    bell = bells._bells[0]
    if bells._hang(bell, on=True):
        bells._hang(bell, on=False)
        return bells
    bells.close()
    return None
