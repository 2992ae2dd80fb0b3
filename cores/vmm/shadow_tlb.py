"""Shadow page tables: a virtual TLB that maps the guest's virtual memory into the vCPU process.

On a trap core the guest's page tables translate nothing: the real CPU walks the host's. So the VMM
keeps a *virtual TLB*. It begins empty; an access to a page that it does not hold faults to the VMM (a
hidden fault: the guest does not see it), which walks the guest's tables and enters the translation.
Whatever invalidates entries of a TLB invalidates them here. And as on the CPU, a stale entry that the
guest never invalidated may still be used.

The host mappings of the vCPU process are the part of this TLB that the CPU can use: mostly all of it,
and less where code is executed from a patched twin, or just after a return to a checkpoint. A fault at
an entry that the TLB holds is not an event: the page is mapped, without a walk and without being
counted. So the TLB alone decides how many hidden faults a guest has, however it is executed.

Two address spaces, one for each virtual privilege level: guest kernel and guest user both run in
real ring 3, where the U/S bit could not keep them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from typing import NamedTuple

from cores.engines.base import (
    DISPLACED_SPACE,
    KERNEL_SPACE,
    USER_SPACE,
    DeprivilegedEngine,
)
from cores.pc.physical_memory import PhysicalMemory
from cores.vmm.host_mappings import HostMappings
from cores.vmm.patching.code_page import CodePage
from cores.vmm.patching.patcher import Patcher
from cores.vmm.shadow_space import LARGE, MOST_BANKS, Bank, Entry, Space
from cores.x86.faults import GuestFault
from cores.x86.mmu.neighbours import mark_accessed, run_around
from cores.x86.mmu.paging import PAGE, Mmu, Translation, permits, walk
from cores.x86.mmu.segmentation import code_address
from cores.x86.registers import Cr0, Cr4, Flag
from cores.x86.virtual_cpu import VirtualCpu

MOST_KEPT = 64
"""Pages of code kept at a load of CR3: each is walked in the new tables."""
MOST_ENTRIES = 300_000
"""Enough for 1 GiB of single pages. Neighbours that lead to contiguous frames are one mapping of the
host's, of which a process may have 65,530 (vm.max_map_count); where there are more, all are dropped."""


class Filled(Enum):
    """Outcome of a page fault that is not the guest's."""

    MAPPED = "mapped"
    DEVICE = "device"
    """The page has no RAM: there is a device, or nothing."""
    CODE = "code"
    """A data access to a page that is executed from the patched twin
    (cores/vmm/patching/twin.py)."""
    UNREACHABLE = "unreachable"
    """The host process cannot have such a mapping."""


class ShadowState(NamedTuple):
    """A checkpoint of the virtual TLB. entries: ((space, GVA), entry)."""

    entries: tuple[tuple[tuple[int, int], Entry], ...]
    ahead: bool
    pieces: bool


