"""Fast forward: the machines of a live session are led instead of stepped (cores/lockstep/leader.py).

A stretch ends where a checkpoint is due, so that seeks cost as much as after steps. Its length is
adapted to the time that stretches take, so that the screen stays responsive.
"""

from __future__ import annotations

from cores.lockstep.comparison import Lockstep
from cores.lockstep.follower import LostError
from cores.lockstep.leader import SHORTEST, Lead
from cores.time_travel.history import INTERVAL, History

FIRST = 512
"""Instructions of the first stretch."""
BRISK, SLOW = 0.004, 0.012
"""Seconds. A stretch that takes less may be longer next time; one that takes more must be shorter."""
FAR = 1 << 62


class FastForward:
    """Leads the machines of these histories, whose checkpoints they go back to after trouble. trouble:
    the instruction at which they met it: up to there they have been before, and stop for nothing."""

    def __init__(self, histories: list[History], lockstep: Lockstep) -> None:
        self._histories = histories
        self._lockstep = lockstep
        self._lead: Lead | None = None
        self._until = FAR
        self._longest = FIRST
        self.trouble = 0
        self._trusted = 0  # the last checkpoint at which all changed pages were compared

    def begin(self, until: int = FAR, stops: frozenset[int] = frozenset()) -> Lead | None:
        """Lead from here, no further than instruction ``until``, and stop before instructions at the
        linear addresses ``stops``; None where nothing can be led."""
        lockstep = self._lockstep
        self._until = until
        if lockstep.divergence is not None:
            return None
        if self._lead is None or self._lead.machines is not lockstep.machines:
            self.close()
            everybody = len(lockstep.machines) == len(self._histories)
            if everybody and Lead.may_lead(lockstep.machines):
                self._lead = Lead(lockstep.machines, lockstep, self)
        if self._lead is not None:
            self._lead.stop_before(stops)
        return self._lead

    def roll_back_divergence(self) -> bool:
        """After a divergence: see ``Lead.roll_back_divergence``."""
        return self._lead is not None and self._lead.roll_back_divergence()

    def pause(self) -> None:
        """Return the machines to exact mode, to be inspected and stepped."""
        if self._lead is not None:
            self._lead.pause()

    def close(self) -> None:
        """Stop leading and release the leader's alarms."""
        if self._lead is not None:
            self._lead.close()
            self._lead = None

    # ``Retreat``, as the leader needs it

    def keep(self, *, led: bool, soon: bool, now: bool) -> bool:
        """Take each machine's checkpoint if it is due, never early. Pages changed since the last one
        must be equal on all machines."""
        for history in self._histories:
            history.keep()
        newest = min(history.newest for history in self._histories)
        if newest != self._trusted or not led:
            pages = {page for history in self._histories for page in history.changed()}
            if led and self._lockstep.pages_differ(pages):
                raise LostError
            self._trusted = newest
        return newest == self._histories[0].machine.vmm.instructions

    def room(self) -> int:
        """Instructions to the next checkpoint, the next key typed, or the place to stop at."""
        assert self._lead is not None
        took, self._lead.took = self._lead.took, 0.0
        if took > SLOW:
            self._longest = max(SHORTEST, self._longest // 2)
        elif 0 < took < BRISK:
            self._longest = min(INTERVAL, self._longest * 2)
        now = self._histories[0].machine.vmm.instructions
        return min(self._longest, self._until - now, *(history.room() for history in self._histories))

    def go_back(self) -> int:
        """Take all machines back to the last checkpoint that was compared; gives its instruction."""
        now = max(history.machine.vmm.instructions for history in self._histories)
        self.trouble = max(self.trouble, now)
        for history in self._histories:
            history.back_from(min(self._trusted + 1, now))
        there = min(history.machine.vmm.instructions for history in self._histories)
        for history in self._histories:
            history.seek(there)
        return there
