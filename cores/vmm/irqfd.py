"""The virtio devices' interrupt by an irqfd: in free mode it reaches the guest without an exit.

Before the guest is entered, the board knows which vector the CPU would be given if the line rose next;
with this the guest is entered (``Engine.irqfd``), and the thread that serves the queues may raise the
line itself, once. The kernel interrupts the guest where it is, or wakes it out of HLT. When it exits,
for whatever reason, the interrupt controllers are told before anything else, so that the guest finds
them as after any interrupt. What it has not taken by then, IF being clear, is delivered by the owner.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from cores.engines.base import Engine
from cores.pc.devices.board import Board
from cores.pc.devices.virtio.bus import VirtioBus
from cores.pc.devices.virtio.device import IRQ


class Irqfd:
    """The line of one machine's virtio devices (``EventfdLine``)."""

    def __init__(self, board: Board, bus: VirtioBus, engine: Engine) -> None:
        self._board, self._bus, self._engine = board, bus, engine
        self.eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = threading.Lock()
        self._vector: int | None = None
        self._open = self._raised = False

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Raise the line so while the block runs."""
        self._engine.irqfd(self)
        self._bus.rises = self._rise
        try:
            yield
        finally:
            self._bus.rises = lambda: False
            self._engine.irqfd(None)

    def vector(self) -> int | None:
        bus, board, apic = self._bus, self._board, self._board.local_apic
        ready = apic.enabled and not (bus.stale or bus.wanted)
        vector = board.vector_of(IRQ) if ready else None
        if vector is not None and vector >> 4 <= apic.priority:
            vector = None  # the PICs' interrupts do not heed CR8, a message does
        self._vector = vector
        return vector

    def open(self) -> None:
        self._open = True

    def _rise(self) -> bool:
        """From the thread: raise the line beside the guest. False: the owner has to."""
        with self._lock:
            if self._open and not self._raised:
                os.eventfd_write(self.eventfd, 1)
                self._raised = True
            return self._raised

    def close(self) -> bool:
        with self._lock:
            self._open = False
            raised, self._raised = self._raised, False
        return raised

    def raised(self, *, taken: bool) -> None:
        self._bus.settle()
        if not taken:
            self._engine.interrupt()  # for the VMM to inject it
            return
        vector = self._board.acknowledge()
        assert vector == self._vector, f"the guest has taken {self._vector}, the PC gives {vector}"
        self._bus.took()

    def release(self) -> None:
        """Close the eventfd."""
        os.close(self.eventfd)


def irqfd(board: Board, engine: Engine) -> Irqfd | None:
    """The line, where the engine delivers it and there are virtio devices; else None."""
    if not engine.sleeps_inside:
        return None
    bus = next((device for device in board.devices if isinstance(device, VirtioBus)), None)
    return None if bus is None else Irqfd(board, bus, engine)
