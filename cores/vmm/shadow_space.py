"""The entries of the virtual TLB: of one address space, and of all that are kept for the guest.

A kernel that clears its memory has sixty thousand entries, and a page that becomes code has to be
found among them: what leads to a frame is therefore kept, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

from cores.pc.physical_memory import PhysicalMemory
from cores.vmm.known_tables import KnownTables
from cores.x86.mmu.paging import PAGE

LARGE = 2 << 20


class Entry(NamedTuple):
    """An entry of the virtual TLB: one page, or 2 MiB of a large one."""

    gpa: int
    length: int
    writable: bool
    executable: bool


class Space:
    """One address space. entries: by GVA; ``enter`` and the like change them.

    executed: pages that are mapped from the patched twin. devices: addresses of lent device pages."""

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}
        self.executed: set[int] = set()
        self.devices: set[int] = set()
        self._large: set[int] = set()  # addresses of large entries
        self._at: dict[int, int] = {}  # an address of each frame that an entry of one page leads to
        self._others: dict[int, set[int]] = {}  # its other addresses

    def enter(self, gva: int, entry: Entry) -> None:
        """Add an entry where there is none, or one that leads to the same frame."""
        self.entries[gva] = entry
        if entry.length != PAGE:
            self._large.add(gva)
        elif self._at.setdefault(entry.gpa, gva) != gva:
            self._others.setdefault(entry.gpa, set()).add(gva)

    def enter_run(self, gva: int, pages: int, entry: Entry) -> None:
        """Add entries for ``pages`` neighbours, which have none. entry: that of the first page."""
        entries, at, (frame, *rest) = self.entries, self._at, entry
        for distance in range(0, pages * PAGE, PAGE):
            here, there = gva + distance, frame + distance
            entries[here] = tuple.__new__(Entry, (there, *rest))  # a third of the time
            if at.setdefault(there, here) != here:
                self._others.setdefault(there, set()).add(here)

    def forget(self, gva: int) -> None:
        """Remove the entry at ``gva``, if there is one."""
        entry = self.entries.pop(gva, None)
        if entry is None:
            return
        if entry.length != PAGE:
            self._large.discard(gva)
            return
        others = self._others.get(entry.gpa)
        if self._at[entry.gpa] != gva:
            assert others is not None
            others.discard(gva)
        elif others:
            self._at[entry.gpa] = others.pop()
        else:
            del self._at[entry.gpa]
        if others is not None and not others:
            del self._others[entry.gpa]

    def unmapped(self, gva: int, length: int) -> None:
        """What was mapped there is no longer: neither code nor a device's page."""
        if length == PAGE:
            self.executed.discard(gva)
            self.devices.discard(gva)
            return
        for pages in (self.executed, self.devices):
            pages -= {page for page in pages if gva <= page < gva + length}

    def clear(self) -> None:
        """Remove all entries."""
        for each in (self.entries, self._large, self._at, self._others):
            each.clear()

    def leading_to(self, frame: int) -> Iterator[int]:
        """The addresses at which entries lead to this frame."""
        if frame in self._at:
            yield self._at[frame]
            yield from tuple(self._others.get(frame, ()))
        for start in tuple(self._large):
            entry = self.entries[start]
            if entry.gpa <= frame < entry.gpa + entry.length:
                yield start + frame - entry.gpa

    def unknown_pages(self, gva: int, frame: int, most: int) -> int:
        """How many pages from ``gva`` on have no entry, nor have their frames, which begin at
        ``frame``."""
        for start in self._large:
            if start < gva + most * PAGE and gva < start + LARGE:
                return 0
            there = self.entries[start].gpa
            if there < frame + most * PAGE and frame < there + LARGE:
                return 0
        places, frames = _pages(gva, most), _pages(frame, most)
        if self.entries.keys().isdisjoint(places) and self._at.keys().isdisjoint(frames):
            return most
        known = (p in self.entries or f in self._at for p, f in zip(places, frames, strict=True))
        return next(number for number, is_known in enumerate(known) if is_known)


def _pages(first: int, count: int) -> range:
    """The addresses of ``count`` pages."""
    return range(first, first + count * PAGE, PAGE)


class Bank:
    """What is kept for one value of CR3: a space for each virtual privilege level.

    kernel, user: their numbers for the engine. root: CR3. tables: those that their entries were made
    of. serial: another number whenever all entries have gone. pieces: some guest page has entries
    smaller than itself. watched, shown: see ``ShadowPages``, for this CR3. behind: the frames of pages
    that follow pages of code, by the address of the code."""

    _serials = count()

    def __init__(self, number: int, memory: PhysicalMemory) -> None:
        first = 2 * number + (number > 0)  # DISPLACED_SPACE is among the numbers
        self.kernel, self.user, self.root = first, first + 1, 0
        self.spaces = {self.kernel: Space(), self.user: Space()}
        self._memory = memory
        self.empty()

    def empty(self) -> None:
        """All entries have gone."""
        for space in self.spaces.values():
            space.clear()
        self.tables = KnownTables(self._memory)
        self.behind: dict[int, int | None] = {}
        self.serial = next(self._serials)
        self.pieces = False
        self.hidden()

    def hidden(self) -> None:
        """All has been unmapped, whatever entries there are."""
        for space in self.spaces.values():
            space.executed.clear()
            space.devices.clear()
        self.watched: frozenset[int] = frozenset()
        self.shown = False


MOST_BANKS = 6
"""Two processes each."""
MOST_ROOTS = 64


class Banks:
    """The banks of one guest. here: the one in use."""

    def __init__(self, memory: PhysicalMemory) -> None:
        self._memory = memory
        self.here = Bank(0, memory)
        self.all = [self.here]  # the one that was used last comes last
        self._roots: dict[int, None] = {}  # values of CR3 that were loaded before

    def choose(self, root: int) -> Bank | None:
        """The bank to use for this CR3, which may be another one's until now; None: this CR3 has not
        been loaded before, and may never be again."""
        for bank in self.all:
            if bank.root == root:
                return bank
        if root not in self._roots:
            self._roots[root] = None
            if len(self._roots) > MOST_ROOTS:
                del self._roots[next(iter(self._roots))]
            return None
        if len(self.all) < MOST_BANKS:
            self.all.insert(0, Bank(len(self.all), self._memory))
        return self.all[0]

    def use(self, bank: Bank) -> None:
        self.all.remove(bank)
        self.all.append(bank)
        self.here = bank
