"""Going back: checkpoints of a machine, and deterministic re-execution from them.

An exact run depends on nothing but the program, its disk and what was typed, and when. So any past
instruction can be had again: restore the last checkpoint before it, and step forward. The distance
between checkpoints is what a seek costs; 5,000 instructions are 0.2 s on the slowest engine.

RAM is kept as one copy of the newest checkpoint's, and for each older one the pages that have
changed since, as they were: a guest that writes little costs little.
"""

from __future__ import annotations

from dataclasses import dataclass

from .machine import Machine, MachineState
from .x86.paging import PAGE

INTERVAL = 5_000
"""Instructions between checkpoints."""
MAX_UNDO = 40 << 20
"""Bytes of old pages kept; the oldest checkpoints go first."""
MAX_CHECKPOINTS = 256
"""1.3 million instructions at full density; before that every second one is dropped, and again."""
CHUNK = 64 << 10


@dataclass(slots=True)
class Checkpoint:
    """A machine at one moment. undo: pages as they were then, by GPA, that had changed by the next
    checkpoint."""

    state: MachineState
    undo: dict[int, bytes]

    @property
    def instructions(self) -> int:
        return self.state.instructions


class History:
    """The past of one machine, in exact mode. typed: (instruction, text), all of it in the past."""

    def __init__(self, machine: Machine, typed: tuple[tuple[int, bytes], ...] = ()) -> None:
        self.machine = machine
        self.typed = list(typed)
        self._newest = bytearray(machine.memory.view[: machine.memory.size])
        self._checkpoints = [Checkpoint(machine.save(), {})]
        self._replayed = len(self.typed)

    def step(self) -> None:
        """Complete one more instruction, with what was typed before it the first time."""
        self._retype()
        self.machine.step()
        done = self.machine.vmm.instructions
        if done >= self._checkpoints[-1].instructions + INTERVAL:
            self._checkpoint()

    def type_text(self, text: bytes) -> None:
        """Type on the guest's keyboard, now; the future that was known is no more."""
        now = self.machine.vmm.instructions
        self.forget_future()
        self.typed.append((now, text))
        self._retype()

    def forget_future(self) -> None:
        """The guest has been changed from outside: what came after the present never happens."""
        now = self.machine.vmm.instructions
        self.typed = [(n, text) for n, text in self.typed if n <= now]
        self._replayed = min(self._replayed, len(self.typed))
        while len(self._checkpoints) > 1 and self._checkpoints[-1].instructions > now:
            self._rewind_newest(self._checkpoints[-2].undo)
            self._checkpoints.pop()
            self._checkpoints[-1].undo = {}

    def seek(self, instruction: int) -> None:
        """Be where ``instruction`` instructions are completed, or at the end if that comes first."""
        now = self.machine.vmm.instructions
        best = max(
            (i for i, c in enumerate(self._checkpoints) if c.instructions <= instruction), default=0
        )
        if not now <= instruction or self._checkpoints[best].instructions > now:
            self._restore(best)
        while self.machine.stop is None and self.machine.vmm.instructions < instruction:
            self.step()

    # Checkpoints

    def _checkpoint(self) -> None:
        previous = self._checkpoints[-1]
        view, newest = self.machine.memory.view, self._newest
        for start in range(0, len(newest), CHUNK):
            now = bytes(view[start : start + CHUNK])
            if now == newest[start : start + CHUNK]:
                continue
            for at in range(0, len(now), PAGE):
                page = now[at : at + PAGE]
                old = newest[start + at : start + at + PAGE]
                if page != old:
                    previous.undo[start + at] = bytes(old)
                    newest[start + at : start + at + PAGE] = page
        self._checkpoints.append(Checkpoint(self.machine.save(), {}))
        self._thin_out()

    def _thin_out(self) -> None:
        """Keep the bound on memory: merge old checkpoints two by two, then drop the oldest."""
        if len(self._checkpoints) > MAX_CHECKPOINTS:
            for i in range(MAX_CHECKPOINTS // 4, 0, -2):
                self._merge(i)
        while len(self._checkpoints) > 2 and self._bytes() > MAX_UNDO:
            self._merge(1)

    def _merge(self, index: int) -> None:
        """Drop checkpoint ``index``; the one before takes its pages, unless it has older ones."""
        gone = self._checkpoints.pop(index)
        before = self._checkpoints[index - 1].undo
        self._checkpoints[index - 1].undo = gone.undo | before

    def _bytes(self) -> int:
        return PAGE * sum(len(checkpoint.undo) for checkpoint in self._checkpoints)

    def _rewind_newest(self, undo: dict[int, bytes]) -> None:
        for at, page in undo.items():
            self._newest[at : at + PAGE] = page

    def _restore(self, index: int) -> None:
        view = self.machine.memory.view
        view[: len(self._newest)] = self._newest
        for checkpoint in reversed(self._checkpoints[index:-1]):
            for at, page in checkpoint.undo.items():
                view[at : at + PAGE] = page
        self.machine.restore(self._checkpoints[index].state)
        done = self.machine.vmm.instructions
        self._replayed = sum(1 for n, _ in self.typed if n < done)

    def _retype(self) -> None:
        """Type what was typed here the first time."""
        now = self.machine.vmm.instructions
        while self._replayed < len(self.typed) and self.typed[self._replayed][0] <= now:
            self.machine.board.type_text(self.typed[self._replayed][1])
            self._replayed += 1
