"""Fast forward: the machines of a live session are led instead of stepped (cores/lockstep/leader.py).

Their past stays as dense as ever, so that seeks cost the same: a stretch ends where a checkpoint is
due. And it ends early enough for the screen: how long one may be follows from how long they take.
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
    """Leads the machines of these histories, which are also where they go back to."""

    def __init__(self, histories: list[History], lockstep: Lockstep) -> None:
        self._histories = histories
        self._lockstep = lockstep
        self._lead: Lead | None = None
        self._until = FAR
        self._longest = FIRST
        self._trusted = 0  # the last checkpoint at which all that had changed was compared

    def begin(self, until: int = FAR) -> Lead | None:
        """From here on, and no further than ``until``; None where nothing can be led."""
        lockstep = self._lockstep
        self._until = until
        if lockstep.divergence is not None:
            return None
        if self._lead is None or self._lead.machines is not lockstep.machines:
            self.close()
            everybody = len(lockstep.machines) == len(self._histories)
            if everybody and Lead.may_lead(lockstep.machines):
                self._lead = Lead(lockstep.machines, lockstep, self)
        return self._lead

    def roll_back_divergence(self) -> bool:
        """A divergence has been found; see ``Lead.roll_back_divergence``."""
        return self._lead is not None and self._lead.roll_back_divergence()

    def pause(self) -> None:
        """For now the machines are to be looked at, and stepped."""
        if self._lead is not None:
            self._lead.pause()

    def close(self) -> None:
        """For good."""
        if self._lead is not None:
            self._lead.close()
            self._lead = None

    # What the lead asks of the past

    def keep(self, *, led: bool, soon: bool) -> bool:
        """Each machine's checkpoint, if due, and no sooner: the past stays as dense as it is;
        what has changed must have changed alike."""
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
        """To the next checkpoint, the next key typed, or the place to stop at."""
        assert self._lead is not None
        took, self._lead.took = self._lead.took, 0.0
        if took > SLOW:
            self._longest = max(SHORTEST, self._longest // 2)
        elif 0 < took < BRISK:
            self._longest = min(INTERVAL, self._longest * 2)
        now = self._histories[0].machine.vmm.instructions
        return min(self._longest, self._until - now, *(history.room() for history in self._histories))

    def go_back(self) -> int:
        """All to the same checkpoint, the last that can be trusted."""
        now = max(history.machine.vmm.instructions for history in self._histories)
        for history in self._histories:
            history.back_from(min(self._trusted + 1, now))
        there = min(history.machine.vmm.instructions for history in self._histories)
        for history in self._histories:
            history.seek(there)
        return there
