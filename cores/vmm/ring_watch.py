"""``--poll`` in free mode: a thread looks at the virtio queues while the guest runs.

The guest's RAM is mapped here too, so what it puts into a queue can be seen, served and answered
without stopping it. Neither side tells the other anything, and a driver that looks at its queues itself
has no exit at all; the price is a CPU that looks again and again, here every 50 us.

The machine has one thread that owns it (ARCHITECTURE.md). The watching thread touches virtio devices
and networks alone, and those only with the board's lock, which the owner holds while it accesses them.
An interrupt that the guest wants is left to the owner, who is called from the guest for it, unless the
engine takes it by an irqfd (irqfd.py).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from time import sleep

from cores.engines.base import Engine
from cores.errors import EngineError
from cores.pc.devices.board import Board
from cores.vmm.irqfd import irqfd
from cores.x86.faults import Unsupported

PAUSE = 50e-6
"""Seconds between two looks."""


class RingWatch:
    """The thread of one machine. called: the owner was called from the guest, for an interrupt or for
    what the user types. failed: an error that the owner is to raise. line: the interrupt's, where it
    needs no owner."""

    def __init__(self, board: Board, engine: Engine) -> None:
        self._board, self._engine = board, engine
        self._ends = False
        self.called = threading.Event()
        self.failed: EngineError | Unsupported | None = None
        self.line = irqfd(board, engine)

    def close(self) -> None:
        """Release what it holds of the host."""
        if self.line is not None:
            self.line.release()

    def drain(self) -> None:
        """From the owner: serve what the guest has told of by now."""

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch while the block runs. Raises EngineError where the host gives no thread."""
        self._ends, self._board.watched = False, True
        thread = threading.Thread(target=self._watch, name="ring watch", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self._board.watched = False
            raise EngineError(f"this host gives no thread to watch queues: {error}") from None
        try:
            with self.line.connected() if self.line is not None else nullcontext():
                yield
        finally:
            self._ends = True
            self._wake()
            thread.join()
            self._board.watched = False

    def collect(self) -> None:
        """The owner has left the guest: take over what the thread has left to it. Raises what the
        thread has met."""
        if self.called.is_set():
            self.called.clear()
            if self.failed is not None:
                failed, self.failed = self.failed, None
                raise failed
            self._board.collect()

    def _watch(self) -> None:
        while not self._ends:
            try:
                wanted = self._look()
            except (EngineError, Unsupported) as error:
                self.failed, self._ends, wanted = error, True, True
            if wanted and not self.called.is_set():
                self.called.set()
                self._engine.interrupt()
            self._wait()

    def _look(self) -> bool:
        """Serve the queues; True: the owner is wanted."""
        return self._board.watch()

    def _wait(self) -> None:
        """Until there may be something to see."""
        sleep(PAUSE)

    def _wake(self) -> None:
        """End ``_wait`` from another thread."""
