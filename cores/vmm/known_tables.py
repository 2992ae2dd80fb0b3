"""What the guest's page tables said when the entries of an address space were made of them.

A load of CR3 makes a CPU forget its translations. The VMM may keep those that it would make again: all
of them, if the tables are as they were. To compare the bytes of some tables takes two microseconds, and
to make the entries again a fault for each.

A difference does not count where the entry was not present, since nothing can have been made of it, or
where the guest's tables have more A and D bits now.
"""

from __future__ import annotations

import struct

from cores.pc.physical_memory import PhysicalMemory
from cores.x86.mmu.paging import paging_format
from cores.x86.mmu.paging_formats import (
    ACCESSED,
    ADDRESS,
    DIRTY,
    LARGE,
    NEVER_A_PAGE,
    PRESENT,
)
from cores.x86.virtual_cpu import VirtualCpu

_MARKS = ACCESSED | DIRTY


class KnownTables:
    """The tables behind the entries of one address space.

    outdated: an entry was made of tables that are not known, or were changed in between."""

    def __init__(self, memory: PhysicalMemory) -> None:
        self._memory = memory
        self._tables: dict[tuple[int, int], bytearray] = {}  # by their address and length
        self._width = 8
        self.outdated = False

    def note(self, cpu: VirtualCpu, gva: int, before: int = 0, behind: int = 0) -> None:
        """An entry has been made of the tables for ``gva``, and others for so many neighbours in the
        same table."""
        form = paging_format(cpu)
        if form is None:
            self.outdated = True
            return
        table, width = cpu.cr3 & form.root, form.entry
        self._width = width
        for shift, indexes, in_leaf, _, _ in form.levels:
            place = gva >> shift & indexes
            known = table, (indexes + 1) * width
            if not self._keep(known):
                return
            if shift == 12:
                self._note(known, place - before, before + 1 + behind)
                return
            self._note(known, place, 1)
            at = table + place * width
            entry = int.from_bytes(self._memory.view[at : at + width], "little")
            if not entry & PRESENT or (entry & LARGE and in_leaf is not NEVER_A_PAGE):
                return
            table = entry & ADDRESS

    def _keep(self, known: tuple[int, int]) -> bool:
        if known not in self._tables:
            table, length = known
            if not self._memory.is_ram(table, length):
                self.outdated = True
                return False
            self._tables[known] = bytearray(self._memory.view[table : table + length])
        return True

    def _note(self, known: tuple[int, int], first: int, count: int) -> None:
        kept, width = self._tables[known], self._width
        here = slice(first * width, (first + count) * width)
        now = bytes(self._memory.view[known[0] + here.start : known[0] + here.stop])
        if kept[here] != now:
            self.outdated |= not _harmless(bytes(kept[here]), now, width)
            kept[here] = now

    def unchanged(self) -> bool:
        """Would all entries be made again as they are?"""
        if self.outdated:
            return False
        for (table, length), kept in self._tables.items():
            now = bytes(self._memory.view[table : table + length])  # views compare slowly
            if now != kept:
                if not _harmless(bytes(kept), now, self._width):
                    return False
                kept[:] = now
        return True


def _harmless(before: bytes, now: bytes, width: int) -> bool:
    """Is no entry of a table other than it was, where that counts?"""
    form = f"<{len(now) // width}{'Q' if width == 8 else 'I'}"
    for old, new in zip(struct.unpack(form, before), struct.unpack(form, now), strict=True):
        if old != new and old & PRESENT and ((old ^ new) & ~_MARKS or old & ~new):
            return False
    return True
