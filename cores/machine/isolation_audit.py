"""Isolation audit: checks at run time that guests hold no host resource beyond their own memory.

This is Popek and Goldberg's second property, resource control. Twice a second, and once more when all
machines have stopped, each engine reports what its guest has on the host. A machine whose guest has
more than its memory is stopped.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from time import perf_counter

from cores.machine.machine import Machine
from cores.pc.stop import Stop

INTERVAL = 0.5
"""Seconds between two audits of running machines. One takes less than a tenth of a millisecond."""


class Control:
    """Audits the machines of one session. audits: how many there were, None while no engine supports
    them. escaped: findings in words; empty while the VMM holds control."""

    def __init__(self) -> None:
        self.audits: int | None = None
        self.escaped: tuple[str, ...] = ()
        self._asked = -inf  # perf_counter() may count from the host's start, and that be seconds ago
        self._ended = False

    def audit(self, machines: Iterable[Machine], ended: bool) -> None:
        """Audit the machines if ``INTERVAL`` has passed. ended: all machines have stopped."""
        now = perf_counter()
        if now - self._asked < INTERVAL and (not ended or self._ended):
            return
        self._asked, self._ended = now, ended
        answers = {machine: machine.engine.escapes() for machine in machines}
        if any(found is not None for found in answers.values()):
            self.audits = (self.audits or 0) + 1
        for machine, found in answers.items():
            if found:
                self.escaped = tuple(f"{machine.core}: {words}" for words in found)
                machine.vmm.stop = Stop.ERROR
                machine.vmm.reason = f"the guest was stopped, for the VMM lost control: {found[0]}"
                machine.engine.close()
