"""Stores ahead: pages that are mapped before the guest stores to them, without a D bit set too early.

Only a store may set a page's D bit, so a first store faults; and a kernel that clears its memory stores
to tens of thousands of pages, one behind the other, upwards or downwards. So after a few such faults
the following pages are mapped *copy-on-write*: the host's kernel makes a copy of each page at its first
store, and tells which pages have one. At the next exit, whatever it is, the copies go to RAM, and these
pages get their D bits and their entries in the virtual TLB; the others are as they were.

Until then RAM lacks what was stored. Nobody may look there: not the VMM (``settle`` comes before all
else at an exit), not a thread of the VMM's, and not the guest by another address. So there are none
while a thread serves devices, only frames to which no other entry leads are mapped so, and the guest's
page table is unmapped meanwhile, since the guest would miss the D bits in it.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from cores.engines.base import DeprivilegedEngine, Exit, Failed, Handler
from cores.errors import MappingsFullError
from cores.vmm.shadow_space import Entry
from cores.vmm.shadow_tlb import MOST_ENTRIES, ShadowPages
from cores.vmm.state import GuestContext
from cores.x86.mmu.paging import PAGE
from cores.x86.mmu.paging_formats import ACCESSED, ADDRESS, DIRTY

MOST_RUNS = 4
"""Runs of pages that are mapped at once when the copies are taken; where there are more, each page is
mapped at its next use."""
FEW, MOST = 16, 512
"""First stores in a row after which pages are mapped ahead, as many as came before; and the most."""


class Ahead(NamedTuple):
    """Pages that are mapped ahead of stores. entries_at: the GPA of their page-table entries, of
    ``width`` bytes each."""

    gva: int
    frame: int
    pages: int
    entries_at: int
    width: int
    executable: bool


class StoresAhead:
    """The stores ahead of one guest."""

    def __init__(self, guest: GuestContext, engine: DeprivilegedEngine, shadow: ShadowPages) -> None:
        self._guest, self._engine, self._shadow = guest, engine, shadow
        self._view = guest.memory.view
        self._last = -1  # the page that was stored to first last
        self._row = 0  # how many before it followed each other,
        self._way = PAGE  # upwards, or downwards
        self.pages: Ahead | None = None

    @property
    def down(self) -> bool:
        """The guest goes downwards, as an allocator does that takes first what was freed last."""
        return self._way < 0

    def follow(self, gva: int) -> int:
        """The guest stores to the clean page ``gva``: gives how many to map from there on, 0 for
        none."""
        way, self._last = gva - self._last, gva
        if way != self._way and (self._row > 1 or abs(way) != PAGE):
            self._row = 0
        elif self._row:
            self._way = way
        self._row += 1
        return min(self._row, MOST) if self._row >= FEW else 0

    def map(self, gva: int, entries_at: int, width: int, most: int, *, executable: bool) -> bool:
        """Map clean pages from ``gva`` on, in the guest's way, to which it may store: so many as have
        neighbouring entries, that of ``gva`` at ``entries_at``, are alike, and lead to contiguous
        frames, at most ``most``."""
        guest, shadow = self._guest, self._shadow
        if guest.board.watched or shadow.host.displaced or not shadow.runs:
            return False
        low = entries_at - (most - 1) * width if self.down else entries_at
        letter = "Q" if width == 8 else "I"
        entries = struct.unpack(f"<{most}{letter}", self._view[low : low + most * width])
        if self.down:
            entries = entries[::-1]
        first, count = entries[0] & ~ACCESSED, 0
        while count < most and entries[count] & ~ACCESSED == first + count * self._way:
            count += 1
        if first & DIRTY:
            return False
        frame, lowest = first & ADDRESS, gva
        if self.down:
            while count >= FEW and self._unknown(*self._below(gva, frame, count), count) < count:
                count //= 2
            lowest, frame = self._below(gva, frame, count)
            entries_at -= (count - 1) * width
        else:
            count = self._unknown(gva, frame, count)
        if count < FEW or not self._map_copies(lowest, frame, count, hidden=entries_at & -PAGE):
            return False
        for at in range(entries_at, entries_at + count * width, width):
            self._view[at] |= ACCESSED  # as for every page that is translated ahead of its use
        self.pages = Ahead(lowest, frame, count, entries_at, width, executable)
        self._row, self._last = self._row + count - 1, gva + (count - 1) * self._way
        return True

    def _below(self, gva: int, frame: int, count: int) -> tuple[int, int]:
        """The lowest of ``count`` pages up to ``gva``, and its frame."""
        length = (count - 1) * PAGE
        return gva - length, frame - length

    def settle(self) -> None:
        """After an exit, before anything else: RAM, page table and virtual TLB as if each page had
        faulted at its first store. Overwrites the registers in the guest's process."""
        ahead, self.pages = self.pages, None
        if ahead is None:
            return
        stored = self._take_copies(ahead)
        missed = ahead.pages - len(stored)
        begin = missed if self.down else 0
        if missed and stored == list(range(begin, begin + len(stored))):  # interrupted in the middle
            self._last -= missed * self._way
            self._row -= missed
        elif missed:
            self._row = 0
        view, width = self._view, ahead.width
        for number in stored:
            view[ahead.entries_at + number * width] |= DIRTY  # in the lowest byte, as A is

    def _unknown(self, gva: int, frame: int, most: int) -> int:
        """How many pages from ``gva`` on, which lead to the frames from ``frame`` on, can be mapped
        where nothing leads to any of them yet: no code, no device, no page of the VMM's."""
        shadow, host, patcher = self._shadow, self._shadow.host, self._shadow.patcher
        if host.ahead or patcher is None or not host.reaches(gva, most * PAGE):
            return 0
        for page in (*patcher.pages, *shadow.watched):
            if frame <= page < frame + most * PAGE:
                most = (page - frame) // PAGE
        if gva < host.reserved.stop and gva + most * PAGE > host.reserved.start:
            return 0
        if not shadow.memory.is_ram(frame, most * PAGE) or host.count() + most > MOST_ENTRIES:
            return 0
        return host.here().unknown_pages(gva, frame, most)

    def _map_copies(self, gva: int, frame: int, count: int, *, hidden: int) -> bool:
        """Map pages so that the guest stores to copies, and unmap what leads to the frame ``hidden``.
        False: the engine cannot."""
        host = self._shadow.host
        if frame <= hidden < frame + count * PAGE:
            return False
        number, place = host.number(), host.place(gva)
        try:
            if not self._engine.map_copies(number, place, frame, count * PAGE):
                return False
        except MappingsFullError:
            host.hide_all()
            return False
        for at in host.here().leading_to(hidden):
            host.unmap(number, at)
        self._shadow.fills += 1
        return True

    def _take_copies(self, ahead: Ahead) -> list[int]:
        """Undo ``_map_copies``: bring the copies to RAM, and enter and map the pages that were stored
        to. Gives their numbers."""
        shadow, host, gva = self._shadow, self._shadow.host, ahead.gva
        number, length = host.number(), ahead.pages * PAGE
        stored = self._engine.take_copies(number, host.place(gva), ahead.frame, length)
        if len(stored) < ahead.pages:
            host.unmap(number, gva, length)
        runs, space = _runs(stored), host.here()
        for first, pages in runs:
            at, there = gva + first * PAGE, ahead.frame + first * PAGE
            space.enter_run(at, pages, Entry(there, PAGE, True, ahead.executable))
            if len(runs) <= MOST_RUNS:
                host.map(at, there, pages * PAGE, True, False)
        if stored:
            shadow.entered(gva, 0, stored[-1])
        return stored

    def left(self, exit: Exit) -> None:
        """``settle`` after an exit from the engine."""
        if isinstance(exit, Failed):
            self.pages = None  # its process is gone
        else:
            self.settle()

    def around(self, handler: Handler) -> Handler:
        """A handler of known exits (cores/vmm/known_exits.py) that finds RAM as it has to be."""

        def handle() -> bool | None:
            if self.pages is None:
                return handler()
            window = self._engine.window()
            assert window is not None
            block = window.words.cast("B")
            saved = bytes(block)
            self.settle()
            block[:] = saved
            return bool(handler())  # the long way would ask for a signal that is gone: try again

        return handle


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    """Ascending numbers as (first, how many follow each other)."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and sum(runs[-1]) == number:
            runs[-1] = runs[-1][0], runs[-1][1] + 1
        else:
            runs.append((number, 1))
    return runs
