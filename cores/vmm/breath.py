"""What the guest gets between two interrupts in free mode, where devices keep the host's time.

A timer may be faster than this host runs its handler: a slow core, a busy host. Then the next interrupt
waits at each end of the handler, and the guest would get no further. So after ``IN_A_ROW`` interrupts
that had waited for the guest, it gets a *breath* after each handler: on a core that counts, some
instructions; on the others as much time as the handler took, so that at least half is the guest's.

Where each exit goes the long way (``--slow``), a handler may take ten milliseconds. xv6's makes 206
exits; with half of the time for them its boot made 250,000 exits, 79,000 without any. So there a
handler of ``LONG_NS`` is one that the host is too slow for, and after ``LONG_IN_A_ROW`` of them the
guest has fifteen sixteenths of the time.

Nothing is lost by it: an interrupt that waits is one, however often its device asks again. Those that
answer the guest's own accesses, as a disk's do, have to be asked for: they do not wait.
"""

from __future__ import annotations

from time import perf_counter_ns

from cores.vmm.vmm import Vmm

INSTRUCTIONS = 500
"""Instructions of a breath on a core that counts them."""
IN_A_ROW, LONG_IN_A_ROW = 16, 4
LONG_NS = 1_000_000
LONG_BREATH = 15
"""Of a breath after a long handler, in times of the handler."""
LONGEST_NS = 100_000_000
"""Of the time that a handler is taken for: a guest that disabled interrupts for longer has had its
time."""


class Breath:
    """Tells whether a pending interrupt that the guest could take has to wait.

    until: the ``perf_counter_ns()`` at which the breath under way ends, 0 for none. sees_ends: the VMM
    is there whenever the guest enables interrupts."""

    def __init__(self, vmm: Vmm) -> None:
        self._vmm = vmm
        self._in_time = vmm.trap is not None
        self.sees_ends = self._in_time and vmm.known is None
        self._row = 0  # interrupts that came close together
        self._delivered = -1  # ``vmm.instructions`` at the last delivery, or its time
        self._ended = False  # and the guest could have taken it since
        self.until = 0

    def end(self) -> None:
        """Let what is held back come if the breath under way is over."""
        if self.until and self.until <= perf_counter_ns():
            self._stop()

    def holds(self) -> bool:
        """An interrupt is pending that the guest could take: shall it wait?"""
        board = self._vmm.board
        if not self._in_time:
            return self.instructions() > 0
        if board.ticked:
            self.opened(waits=self._vmm.closed)
        return not board.interrupt_pending

    def opened(self, *, waits: bool) -> None:
        """The guest could take an interrupt. waits: one has waited for that."""
        if self.until:
            self._vmm.board.hold_ticks(True)  # again, after a pause of the run
        if self._ended:
            return
        now = perf_counter_ns()
        took = now - self._delivered
        is_long = self.sees_ends and took >= LONG_NS
        self._ended = self.sees_ends or waits
        if not (is_long or waits):  # the guest has run on since it could have taken it
            self._row = 0
            return
        self._row += 1
        if self._row > (LONG_IN_A_ROW if is_long else IN_A_ROW):
            self.until = now + min(took, LONGEST_NS) * (LONG_BREATH if is_long else 1)
            self._vmm.board.hold_ticks(True)

    def delivered(self) -> None:
        """The guest has got an interrupt."""
        vmm = self._vmm
        if not self._in_time:
            close = 0 <= vmm.instructions - self._delivered <= 2 * INSTRUCTIONS
            self._row = self._row + 1 if close else 0
            self._delivered = vmm.instructions
        elif not self.until:  # during a breath it is one that the guest has asked for
            self._delivered = perf_counter_ns()
            self._ended = False

    def rested(self) -> None:
        """The guest sleeps: it has time to spare."""
        self._row = 0
        if self.until:
            self._stop()

    def _stop(self) -> None:
        self.until = 0
        self._vmm.board.hold_ticks(False)

    def instructions(self) -> int:
        """The instructions that the guest may still complete before the next interrupt; always 0 on a
        core that does not count."""
        if self._in_time or self._row < IN_A_ROW:
            return 0
        since = self._vmm.instructions - self._delivered
        return INSTRUCTIONS - since if 0 <= since < INSTRUCTIONS else 0  # negative: it was set back
