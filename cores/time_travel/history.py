"""History: checkpoints of a machine, and deterministic re-execution from them.

An exact run depends only on the program, its disk, and what was typed at which instruction. So any past
instruction can be reached again: restore the last checkpoint before it, and step forward. A seek costs
at most the distance between checkpoints; 5,000 instructions are 0.2 s on the slowest engine.

RAM is kept as one copy at the newest checkpoint, and for each older one the old contents of the pages
that had changed by the next. Memory use grows with what the guest writes; pages that were still empty
cost nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from cores.machine.machine import Machine, MachineState
from cores.pc.ram import CHUNK, Ram
from cores.pc.ram_image import EMPTY, ZEROS, RamImage, chunk_of, put_back
from cores.pc.stop import Stop
from cores.x86.mmu.paging import PAGE

INTERVAL = 5_000
"""Instructions between checkpoints."""
MAX_UNDO = 40 << 20
"""Limit in bytes of old pages kept, besides those that changed between the last two checkpoints. The
oldest checkpoints are merged first; where the first has half of the bytes, it is dropped."""
ENTRY = 64
"""Approximate bytes of an entry of the virtual TLB, of which a state may hold 30,000. They count
towards ``MAX_UNDO``, once for all states that share them."""
MAX_CHECKPOINTS = 256
"""1.3 million instructions at full density. When there are more, every second old one is dropped."""

Change = bytes | Callable[[], None]
"""A user's action on a machine: a text that was typed, or a function that changes the machine."""


class Moment(Protocol):
    """A machine's state without RAM."""

    @property
    def instructions(self) -> int: ...


State = TypeVar("State", bound=Moment)


class Memory(Protocol):
    """The part of a physical memory that a history needs."""

    ram: Ram


class Rewindable(Protocol[State]):
    """The part of a machine that a history needs: of the PC's (cores/machine/machine.py) or the
    68000's."""

    @property
    def memory(self) -> Memory: ...
    @property
    def vmm(self) -> Moment: ...
    @property
    def stop(self) -> Stop | None: ...
    def step(self) -> None: ...
    def type_text(self, text: bytes) -> None: ...
    def save(self) -> State: ...
    def restore(self, state: State) -> None: ...


