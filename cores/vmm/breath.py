"""What the guest gets between two interrupts in free mode, where devices keep the host's time.

A timer may be faster than this host runs its handler: a slow core, a busy host. Then the next interrupt
waits at each end of the handler, and the guest would get no further. So after ``IN_A_ROW`` interrupts
that had waited for the guest, it gets a *breath* after each handler: on a core that counts, some
instructions; on the others as much time as the handler took, so that at least half is the guest's.
Nothing is lost by it: an interrupt that waits is one, however often its device asks again. Interrupts
that answer the guest's own accesses, as a disk's do, have to be asked for: they do not count.
"""

from __future__ import annotations

from time import perf_counter_ns

from cores.vmm.vmm import Vmm

INSTRUCTIONS = 500
"""Instructions of a breath on a core that counts them."""
IN_A_ROW = 16
LONGEST_NS = 100_000_000
"""Of a breath in time: a guest that disabled interrupts for longer has had its time."""


class Breath:
    """Tells whether a pending interrupt that the guest could take has to wait."""

    def __init__(self, vmm: Vmm) -> None:
        self._vmm = vmm
        self._in_time = vmm.trap is not None
        self._row = 0  # interrupts that came close together
        self._delivered = -1  # ``vmm.instructions`` at the last delivery, or its time
        self._ended = False  # and the guest could have taken it since
        self._until = 0  # the ``perf_counter_ns()`` at which a breath in time ends, 0 for none

    def end(self, now: int) -> int | None:
        """When the breath under way ends, None where there is none."""
        if self._until <= now:
            self._until = 0
        return self._until or None

    def holds(self) -> bool:
        """An interrupt is pending that the guest could take: shall it wait?"""
        if not self._in_time:
            return self.instructions() > 0
        if not self._vmm.board.ticked:
            return False
        if self._ended:
            return perf_counter_ns() < self._until
        if not self._vmm.closed:  # the guest has run on since it could have taken it
            self._row = 0
            return False
        now = perf_counter_ns()
        self._row, self._ended = self._row + 1, True
        if self._row > IN_A_ROW:
            self._until = now + min(now - self._delivered, LONGEST_NS)
        return self._until > now

    def delivered(self) -> None:
        """The guest has got an interrupt."""
        vmm = self._vmm
        if self._in_time:
            self._delivered = perf_counter_ns()
        else:
            close = 0 <= vmm.instructions - self._delivered <= 2 * INSTRUCTIONS
            self._row = self._row + 1 if close else 0
            self._delivered = vmm.instructions
        self._ended = False
        self._until = 0

    def rested(self) -> None:
        """The guest has slept: it had time to spare."""
        self._row = self._until = 0

    def instructions(self) -> int:
        """The instructions that the guest may still complete before the next interrupt; always 0 on a
        core that does not count."""
        if self._in_time or self._row < IN_A_ROW:
            return 0
        since = self._vmm.instructions - self._delivered
        return INSTRUCTIONS - since if 0 <= since < INSTRUCTIONS else 0  # negative: it was set back