class ShadowPages:
    """Fills and drops the virtual TLB, and has the host map its pages, as the guest's page tables say.

    host: the mappings of the vCPU process. fills: entries made by a walk of the guest's tables. fresh:
    the last ``fill`` needed a walk. runs: pages are entered ahead of their first use, with their
    neighbours (free mode).
    on_change: called when an entry is dropped; on_drop: in free mode, when the guest's tables may have
    changed; on_flush: when the guest invalidates an address, or all (None); on_switch: when the guest
    goes on in another space of the engine's; on_resumed: and the VMM's addresses are shown there.
    given: a device's page that the guest has itself, as (GPA, its place among the VMM's own pages);
    None for none. on_reserved: called before a page of the guest's is mapped at one of the addresses
    that the VMM has reserved. watched: frames of tables that the guest may not store to unseen;
    on_watched: called before one of them is mapped for that, or executed.
    """

    def __init__(
        self, engine: DeprivilegedEngine, memory: PhysicalMemory, cpu: VirtualCpu, mmu: Mmu
    ) -> None:
        self.engine = engine
        self.memory = memory
        self.cpu = cpu
        self.mmu = mmu
        self.host = HostMappings(engine, memory, cpu)
        self.fills = 0
        self.fresh = False
        self.patcher: Patcher | None = None
        self.runs = False
        self.on_reserved: Callable[[], None] = lambda: None
        self.on_watched: Callable[[], None] = lambda: None
        self.on_resumed: Callable[[], None] = lambda: None
        self.given: tuple[int, int] | None = None
        self.on_change: Callable[[], None] = lambda: None
        self.on_drop: Callable[[], None] = lambda: None
        self.on_flush: Callable[[int | None], None] = lambda _: None
        self._context: tuple[int, ...] = ()
        self.on_switch: Callable[[], None] = lambda: None
        self._saved: ShadowState | None = None

    def map_boot(self) -> None:
        """Map in advance what the platform's boot tables map: all RAM from 64 KiB on, identically.
        Two calls instead of some hundred hidden faults; a guest that only computes has none."""
        host, executable = self.host, self.patcher is None
        host.ahead = all(host.reaches(start, stop - start) for start, stop in host.boot_ranges())
        if not host.ahead:
            return
        for start, stop in host.boot_ranges():
            self.engine.map(
                host.banks.here.kernel, host.place(start), start, stop - start,
                writable=True, executable=executable,
            )  # fmt: skip

    def mappings(self) -> list[tuple[int, int, int, int]]:
        """(space, GVA, GPA, length) of all entries of the virtual TLB, for display."""
        boot = self.host.boot_ranges() if self.host.ahead else ()
        found = [(KERNEL_SPACE, start, start, stop - start) for start, stop in boot]
        found += [(*at, entry.gpa, entry.length) for at, entry in self._entries_here()]
        return sorted(found)

    def _entries_here(self) -> Iterator[tuple[tuple[int, int], Entry]]:
        """The entries for the present CR3, by ``KERNEL_SPACE`` and the like."""
        for number, space in self._canonical().items():
            for gva, entry in space.entries.items():
                yield (number, gva), entry

    def _canonical(self) -> dict[int, Space]:
        bank = self.host.banks.here
        kernel, user = bank.spaces[bank.kernel], bank.spaces[bank.user]
        return {KERNEL_SPACE: kernel, USER_SPACE: user, DISPLACED_SPACE: self.host.displaced_space}

    @property
    def watched(self) -> frozenset[int]:
        return self.host.banks.here.watched

    @watched.setter
    def watched(self, frames: frozenset[int]) -> None:
        self.host.banks.here.watched = frames

    @property
    def serial(self) -> int:
        return self.host.banks.here.serial

    def fill(self, gva: int, *, write: bool, execute: bool) -> Filled:
        """Handle a hidden fault. Raises GuestFault when the guest's own tables forbid the access."""
        start, entry = self._entry(gva, write=write, execute=execute) or (0, None)
        self.fresh = entry is None
        if entry is None:
            # lesson: whose-page-fault
            # The guest's tables decide. Where they forbid the access, walk() raises the guest's own
            # page fault; where they allow it, the fault was ours, and the guest must not hear of it.
            page = walk(self.memory, self.cpu, gva, write=write, execute=execute)
            return self.enter(page, gva, write=write, execute=execute)
        return self._show(gva, start, entry, write=write, execute=execute)

    def enter(self, page: Translation, gva: int, *, write: bool, execute: bool) -> Filled:
        """Enter the result of a walk, and map it."""
        if not self.memory.is_ram(page.gpa & -PAGE, PAGE):
            if self.given is not None and page.gpa & -PAGE == self.given[0] and not execute:
                return self._show_given(page, gva, self.given[1])
            return Filled.DEVICE

        if execute and not permits(self.cpu, page, user=self.cpu.cpl == 3):
            return Filled.UNREACHABLE  # under SMAP: the host's mappings cannot be executed only

        start, entry = self._remember(page, gva)
        if not self.host.reaches(start, entry.length):
            return Filled.UNREACHABLE
        self.fills += 1
        self._enter(start, entry)
        self.host.banks.here.pieces |= entry.length < page.size
        self.entered(gva)
        if self.runs and page.size == PAGE and not execute:
            start, entry = self._enter_neighbours(start, entry)
        return self._show(gva, start, entry, write=write, execute=execute)

    def holds(self, gva: int, *, write: bool = False, execute: bool = False) -> bool:
        """Does the virtual TLB permit this access?"""
        return self._entry(gva, write=write, execute=execute) is not None

    def _entry(self, gva: int, *, write: bool, execute: bool) -> tuple[int, Entry] | None:
        """The start (GVA) and the entry that permits this access, None where there is none."""
        page, entries = gva & -PAGE, self.host.here().entries
        start, entry = page, entries.get(page)
        if entry is None:
            start, entry = gva & -LARGE, entries.get(gva & -LARGE)
            if entry is None or start + entry.length <= gva:
                if self.cpu.cpl == 3 or self.host.displaced or not self.host.is_ahead(gva):
                    return None
                return page, Entry(page, PAGE, writable=True, executable=True)
        if (write and not entry.writable) or (execute and not entry.executable):
            return None
        return start, entry

    def _remember(self, page: Translation, gva: int) -> tuple[int, Entry]:
        """The start (GVA) and the entry for a walk's result: of large pages the aligned 2 MiB around
        ``gva``, if all of it is RAM."""
        writable = page.dirty and self._may_write(page)  # clean pages fault once more, to set D
        executable = self._may_execute(page)
        if page.size >= LARGE:
            start = gva & -LARGE
            frame = page.frame + (start - page.page)
            if self.memory.is_ram(frame, LARGE) and self.host.reaches(start, LARGE):
                return start, Entry(frame, LARGE, writable, executable)
        return gva & -PAGE, Entry(page.gpa & -PAGE, PAGE, writable, executable)

    def _enter(self, start: int, entry: Entry) -> None:
        """Add an entry, and remove entries and mappings that overlap it and lead elsewhere: the guest
        may have changed its tables without an invalidation."""
        if self.host.count() >= MOST_ENTRIES:
            self._forget_all()
        number, space = self.host.number(), self.host.here()
        for at in (start, start & -LARGE):
            old = space.entries.get(at)
            if old is not None and start < at + old.length and old[:2] != entry[:2]:
                self._forget(number, at, old.length)
        if entry.length > PAGE:
            self._forget(number, start, entry.length)
        space.enter(start, entry)
        self._saved = None

    def _enter_neighbours(self, gva: int, entry: Entry) -> tuple[int, Entry]:
        """Enter the pages around ``gva`` that one mapping of the host's can hold, too. Gives its start
        and an entry for all of it."""
        if self.patcher is None or entry.gpa in self.patcher.pages:
            return gva, entry
        before, behind = self.neighbours(gva)
        if not (before or behind):
            return gva, entry
        run = run_around(self.memory, self.cpu, gva, before=before, behind=behind)
        if run is None:
            return gva, entry
        low = self._free_pages(gva, entry, -1, run.before)
        high = self._free_pages(gva, entry, 1, run.behind)
        if low or high:
            mark_accessed(self.memory, run._replace(before=low, behind=high))
            self.entered(gva, low, high)
        self._saved = None
        start, first = gva - low * PAGE, entry._replace(gpa=entry.gpa - low * PAGE)
        space = self.host.here()
        space.enter_run(start, low, first)
        space.enter_run(gva + PAGE, high, entry._replace(gpa=entry.gpa + PAGE))
        return start, first._replace(length=(low + 1 + high) * PAGE)

    def _free_pages(self, gva: int, entry: Entry, way: int, most: int) -> int:
        """How many pages before (-1) or behind (1) a page can be entered with it: no code, no device,
        and nothing that the virtual TLB holds already."""
        assert self.patcher is not None
        entries = self.host.here().entries
        most = min(most, MOST_ENTRIES - self.host.count())
        for code in self.patcher.pages:
            away = way * (code - entry.gpa) // PAGE
            if 0 < away <= most:
                most = away - 1
        while most > 0:  # mostly all of it is RAM, and can be mapped
            low, length = min(way * PAGE, way * most * PAGE), most * PAGE
            if self.memory.is_ram(entry.gpa + low, length) and self.host.reaches(gva + low, length):
                break
            most //= 2
        count = 0
        while count < most and gva + way * (count + 1) * PAGE not in entries:
            count += 1
        return count

    def neighbours(self, gva: int) -> tuple[bool, bool]:
        """Does the virtual TLB lack the page before ``gva``, and that behind it?"""
        entries = self.host.here().entries
        return gva - PAGE not in entries, gva + PAGE not in entries

    def _show(self, gva: int, start: int, entry: Entry, *, write: bool, execute: bool) -> Filled:
        """Map the page of an entry with the rights that the CPU may have."""
        if self.patcher is None:
            self.host.map(start, entry.gpa, entry.length, entry.writable, entry.executable)
            return Filled.MAPPED
        frame = entry.gpa + (gva & -PAGE) - start
        if start < self.host.reserved.stop and start + entry.length > self.host.reserved.start:
            self.on_reserved()
        if frame in self.watched:
            if not (write or execute):
                self.host.map(gva & -PAGE, frame, PAGE, False, False)
                return Filled.MAPPED
            self.on_watched()
        if write and not execute and self.patcher.release(frame):
            self.host.unmap_everywhere(frame)
        if execute or frame in self.patcher.pages:
            return self._fill_code(gva & -PAGE, frame, entry, write=write, execute=execute)
        run = PAGE < entry.length != LARGE  # pages that are writable here have been stored to
        self.host.map(
            start, entry.gpa, entry.length, entry.writable, False, populate=run and entry.writable
        )
        if entry.length > PAGE:
            for code in (*self.patcher.pages, *self.watched):
                if entry.gpa <= code < entry.gpa + entry.length:  # mapped only as it may be
                    self.host.unmap(self.host.number(), start + code - entry.gpa)
        return Filled.MAPPED

    def _fill_code(self, gva: int, frame: int, entry: Entry, *, write: bool, execute: bool) -> Filled:
        """Free mode: map a page that holds code, from the twin where it is executed. Elsewhere it is
        RAM, in which nothing is patched: a kernel copies its processes' code."""
        assert self.patcher is not None
        code, here = self.watch(frame), self.host.here()
        if execute and code.shared:
            if gva not in here.executed:
                self.host.unmap_everywhere(
                    frame
                )  # as RAM: stores to one would not be seen in the other
            self.host.map(gva, frame, PAGE, entry.writable, True, twin=True)
        elif execute:
            self.host.map(gva, frame, PAGE, False, True, twin=True, readable=False)
        elif gva in here.executed or (write and not code.shared):
            return Filled.CODE
        elif code.shared:
            if self.host.executes_frame(frame):
                return Filled.CODE
            self.host.map(gva, frame, PAGE, entry.writable, False)
        else:
            self.host.map(gva, frame, PAGE, False, False)
        if execute:
            here.executed.add(gva)
        return Filled.MAPPED

    def watch(self, frame: int) -> CodePage:
        """The page of code at ``frame``; from now on the patcher knows of every store to it."""
        assert self.patcher is not None
        code = self.patcher.adopt(frame)
        if not code.guarded:
            self.host.unmap_everywhere(frame)  # no mapping with the right to write may remain
            self.patcher.guard(code)
        return code

    def reveal(self, gva: int) -> bool:
        """Map the real page at ``gva`` for one step of one instruction (free mode), writable where the
        TLB permits that. False where the host process cannot have a mapping, or no RAM is there."""
        frame = self.mmu.translate(gva & -PAGE, user=False) & -PAGE
        if not self.memory.is_ram(frame, PAGE):
            return False
        return self.host.map(gva & -PAGE, frame, PAGE, self.holds(gva, write=True), True)

    def conceal(self, gva: int) -> None:
        """Undo ``reveal``: the next access faults, and the page is mapped as free mode needs it."""
        self.host.unmap(self.host.number(), gva & -PAGE)

    def _may_write(self, page: Translation) -> bool:
        if self.cpu.cpl == 3:
            return page.writable and page.user
        return page.writable or not self.cpu.cr0 & Cr0.WP

    def _may_execute(self, page: Translation) -> bool:
        if self.cpu.cpl == 3:
            return page.executable and page.user
        return page.executable and not (page.user and self.cpu.cr4 & Cr4.SMEP)

    def watch_tables(self, frames: set[int]) -> None:
        """From now on a store to these pages is seen, by ``on_watched``, until ``watched`` is
        cleared."""
        fresh = frames - self.watched
        self.watched = frozenset(frames)
        for frame in fresh:
            self.host.unmap_everywhere(frame)

    def lend_device(self, gva: int, scratch: int) -> bool:
        """Map a page of the VMM's with a device's registers, read-only, until the guest's TLB may
        forget the translation (cores/vmm/faults/lent_page.py)."""
        if not self.host.reaches(gva, PAGE) or not self.host.map(gva, scratch, PAGE, False, False):
            return False
        self.host.here().devices.add(gva)
        self.entered(gva)
        return True

    def _show_given(self, page: Translation, gva: int, place: int) -> Filled:
        """Map a device's page that the guest has been given; see ``given``."""
        writable = page.dirty and self._may_write(page)
        at = gva & -PAGE
        if at in self.host.reserved:
            self.on_reserved()
        if not self.host.reaches(at, PAGE) or not self.host.map(at, place, PAGE, writable, False):
            return Filled.DEVICE
        self.host.here().devices.add(at)
        self.entered(gva)
        return Filled.MAPPED

    def drop(self, gva: int) -> None:
        """INVLPG: invalidate one page in both spaces: the whole entry of a large page, and all entries
        where some page has smaller ones than itself (1 GiB, or not all of it RAM)."""
        self.on_flush(gva)
        if (
            self.host.banks.here.pieces or self.host.ahead
        ):  # entries of another size than the guest's pages
            self._drop_here()
            return
        for number, space in (
            *self.host.banks.here.spaces.items(),
            (DISPLACED_SPACE, self.host.displaced_space),
        ):
            if gva & -PAGE in space.devices:
                self.host.unmap(number, gva & -PAGE)
            start = gva & -LARGE
            entry = space.entries.get(start)
            if entry is None or entry.length == PAGE:
                start = gva & -PAGE
                entry = space.entries.get(start)
            if entry is not None:
                self._forget(number, start, entry.length)

    def _forget(self, number: int, gva: int, length: int) -> None:
        self.on_change()
        self.host.unmap(number, gva, length)
        for at in range(gva, gva + length, PAGE):
            self.host.space(number).forget(at)
        self._saved = None

    def drop_all(self) -> None:
        """Invalidate everything, after a new CR3 or a control bit that changes the meaning of
        mappings. In free mode what would be entered again as it was stays: the bank of the new CR3, if
        its tables are as they were, else the pages of code around RIP."""
        self.on_flush(None)
        changed = self._meaning_changed()
        if changed or not (self._has_banks() and self._switch()):
            self._drop_here()

    def _meaning_changed(self) -> bool:
        """Do the same tables permit other accesses than at the last time? Then nothing of what is kept
        for other values of CR3 is right."""
        cr0, _, *others = self.rights()
        context = (cr0, *others)
        if context == self._context:
            return False
        self._context = context
        self.forget_others()
        return True

    def _has_banks(self) -> bool:
        """May what is entered now be of use at a later load of the same CR3?"""
        unusual = self.host.ahead or self.host.displaced or self.host.displacement or not self.patcher
        return self.runs and not unusual and self.engine.most_spaces > 2 * MOST_BANKS

    def entered(self, gva: int, before: int = 0, behind: int = 0) -> None:
        """An entry has been made for ``gva``, and for so many neighbours."""
        self._saved = None
        tables = self.host.banks.here.tables
        if self._has_banks():
            tables.note(self.cpu, gva, before, behind)
        else:
            tables.outdated = True

    def _switch(self) -> bool:
        """Go on with the bank of CR3. False: it is the present one, and there is more to be done."""
        banks, root = self.host.banks, self.cpu.cr3
        bank = banks.choose(root)
        if bank is None:
            return False
        right = bank.root == root and bank.tables.unchanged()
        if bank is not banks.here:
            banks.use(bank)
            self._saved = None
            self.on_switch()
        elif not right:
            return False
        if right:
            self._resume(bank)
        else:
            self._drop_bank(bank)
            bank.root = root
        return True

    def _resume(self, bank: Bank) -> None:
        """Unmap the pages of code of which the patcher has learnt more since, or whose instructions may
        go on in another page than here."""
        assert self.patcher is not None
        for number, space in bank.spaces.items():
            for gva in tuple(space.executed):
                if not self._is_as_patched(bank, space, gva):
                    self.host.unmap(number, gva)
        if self.host.shown:
            self.on_resumed()

    def _is_as_patched(self, bank: Bank, space: Space, gva: int) -> bool:
        assert self.patcher is not None
        entry = space.entries.get(gva)
        page = None if entry is None else self.patcher.pages.get(entry.gpa)
        if page is None or not self.patcher.has_met(page, gva):
            return False
        if not page.tails:
            return True
        behind = bank.behind.get(gva)
        if behind is None:
            try:
                walked = walk(self.memory, self.cpu, gva + PAGE, user=False, mark=False)
            except GuestFault:
                return False
            behind = bank.behind[gva] = walked.gpa
            bank.tables.note(self.cpu, gva + PAGE)
        return all(tail == behind for tail in page.tails.values())

    def _drop_bank(self, bank: Bank) -> None:
        for number in bank.spaces:
            self.engine.drop_space(number)
        self.host.drops += 1
        bank.empty()
        self.host.on_hidden()

    def forget_others(self) -> None:
        """Drop all that is kept for other values of CR3."""
        for bank in self.host.banks.all:
            if bank is not self.host.banks.here and bank.root:
                bank.root = 0
                for number in bank.spaces:
                    self.engine.drop_space(number)
                bank.empty()

    def _forget_all(self) -> None:
        """Drop everything, of the TLB and of the mappings."""
        self.forget_others()
        self._drop_here()

    def _drop_here(self) -> None:
        """Drop all entries for the present CR3."""
        bank = self.host.banks.here
        kept = self._kept_code() if self.runs else None
        serial = bank.serial
        self.host.ahead = False
        bank.empty()
        bank.root = self.cpu.cr3
        self.host.displaced_space.clear()
        self._saved = None
        if self.runs:
            bank.serial = serial  # ``on_drop`` looks at each handler
            self.on_drop()
        else:
            self.on_change()
        self.host.hidden_here()
        here = self.host.number()
        for number in (bank.kernel, bank.user, DISPLACED_SPACE):
            if number != here or not kept:
                self.engine.drop_space(number)
        if kept and self.engine.drop_all_but(here, [self.host.place(gva) for gva in kept]):
            for gva, entry in kept.items():
                self.host.here().enter(gva, entry)
                self.host.here().executed.add(gva)
                self.entered(gva)

    def _kept_code(self) -> dict[int, Entry]:
        """The pages that are mapped for execution and have one page table with RIP's, by GVA, with
        their new entries, where all that they were mapped by is the same."""
        space, cpu = self.host.here(), self.cpu
        here = code_address(cpu, cpu.rip)
        table = -LARGE if cpu.cr4 & Cr4.PAE else -2 * LARGE
        pages = sorted(gva for gva in space.executed if not (gva ^ here) & table)
        kept: dict[int, Entry] = {}
        for gva in pages[:MOST_KEPT]:
            old = space.entries.get(gva)
            if old is None:
                continue
            try:
                page = walk(self.memory, cpu, gva, execute=True)
            except GuestFault:
                continue  # the guest will meet it at its next fetch
            start, entry = self._remember(page, gva)
            if start == gva and entry == old and permits(cpu, page, user=cpu.cpl == 3):
                kept[gva] = entry
        return kept

    def show_boot(self) -> None:
        """After ``hide_all``: map the boot tables' entries at once, if they are still valid."""
        if self.host.ahead:
            self.map_boot()

    def save(self) -> ShadowState:
        """A checkpoint of the virtual TLB. It is the same object while nothing changes: there may be
        30,000 entries, and hundreds of checkpoints."""
        pieces = self.host.banks.here.pieces
        if self._saved is None or self._saved[1:] != (self.host.ahead, pieces):
            self._saved = ShadowState(tuple(self._entries_here()), self.host.ahead, pieces)
        return self._saved

    def restore(self, state: ShadowState) -> None:
        """Go back to a checkpoint. One from a file may hold anything, so each entry is checked."""
        self.on_flush(None)
        self._forget_all()
        self.on_change()
        spaces = self._canonical()
        for (number, gva), entry in state.entries:
            if self._is_lawful((number, gva), entry):
                spaces[number].enter(gva, entry)
        self.host.ahead, self.host.banks.here.pieces = state.ahead, state.pieces
        self.host.banks.here.tables.outdated = True
        self._context = ()
        self._saved = state if self.host.count() == len(state.entries) else None
        self.show_boot()

    def _is_lawful(self, at: tuple[int, int], entry: Entry) -> bool:
        return (
            at[0] in (KERNEL_SPACE, USER_SPACE, DISPLACED_SPACE)
            and entry.length in (PAGE, LARGE)
            and (at[1] | entry.gpa) % PAGE == 0
            and self.memory.is_ram(entry.gpa, entry.length)
            and self.host.reaches(at[1], entry.length)
        )

    def rights(self) -> tuple[int, int, int, int, int]:
        """The control bits that mappings depend on besides the tables; when they change,
        ``drop_all``."""
        cpu = self.cpu
        smap = cpu.rflags & Flag.AC if cpu.cr4 & Cr4.SMAP else 0
        return cpu.cr0 & (Cr0.WP | Cr0.PG), cpu.cr3, cpu.cr4, cpu.efer, smap