@dataclass(slots=True)
class Checkpoint(Generic[State]):
    """A machine at one moment. done: number of user actions made by then. undo: contents, by GPA, of
    the pages that had changed by the next checkpoint; ``EMPTY`` for pages that were empty."""

    state: State
    done: int
    undo: dict[int, bytes] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of pages that it keeps."""
        return PAGE * sum(page is not EMPTY for page in self.undo.values())

    @property
    def instructions(self) -> int:
        return self.state.instructions


class Past(Generic[State]):
    """The past of one machine, in exact mode. coming: (instruction, text) to be typed later.

    User actions are kept with their instruction, and made again whenever it is reached again."""

    def __init__(self, machine: Rewindable[State], coming: tuple[tuple[int, bytes], ...] = ()) -> None:
        self.machine = machine
        self._changes: list[tuple[int, Change]] = list(coming)
        self._newest = dict(RamImage.of(machine.memory.ram).chunks)  # RAM at the newest checkpoint
        self._checkpoints = [Checkpoint(machine.save(), 0)]
        self._replayed = 0
        self._changed: set[int] = set()

    @property
    def begins(self) -> int:
        """The earliest instruction that ``seek`` can reach."""
        return self._checkpoints[0].instructions

    @property
    def typed(self) -> list[tuple[int, bytes]]:
        return _texts(self._changes)

    @property
    def coming(self) -> list[tuple[int, bytes]]:
        """The part of ``typed`` that lies ahead and will be typed again."""
        return _texts(self._changes[self._replayed :])

    def step(self) -> None:
        """Complete one more instruction, after the user actions recorded before it."""
        self._replay()
        self.machine.step()
        self.keep()

    def type_text(self, text: bytes) -> None:
        """Type on the guest's keyboard now; the recorded future is dropped."""
        self._change(text)

    def poke(self, change: Callable[[], None]) -> None:
        """Change the machine now, and whenever this instruction is reached again."""
        self._change(change)

    def _change(self, change: Change) -> None:
        self.forget_future()
        self._changes.append((self.machine.vmm.instructions, change))
        self._replay()

    def forget_future(self) -> None:
        """Drop checkpoints and actions after the present, since the guest was changed from outside."""
        now = self.machine.vmm.instructions
        self._changes = [(n, change) for n, change in self._changes if n <= now]
        self._replayed = min(self._replayed, len(self._changes))
        while len(self._checkpoints) > 1 and self._checkpoints[-1].instructions > now:
            self._drop_newest()

    def seek(self, instruction: int) -> None:
        """Go to where ``instruction`` instructions are completed, or to the end if that comes first."""
        self.approach(instruction)
        while self.machine.stop is None and self.machine.vmm.instructions < instruction:
            self.step()

    def approach(self, instruction: int) -> None:
        """Go to the last checkpoint before ``instruction``, or stay if stepping from here is
        shorter."""
        now = self.machine.vmm.instructions
        best = max(
            (i for i, c in enumerate(self._checkpoints) if c.instructions <= instruction), default=0
        )
        if not now <= instruction or self._checkpoints[best].instructions > now:
            self._restore(best)

    @contextlib.contextmanager
    def excursion(self) -> Iterator[None]:
        """Restore the present state after the block, which may go anywhere in the past."""
        ram = self.machine.memory.ram
        state, replayed, image = self.machine.save(), self._replayed, RamImage.of(ram)
        try:
            yield
        finally:
            image.put_back(ram)
            self.machine.restore(state)
            self._replayed = replayed

    # For leading (cores/lockstep/leader.py)

    def keep(self) -> None:
        """Take a checkpoint if one is due."""
        if self.machine.vmm.instructions >= self.newest + INTERVAL:
            self._checkpoint()

    @property
    def newest(self) -> int:
        """Instructions completed at the last checkpoint."""
        return self._checkpoints[-1].instructions

    def changed(self) -> set[int]:
        """Pages (GPA) that checkpoints have found changed since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    def room(self) -> int:
        """Instructions to the next checkpoint or recorded user action."""
        self._replay()
        now = self.machine.vmm.instructions
        due = self.newest + INTERVAL
        return min([due] + [n for n, _ in self._changes[self._replayed :]]) - now

    def back_from(self, instruction: int) -> None:
        """Go back to the last checkpoint before ``instruction``, and drop later ones."""
        while len(self._checkpoints) > 1 and self._checkpoints[-1].instructions >= instruction:
            self._drop_newest()
        self._restore(len(self._checkpoints) - 1)

    # Checkpoints

    def _checkpoint(self) -> None:
        previous = self._checkpoints[-1]
        ram, newest = self.machine.memory.ram, self._newest
        for start in ram.touched():
            now, before = chunk_of(ram, start), newest.get(start, ZEROS)
            if now == before:
                continue
            for at in range(0, CHUNK, PAGE):
                old = before[at : at + PAGE]
                if now[at : at + PAGE] != old:
                    previous.undo[start + at] = EMPTY if old == EMPTY else old
                    self._changed.add(start + at)
            newest[start] = now
        self._checkpoints.append(Checkpoint(self.machine.save(), self._replayed))
        self._thin_out()

    def _thin_out(self) -> None:
        """Keep the limits of memory: merge old checkpoints two by two, then into the first. That one
        collects every page that was ever written; where these are too many, it is dropped."""
        if len(self._checkpoints) > MAX_CHECKPOINTS:
            for i in range(MAX_CHECKPOINTS // 4, 0, -2):
                self._merge(i)
        while len(self._checkpoints) > 2 and self._size() > MAX_UNDO:
            if self._checkpoints[0].size > MAX_UNDO // 2:
                self._checkpoints.pop(0)
            else:
                self._merge(1)

    def _size(self) -> int:
        """Bytes that all checkpoints keep."""
        return sum(checkpoint.size for checkpoint in self._checkpoints)

    def _merge(self, index: int) -> None:
        """Drop checkpoint ``index``; the one before takes over pages that it has no older copy of."""
        gone = self._checkpoints.pop(index)
        before = self._checkpoints[index - 1].undo
        self._checkpoints[index - 1].undo = gone.undo | before

    def _drop_newest(self) -> None:
        self._checkpoints.pop()
        newest = self._checkpoints[-1]
        for gpa, page in newest.undo.items():
            at = gpa % CHUNK
            chunk = self._newest.get(gpa - at, ZEROS)
            self._newest[gpa - at] = chunk[:at] + page + chunk[at + PAGE :]
        newest.undo = {}

    def _restore(self, index: int) -> None:
        ram = self.machine.memory.ram
        view = ram.view
        put_back(ram, self._newest)
        for checkpoint in reversed(self._checkpoints[index:-1]):
            for at, page in checkpoint.undo.items():
                view[at : at + PAGE] = page
        self.machine.restore(self._checkpoints[index].state)
        self._replayed = self._checkpoints[index].done

    def _replay(self) -> None:
        """Make the user actions recorded up to here that have not been made."""
        now = self.machine.vmm.instructions
        while self._replayed < len(self._changes) and self._changes[self._replayed][0] <= now:
            change = self._changes[self._replayed][1]
            self._replayed += 1
            if isinstance(change, bytes):
                self.machine.type_text(change)
            else:
                change()


def _texts(changes: list[tuple[int, Change]]) -> list[tuple[int, bytes]]:
    return [(n, change) for n, change in changes if isinstance(change, bytes)]


class History(Past[MachineState]):
    """The past of a PC."""

    machine: Machine

    def __init__(self, machine: Machine, coming: tuple[tuple[int, bytes], ...] = ()) -> None:
        super().__init__(machine, coming)

    def _size(self) -> int:
        shadows = (checkpoint.state.vmm.shadow for checkpoint in self._checkpoints)
        shared = {id(shadow): len(shadow.entries) for shadow in shadows if shadow is not None}
        return super()._size() + ENTRY * sum(shared.values())
