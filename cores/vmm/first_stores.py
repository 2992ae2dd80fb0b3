"""First stores: hidden faults of a guest that stores to one clean page after another, in short.

Only a store may set a page's D bit, so each page has a fault of its own, and a kernel that clears its
memory has tens of thousands. A walk in Python takes as long as the fault itself. So the last page table
is kept, as a CPU keeps it in its paging-structure caches (SDM vol. 3, 4.10.3), until the guest
invalidates anything; and after some stores in a row, pages are mapped ahead of them
(cores/vmm/stores_ahead.py). Whatever is not such a store is left to ``ShadowPages``, whose entries are
the same.
"""

from __future__ import annotations

from cores.vmm.shadow_space import LARGE, Entry
from cores.vmm.shadow_tlb import MOST_ENTRIES, ShadowPages
from cores.vmm.state import GuestContext
from cores.vmm.stores_ahead import StoresAhead
from cores.x86.mmu.neighbours import leaf_table
from cores.x86.mmu.paging import PAGE
from cores.x86.mmu.paging_formats import ACCESSED, ADDRESS, DIRTY, PRESENT, USER, WRITABLE
from cores.x86.registers import Cr0, Cr4

_WP, _SMAP, _SMEP = int(Cr0.WP), int(Cr4.SMAP), int(Cr4.SMEP)


class FirstStores:
    """Fills pages of one guest."""

    def __init__(self, guest: GuestContext, shadow: ShadowPages, ahead: StoresAhead) -> None:
        self._guest, self._shadow, self._view = guest, shadow, guest.memory.view
        self._ahead = ahead
        self._flushes = self._region = -1
        self._shift = 12  # of a linear address, to the number of its table
        self._table = self._rights = self._reserved = self._no_execute = 0
        self._width, self._last = 8, 0

    def fill(self, gva: int) -> bool:
        """Fill the page of ``gva``, to which the guest stores now. False: it is left to the long way,
        and nothing has changed."""
        row = self._ahead.follow(gva & -PAGE)
        kept = self._guest.flushes == self._flushes and gva >> self._shift == self._region
        if not kept and not self._look(gva):
            return False
        width, view = self._width, self._view
        place = gva >> 12 & self._last
        at = self._table + place * width
        entry = int.from_bytes(view[at : at + width], "little")
        rights = self._rights & entry
        if not entry & PRESENT or entry & self._reserved or not self._permits(rights):
            return False
        page, wanted = gva & -PAGE, (entry | DIRTY) & ~ACCESSED
        before, behind = self._shadow.neighbours(page)
        if before and place and self._entry(at - width) == wanted - PAGE:
            return False  # a run
        if behind and place < self._last and self._entry(at + width) == wanted + PAGE:
            return False
        executable = not (entry | self._no_execute) >> 63 and self._may_execute(rights)
        most = min(row, place + 1 if self._ahead.down else self._last + 1 - place)
        if most and self._ahead.map(page, at, width, most, executable=executable):
            return True
        if not self._enter(page, entry & ADDRESS, executable=executable):
            return False
        view[at : at + width] = (entry | ACCESSED | DIRTY).to_bytes(width, "little")
        return True

    def _enter(self, gva: int, frame: int, *, executable: bool) -> bool:
        """Enter a page that is no part of a run, and map it. False: it is not as simple as that, and
        nothing has changed."""
        shadow = self._shadow
        host, patcher = shadow.host, shadow.patcher
        space = host.here()
        old, large = space.entries.get(gva), space.entries.get(gva & -LARGE)
        if (old is not None and old[:2] != (frame, PAGE)) or (large is not None and large[1] != PAGE):
            return False
        if patcher is None or frame in patcher.pages or frame in shadow.watched:
            return False
        if gva in host.reserved or not host.reaches(gva, PAGE):
            return False
        if not shadow.memory.is_ram(frame, PAGE) or host.count() >= MOST_ENTRIES:
            return False
        space.enter(gva, Entry(frame, PAGE, True, executable))
        shadow.entered(gva)
        shadow.fills += 1
        host.map(gva, frame, PAGE, True, False)
        return True

    def _entry(self, at: int) -> int:
        return int.from_bytes(self._view[at : at + self._width], "little") & ~ACCESSED

    def _permits(self, rights: int) -> bool:
        cpu = self._guest.cpu
        if cpu.cpl == 3:
            return rights == WRITABLE | USER
        if rights & USER and cpu.cr4 & _SMAP:
            return False
        return bool(rights & WRITABLE) or not cpu.cr0 & _WP

    def _may_execute(self, rights: int) -> bool:
        cpu = self._guest.cpu
        if cpu.cpl == 3:
            return bool(rights & USER)
        return not (rights & USER and cpu.cr4 & _SMEP)

    def _look(self, gva: int) -> bool:
        """Find the page table of ``gva``. False: it has none, or a large page."""
        guest = self._guest
        found = leaf_table(guest.memory, guest.cpu, gva)
        if found is None:
            return False
        self._table, self._rights, self._no_execute, self._reserved, self._width = found
        self._last = PAGE // self._width - 1
        self._shift = 12 + self._last.bit_length()
        self._region, self._flushes = gva >> self._shift, guest.flushes
        return True
