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
from functools import partial
from typing import NamedTuple

from cores.engines.base import (
    DISPLACED_SPACE,
    KERNEL_SPACE,
    OUT_OF_LINE,
    TRANSLATED,
    USER_SPACE,
    DeprivilegedEngine,
)
from cores.errors import MappingsFullError
from cores.pc.physical_memory import HOLE, PhysicalMemory
from cores.vmm.patching.code_page import CodePage
from cores.vmm.patching.patcher import Patcher
from cores.vmm.shadow_space import LARGE, MOST_BANKS, Bank, Banks, Entry, Space
from cores.x86.faults import GuestFault
from cores.x86.mmu.neighbours import mark_accessed, run_around
from cores.x86.mmu.paging import PAGE, Mmu, Translation, permits, walk
from cores.x86.mmu.segmentation import code_address
from cores.x86.registers import MASK32, MASK64, Cr0, Cr4, Flag
from cores.x86.virtual_cpu import VirtualCpu

MOST_KEPT = 64
"""Pages of code kept at a load of CR3: each is walked in the new tables."""
MOST_RUNS = 4
"""Runs of pages that are mapped at once after ``map_copies``; where there are more, each page is mapped
at its next use."""
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
    (cores/vmm/patching/patcher.py)."""
    UNREACHABLE = "unreachable"
    """The host process cannot have such a mapping."""


class ShadowState(NamedTuple):
    """A checkpoint of the virtual TLB. entries: ((space, GVA), entry)."""

    entries: tuple[tuple[tuple[int, int], Entry], ...]
    ahead: bool
    pieces: bool


class ShadowPages:
    """Fills and drops the virtual TLB, and the engine's mappings, according to the guest's page tables.

    fills: entries made by a walk of the guest's tables. fresh: the last ``fill`` needed a walk.
    runs: pages are entered ahead of their first use, with their neighbours (free mode).
    ahead: the boot tables' entries are still valid. drops: how often all of the engine's mappings were
    dropped. on_change: called when an entry is dropped; on_drop: in free mode, when the
    guest's tables may have changed; on_flush: when the guest invalidates an address, or all (None).
    displaced: fills are for ``DISPLACED_SPACE``, where the guest's addresses lie ``displacement``
    higher (cores/vmm/upper_half.py). given: a device's page that the guest has itself, as (GPA, its
    place among the VMM's own pages); None for none.
    reserved: addresses that the VMM uses as long as the guest's tables map nothing there; on_reserved:
    called before a page of the guest's is mapped there. shown: they are mapped. watched: frames of
    tables that the guest may not store to unseen; on_watched: called before one of them is mapped for
    that, or executed. on_hidden: called when everything has been unmapped (cores/vmm/callouts.py).
    on_switch: called when the guest goes on in another space of the engine's; on_resumed: and the
    VMM's addresses are shown there.
    """

    def __init__(
        self, engine: DeprivilegedEngine, memory: PhysicalMemory, cpu: VirtualCpu, mmu: Mmu
    ) -> None:
        self.engine = engine
        self.memory = memory
        self.cpu = cpu
        self.mmu = mmu
        self.fills = 0
        self.fresh = False
        self.ahead = False
        self.drops = 0
        self.patcher: Patcher | None = None
        self.runs = False
        self.reserved = range(0)
        self.on_reserved: Callable[[], None] = lambda: None
        self.on_watched: Callable[[], None] = lambda: None
        self.on_hidden: Callable[[], None] = lambda: None
        self.on_resumed: Callable[[], None] = lambda: None
        self._lent = KERNEL_SPACE
        self.given: tuple[int, int] | None = None
        self.on_change: Callable[[], None] = lambda: None
        self.on_drop: Callable[[], None] = lambda: None
        self.on_flush: Callable[[int | None], None] = lambda _: None
        self.displaced = False
        self.displacement = 0
        self.banks = Banks(memory)
        self._displaced_space = Space()
        self._context: tuple[int, ...] = ()
        self.on_switch: Callable[[], None] = lambda: None
        self._saved: ShadowState | None = None

    def map_boot(self) -> None:
        """Map in advance what the platform's boot tables map: all RAM from 64 KiB on, identically.
        Two calls instead of some hundred hidden faults; a guest that only computes has none."""
        self.ahead = all(self._reaches(start, stop - start) for start, stop in self._boot_ranges())
        if not self.ahead:
            return
        executable = self.patcher is None
        for start, stop in self._boot_ranges():
            place = self._host(start)
            self.engine.map(
                self.banks.here.kernel, place, start, stop - start, writable=True, executable=executable
            )

    def _boot_ranges(self) -> tuple[tuple[int, int], ...]:
        return (0x10000, HOLE.start), (HOLE.stop, self.memory.size)

    def mappings(self) -> list[tuple[int, int, int, int]]:
        """(space, GVA, GPA, length) of all entries of the virtual TLB, for display."""
        boot = self._boot_ranges() if self.ahead else ()
        found = [(KERNEL_SPACE, start, start, stop - start) for start, stop in boot]
        found += [(*at, entry.gpa, entry.length) for at, entry in self._entries_here()]
        return sorted(found)

    def _entries_here(self) -> Iterator[tuple[tuple[int, int], Entry]]:
        """The entries for the present CR3, by ``KERNEL_SPACE`` and the like."""
        for number, space in self._canonical().items():
            for gva, entry in space.entries.items():
                yield (number, gva), entry

    def _canonical(self) -> dict[int, Space]:
        bank = self.banks.here
        kernel, user = bank.spaces[bank.kernel], bank.spaces[bank.user]
        return {KERNEL_SPACE: kernel, USER_SPACE: user, DISPLACED_SPACE: self._displaced_space}

    def _all_spaces(self) -> Iterator[tuple[int, Space]]:
        """All spaces, by the engine's numbers."""
        for bank in self.banks.all:
            yield from bank.spaces.items()
        yield DISPLACED_SPACE, self._displaced_space

    def _space(self, number: int) -> Space:
        if number == DISPLACED_SPACE:
            return self._displaced_space
        here = self.banks.here.spaces.get(number)
        return here if here is not None else dict(self._all_spaces())[number]

    def _here(self) -> Space:
        """The entries of the present space."""
        if self.displaced:
            return self._displaced_space
        bank = self.banks.here
        return bank.spaces[bank.user if self.cpu.cpl == 3 else bank.kernel]

    def _count(self) -> int:
        """The number of all entries."""
        return sum(len(space.entries) for _, space in self._all_spaces())

    @property
    def watched(self) -> frozenset[int]:
        return self.banks.here.watched

    @watched.setter
    def watched(self, frames: frozenset[int]) -> None:
        self.banks.here.watched = frames

    @property
    def shown(self) -> bool:
        return self.banks.here.shown

    @shown.setter
    def shown(self, shown: bool) -> None:
        self.banks.here.shown = shown

    @property
    def serial(self) -> int:
        return self.banks.here.serial

    def _is_ahead(self, gva: int) -> bool:
        return self.ahead and any(start <= gva < stop for start, stop in self._boot_ranges())

    def executes(self, gva: int) -> bool:
        """Is the page mapped from the twin for execution (and perhaps not for reading)?"""
        return gva & -PAGE in self._here().executed

    def space(self) -> int:
        """The address space that the guest's virtual privilege level runs in."""
        if self.displaced:
            return DISPLACED_SPACE
        bank = self.banks.here
        return bank.user if self.cpu.cpl == 3 else bank.kernel

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
        if not self._reaches(start, entry.length):
            return Filled.UNREACHABLE
        self.fills += 1
        self._enter(start, entry)
        self.banks.here.pieces |= entry.length < page.size
        self._note(gva)
        if self.runs and page.size == PAGE and not execute:
            start, entry = self._enter_neighbours(start, entry)
        return self._show(gva, start, entry, write=write, execute=execute)

    def holds(self, gva: int, *, write: bool = False, execute: bool = False) -> bool:
        """Does the virtual TLB permit this access?"""
        return self._entry(gva, write=write, execute=execute) is not None

    def _entry(self, gva: int, *, write: bool, execute: bool) -> tuple[int, Entry] | None:
        """The start (GVA) and the entry that permits this access, None where there is none."""
        page, entries = gva & -PAGE, self._here().entries
        start, entry = page, entries.get(page)
        if entry is None:
            start, entry = gva & -LARGE, entries.get(gva & -LARGE)
            if entry is None or start + entry.length <= gva:
                if self.cpu.cpl == 3 or self.displaced or not self._is_ahead(gva):
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
            if self.memory.is_ram(frame, LARGE) and self._reaches(start, LARGE):
                return start, Entry(frame, LARGE, writable, executable)
        return gva & -PAGE, Entry(page.gpa & -PAGE, PAGE, writable, executable)

    def _enter(self, start: int, entry: Entry) -> None:
        """Add an entry, and remove entries and mappings that overlap it and lead elsewhere: the guest
        may have changed its tables without an invalidation."""
        if self._count() >= MOST_ENTRIES:
            self._forget_all()
        number, space = self.space(), self._here()
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
            self._note(gva, low, high)
        self._saved = None
        start, first = gva - low * PAGE, entry._replace(gpa=entry.gpa - low * PAGE)
        space = self._here()
        space.enter_run(start, low, first)
        space.enter_run(gva + PAGE, high, entry._replace(gpa=entry.gpa + PAGE))
        return start, first._replace(length=(low + 1 + high) * PAGE)

    def _free_pages(self, gva: int, entry: Entry, way: int, most: int) -> int:
        """How many pages before (-1) or behind (1) a page can be entered with it: no code, no device,
        and nothing that the virtual TLB holds already."""
        assert self.patcher is not None
        entries = self._here().entries
        most = min(most, MOST_ENTRIES - self._count())
        for code in self.patcher.pages:
            away = way * (code - entry.gpa) // PAGE
            if 0 < away <= most:
                most = away - 1
        while most > 0:  # mostly all of it is RAM, and can be mapped
            low, length = min(way * PAGE, way * most * PAGE), most * PAGE
            if self.memory.is_ram(entry.gpa + low, length) and self._reaches(gva + low, length):
                break
            most //= 2
        count = 0
        while count < most and gva + way * (count + 1) * PAGE not in entries:
            count += 1
        return count

    def neighbours(self, gva: int) -> tuple[bool, bool]:
        """Does the virtual TLB lack the page before ``gva``, and that behind it?"""
        entries = self._here().entries
        return gva - PAGE not in entries, gva + PAGE not in entries

    def enter_alone(self, gva: int, frame: int, *, executable: bool) -> bool:
        """In free mode: enter a page that is stored to, and is no part of a run, and map it. False: it
        is not as simple as that, and nothing has changed."""
        space, patcher = self._here(), self.patcher
        old, large = space.entries.get(gva), space.entries.get(gva & -LARGE)
        if (old is not None and old[:2] != (frame, PAGE)) or (large is not None and large[1] != PAGE):
            return False
        if patcher is None or frame in patcher.pages or frame in self.watched or gva in self.reserved:
            return False
        if not self.memory.is_ram(frame, PAGE) or self._count() >= MOST_ENTRIES:
            return False
        if not self._reaches(gva, PAGE):
            return False
        space.enter(gva, Entry(frame, PAGE, True, executable))
        self._note(gva)
        self.fills += 1
        self._saved = None
        self._map(gva, frame, PAGE, True, False)
        return True

    def unknown_pages(self, gva: int, frame: int, most: int) -> int:
        """In free mode: how many pages from ``gva`` on, which lead to the frames from ``frame`` on, can
        be mapped where nothing leads to any of them yet: no code, no device, no page of the VMM's."""
        if self.ahead or self.patcher is None or not self._reaches(gva, most * PAGE):
            return 0
        for page in (*self.patcher.pages, *self.watched):
            if frame <= page < frame + most * PAGE:
                most = (page - frame) // PAGE
        if gva < self.reserved.stop and gva + most * PAGE > self.reserved.start:
            return 0
        if not self.memory.is_ram(frame, most * PAGE) or self._count() + most > MOST_ENTRIES:
            return 0
        return self._here().unknown_pages(gva, frame, most)

    def map_copies(self, gva: int, frame: int, count: int, *, hidden: int) -> bool:
        """Map ``unknown_pages`` so that the guest stores to copies (cores/vmm/stores_ahead.py), and
        unmap what leads to the frame ``hidden``. False: the engine cannot."""
        space = self._here()
        if frame <= hidden < frame + count * PAGE:
            return False
        try:
            if not self.engine.map_copies(self.space(), self._host(gva), frame, count * PAGE):
                return False
        except MappingsFullError:
            self.hide_all()
            return False
        for at in space.leading_to(hidden):
            self._unmap(self.space(), at)
        self.fills += 1
        return True

    def take_copies(self, gva: int, frame: int, count: int, *, executable: bool) -> list[int]:
        """Undo ``map_copies``, in the same space: bring the copies to RAM, and enter and map the pages
        that were stored to. Gives their numbers."""
        stored = self.engine.take_copies(self.space(), self._host(gva), frame, count * PAGE)
        if len(stored) < count:
            self._unmap(self.space(), gva, count * PAGE)
        if stored:
            self._note(gva, 0, stored[-1])
        runs, space = _runs(stored), self._here()
        for first, length in runs:
            at, there = gva + first * PAGE, frame + first * PAGE
            space.enter_run(at, length, Entry(there, PAGE, True, executable))
            if len(runs) <= MOST_RUNS:
                self._map(at, there, length * PAGE, True, False)
        self._saved = None
        return stored

    def _show(self, gva: int, start: int, entry: Entry, *, write: bool, execute: bool) -> Filled:
        """Map the page of an entry with the rights that the CPU may have."""
        if self.patcher is None:
            self._map(start, entry.gpa, entry.length, entry.writable, entry.executable)
            return Filled.MAPPED
        frame = entry.gpa + (gva & -PAGE) - start
        if start < self.reserved.stop and start + entry.length > self.reserved.start:
            self.on_reserved()
        if frame in self.watched:
            if not (write or execute):
                self._map(gva & -PAGE, frame, PAGE, False, False)
                return Filled.MAPPED
            self.on_watched()
        if write and not execute and self.patcher.release(frame):
            self._unmap_everywhere(frame)
        if execute or frame in self.patcher.pages:
            return self._fill_code(gva & -PAGE, frame, entry, write=write, execute=execute)
        run = PAGE < entry.length != LARGE  # pages that are writable here have been stored to
        self._map(
            start, entry.gpa, entry.length, entry.writable, False, populate=run and entry.writable
        )
        if entry.length > PAGE:
            for code in (*self.patcher.pages, *self.watched):
                if entry.gpa <= code < entry.gpa + entry.length:  # mapped only as it may be
                    self._unmap(self.space(), start + code - entry.gpa)
        return Filled.MAPPED

    def _fill_code(self, gva: int, frame: int, entry: Entry, *, write: bool, execute: bool) -> Filled:
        """Free mode: map a page that holds code, from the twin where it is executed. Elsewhere it is
        RAM, in which nothing is patched: a kernel copies its processes' code."""
        assert self.patcher is not None
        code, here = self.watch(frame), self._here()
        if execute and code.shared:
            if gva not in here.executed:
                self._unmap_everywhere(frame)  # as RAM: stores to one would not be seen in the other
            self._map(gva, frame, PAGE, entry.writable, True, twin=True)
        elif execute:
            self._map(gva, frame, PAGE, False, True, twin=True, readable=False)
        elif gva in here.executed or (write and not code.shared):
            return Filled.CODE
        elif code.shared:
            if self.executes_frame(frame):
                return Filled.CODE
            self._map(gva, frame, PAGE, entry.writable, False)
        else:
            self._map(gva, frame, PAGE, False, False)
        if execute:
            here.executed.add(gva)
        return Filled.MAPPED

    def executes_frame(self, frame: int) -> bool:
        """Is the page mapped from the twin, somewhere in the present space?"""
        space, user = self._here(), self.cpu.cpl == 3 or self.displaced
        ahead = not user and self._is_ahead(frame) and frame in space.executed
        return ahead or not space.executed.isdisjoint(space.leading_to(frame))

    def watch(self, frame: int) -> CodePage:
        """The page of code at ``frame``; from now on the patcher knows of every store to it."""
        assert self.patcher is not None
        code = self.patcher.adopt(frame)
        if not code.guarded:
            self._unmap_everywhere(frame)  # no mapping with the right to write may remain
            self.patcher.guard(code)
        return code

    def _unmap_everywhere(self, frame: int) -> None:
        for number, space in tuple(self._all_spaces()):
            for gva in space.leading_to(frame):
                self._unmap(number, gva)
        if self._is_ahead(frame):
            self._unmap(self.banks.here.kernel, frame)

    def _unmap(self, space: int, gva: int, length: int = PAGE) -> None:
        try:
            self.engine.unmap(space, self._host(gva, space), length)
        except MappingsFullError:
            self.hide_all()
        self._space(space).unmapped(gva, length)

    def share(self, frame: int) -> None:
        """Unmap a code page that has become shared, or no longer is: it is mapped anew at its next
        use."""
        self._unmap_everywhere(frame)

    def reveal(self, gva: int) -> bool:
        """Map the real page at ``gva`` for one step of one instruction (free mode), writable where the
        TLB permits that. False where the host process cannot have a mapping, or no RAM is there."""
        frame = self.mmu.translate(gva & -PAGE, user=False) & -PAGE
        if not self.memory.is_ram(frame, PAGE):
            return False
        return self._map(gva & -PAGE, frame, PAGE, self.holds(gva, write=True), True)

    def conceal(self, gva: int) -> None:
        """Undo ``reveal``: the next access faults, and the page is mapped as free mode needs it."""
        self._unmap(self.space(), gva & -PAGE)

    def _map(
        self,
        gva: int,
        gpa: int,
        length: int,
        writable: bool,
        executable: bool,
        *,
        twin: bool = False,
        readable: bool = True,
        populate: bool = False,
    ) -> bool:
        space = self.space()
        map = partial(
            self.engine.map, space, self._host(gva), gpa, length,
            writable=writable, executable=executable, twin=twin, readable=readable,
            populate=populate,
        )  # fmt: skip
        self._space(space).unmapped(gva, length)
        try:
            return map()
        except MappingsFullError:
            self.hide_all()
            return map()

    def _reaches(self, gva: int, length: int) -> bool:
        """Can the host process have this mapping? Not where the VMM has pages of its own."""
        if gva < OUT_OF_LINE.stop and gva + length > OUT_OF_LINE.start:
            return False
        place = self._host(gva)
        if self.displaced:
            ours = place < TRANSLATED.stop and place + length > TRANSLATED.start
            return not ours and self.engine.reaches(place, length)
        if place != gva and place + length > MASK32 + 1:
            return False
        return self.engine.reaches(place, length)

    def _host(self, gva: int, space: int | None = None) -> int:
        """The host's address of ``gva`` (``DeprivilegedEngine.origin``) in ``space``, None for the
        present one; the VMM's own pages lie above 4 GiB, and stay where they are."""
        if space == DISPLACED_SPACE or (space is None and self.displaced):
            return gva + self.displacement & MASK64
        origin = self.engine.origin(self.cpu)
        return gva + origin & MASK32 if origin and gva <= MASK32 else gva

    def _may_write(self, page: Translation) -> bool:
        if self.cpu.cpl == 3:
            return page.writable and page.user
        return page.writable or not self.cpu.cr0 & Cr0.WP

    def _may_execute(self, page: Translation) -> bool:
        if self.cpu.cpl == 3:
            return page.executable and page.user
        return page.executable and not (page.user and self.cpu.cr4 & Cr4.SMEP)

    def open(self, gva: int, scratch: int, *, writable: bool = True, executable: bool = False) -> bool:
        """Map the page ``scratch`` at ``gva`` for one instruction: usually a scratch page of the
        VMM's."""
        return self._map(gva & -PAGE, scratch, PAGE, writable, executable)

    def close(self, gva: int) -> None:
        """Unmap a scratch page."""
        self._unmap(self.space(), gva & -PAGE)

    def lend(self, gva: int, offset: int, length: int) -> bool:
        """Map pages of the twin that hold code and data of the VMM's
        (cores/vmm/conditional_stop.py). False where the host process cannot have them."""
        self._lent = self.space()
        return self._reaches(gva, length) and self._map(gva, offset, length, True, True, twin=True)

    def take_back(self, gva: int, length: int) -> None:
        """Undo ``lend``."""
        self._unmap(self._lent, gva, length)

    def can_reserve(self, region: range) -> bool:
        """Has the host process room for these addresses?"""
        return self._reaches(region.start, len(region))

    def show_reserved(self, offset: int) -> bool:
        """Map the twin from ``offset`` on at ``reserved``, for the guest's kernel. False: not now."""
        try:
            return self.engine.map(
                self.banks.here.kernel, self._host(self.reserved.start), offset, len(self.reserved),
                writable=True, executable=True, twin=True,
            )  # fmt: skip
        except MappingsFullError:
            self.hide_all()
            return False

    def hide_reserved(self) -> None:
        """Undo ``show_reserved``."""
        self._unmap(self.banks.here.kernel, self.reserved.start, len(self.reserved))

    def watch_tables(self, frames: set[int]) -> None:
        """From now on a store to these pages is seen, by ``on_watched``, until ``watched`` is
        cleared."""
        fresh = frames - self.watched
        self.watched = frozenset(frames)
        for frame in fresh:
            self._unmap_everywhere(frame)

    def lend_device(self, gva: int, scratch: int) -> bool:
        """Map a page of the VMM's with a device's registers, read-only, until the guest's TLB may
        forget the translation (cores/vmm/faults/lent_page.py)."""
        if not self._reaches(gva, PAGE) or not self._map(gva, scratch, PAGE, False, False):
            return False
        self._here().devices.add(gva)
        self._note(gva)
        return True

    def _show_given(self, page: Translation, gva: int, place: int) -> Filled:
        """Map a device's page that the guest has been given; see ``given``."""
        writable = page.dirty and self._may_write(page)
        at = gva & -PAGE
        if at in self.reserved:
            self.on_reserved()
        if not self._reaches(at, PAGE) or not self._map(at, place, PAGE, writable, False):
            return Filled.DEVICE
        self._here().devices.add(at)
        self._note(gva)
        return Filled.MAPPED

    def take_back_device(self) -> None:
        """Undo ``lend_device`` wherever it was done."""
        for number, space in tuple(self._all_spaces()):
            for gva in tuple(space.devices):
                self._unmap(number, gva)

    def drop(self, gva: int) -> None:
        """INVLPG: invalidate one page in both spaces: the whole entry of a large page, and all entries
        where some page has smaller ones than itself (1 GiB, or not all of it RAM)."""
        self.on_flush(gva)
        if self.banks.here.pieces or self.ahead:  # entries of another size than the guest's pages
            self._drop_here()
            return
        for number, space in (
            *self.banks.here.spaces.items(),
            (DISPLACED_SPACE, self._displaced_space),
        ):
            if gva & -PAGE in space.devices:
                self._unmap(number, gva & -PAGE)
            start = gva & -LARGE
            entry = space.entries.get(start)
            if entry is None or entry.length == PAGE:
                start = gva & -PAGE
                entry = space.entries.get(start)
            if entry is not None:
                self._forget(number, start, entry.length)

    def _forget(self, number: int, gva: int, length: int) -> None:
        self.on_change()
        self._unmap(number, gva, length)
        for at in range(gva, gva + length, PAGE):
            self._space(number).forget(at)
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
        unusual = self.ahead or self.displaced or self.displacement or not self.patcher
        return self.runs and not unusual and self.engine.most_spaces > 2 * MOST_BANKS

    def _note(self, gva: int, before: int = 0, behind: int = 0) -> None:
        """An entry has been made for ``gva``, and for so many neighbours."""
        tables = self.banks.here.tables
        if self._has_banks():
            tables.note(self.cpu, gva, before, behind)
        else:
            tables.outdated = True

    def _switch(self) -> bool:
        """Go on with the bank of CR3. False: it is the present one, and there is more to be done."""
        banks, root = self.banks, self.cpu.cr3
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
                    self._unmap(number, gva)
        if self.shown:
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
        self.drops += 1
        bank.empty()
        self.on_hidden()

    def forget_others(self) -> None:
        """Drop all that is kept for other values of CR3."""
        for bank in self.banks.all:
            if bank is not self.banks.here and bank.root:
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
        bank = self.banks.here
        kept = self._kept_code() if self.runs else None
        serial = bank.serial
        self.ahead = False
        bank.empty()
        bank.root = self.cpu.cr3
        self._displaced_space.clear()
        self._saved = None
        if self.runs:
            bank.serial = serial  # ``on_drop`` looks at each handler
            self.on_drop()
        else:
            self.on_change()
        self._hidden_here()
        here = self.space()
        for number in (bank.kernel, bank.user, DISPLACED_SPACE):
            if number != here or not kept:
                self.engine.drop_space(number)
        if kept and self.engine.drop_all_but(here, [self._host(gva) for gva in kept]):
            for gva, entry in kept.items():
                self._here().enter(gva, entry)
                self._here().executed.add(gva)
                self._note(gva)

    def _hidden_here(self) -> None:
        self.drops += 1
        self.banks.here.hidden()
        self._displaced_space.executed.clear()
        self._displaced_space.devices.clear()
        self.on_hidden()

    def _kept_code(self) -> dict[int, Entry]:
        """The pages that are mapped for execution and have one page table with RIP's, by GVA, with
        their new entries, where all that they were mapped by is the same."""
        space, cpu = self._here(), self.cpu
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

    def hide_all(self) -> None:
        """Drop the engine's mappings and keep the virtual TLB: each page is mapped at its next
        fault."""
        self.engine.drop_all()
        self._all_hidden()

    def _all_hidden(self) -> None:
        for bank in self.banks.all:
            bank.hidden()
        self._hidden_here()

    def show_boot(self) -> None:
        """After ``hide_all``: map the boot tables' entries at once, if they are still valid."""
        if self.ahead:
            self.map_boot()

    def save(self) -> ShadowState:
        """A checkpoint of the virtual TLB. It is the same object while nothing changes: there may be
        30,000 entries, and hundreds of checkpoints."""
        pieces = self.banks.here.pieces
        if self._saved is None or self._saved[1:] != (self.ahead, pieces):
            self._saved = ShadowState(tuple(self._entries_here()), self.ahead, pieces)
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
        self.ahead, self.banks.here.pieces = state.ahead, state.pieces
        self.banks.here.tables.outdated = True
        self._context = ()
        self._saved = state if self._count() == len(state.entries) else None
        self.show_boot()

    def _is_lawful(self, at: tuple[int, int], entry: Entry) -> bool:
        return (
            at[0] in (KERNEL_SPACE, USER_SPACE, DISPLACED_SPACE)
            and entry.length in (PAGE, LARGE)
            and (at[1] | entry.gpa) % PAGE == 0
            and self.memory.is_ram(entry.gpa, entry.length)
            and self._reaches(at[1], entry.length)
        )

    def rights(self) -> tuple[int, int, int, int, int]:
        """The control bits that mappings depend on besides the tables; when they change,
        ``drop_all``."""
        cpu = self.cpu
        smap = cpu.rflags & Flag.AC if cpu.cr4 & Cr4.SMAP else 0
        return cpu.cr0 & (Cr0.WP | Cr0.PG), cpu.cr3, cpu.cr4, cpu.efer, smap


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    """Ascending numbers as (first, how many follow each other)."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and sum(runs[-1]) == number:
            runs[-1] = runs[-1][0], runs[-1][1] + 1
        else:
            runs.append((number, 1))
    return runs
