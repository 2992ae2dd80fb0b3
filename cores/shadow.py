"""Shadow page tables: the guest's virtual memory on a host that has its own.

On a trap core the guest's page tables translate nothing: the real CPU walks the host's. So the
host mappings of the vCPU process are kept as a *virtual TLB*. They begin empty; a touch of a page
not there yet faults to the VMM (a hidden fault: the guest never hears of it), which walks the
guest's tables and maps what they say. Whatever would make a TLB forget makes us unmap. And as on
the CPU, a stale entry that the guest never invalidated may still be used.

Two address spaces, one for each virtual privilege level: guest kernel and guest user both run in
real ring 3, where the U/S bit could not keep them apart.
"""

from __future__ import annotations

from enum import Enum
from typing import TypedDict

from .engines.base import BRIDGE, KERNEL_SPACE, USER_SPACE, DeprivilegedEngine
from .errors import MappingsFullError
from .memory import HOLE, PhysicalMemory
from .patch import Patcher
from .virtual_cpu import VirtualCpu
from .x86.paging import PAGE, Mmu, Translation, permits, walk
from .x86.registers import Cr0, Cr4, Flag

LARGE = 2 << 20
MAX_MAPPINGS = 30_000
"""Linux allows a process 65,530 (vm.max_map_count); an unmap in the middle makes two of one."""


class Filled(Enum):
    """What became of a hidden fault that was not the guest's."""

    MAPPED = "mapped"
    DEVICE = "device"
    """No RAM behind that page: a device, or nothing."""
    CODE = "code"
    """Data access to a page that is executed from the patched twin (cores/patch.py)."""
    UNREACHABLE = "unreachable"
    """The host process cannot have such a mapping."""


class Rights(TypedDict):
    """How ``DeprivilegedEngine.map`` is to map a page."""

    writable: bool
    executable: bool
    twin: bool
    readable: bool


class ShadowPages:
    """Fills and drops the engine's mappings according to the guest's page tables.

    fills: hidden faults served so far. ahead: the boot tables' mappings still stand. drops: how often
    everything was forgotten.
    """

    def __init__(
        self, engine: DeprivilegedEngine, memory: PhysicalMemory, cpu: VirtualCpu, mmu: Mmu
    ) -> None:
        self.engine = engine
        self.memory = memory
        self.cpu = cpu
        self.mmu = mmu
        self.fills = 0
        self.ahead = False
        self.drops = 0
        self.patcher: Patcher | None = None
        self._mappings: dict[tuple[int, int], tuple[int, int]] = {}  # (space, GVA) -> (GPA, length)
        self._executed: set[tuple[int, int]] = set()  # pages mapped from the twin
        self._large: set[tuple[int, int]] = set()
        self._pieces = False  # some guest page is mapped in pieces smaller than itself

    def map_boot(self) -> None:
        """Map ahead what the platform's boot tables map: all RAM from 64 KiB on, identically.
        Two calls instead of some hundred hidden faults; a guest that only computes has none."""
        self.ahead = True
        executable = self.patcher is None
        for start, stop in self._boot_ranges():
            self.engine.map(
                KERNEL_SPACE, start, start, stop - start, writable=True, executable=executable
            )
            self._mappings[KERNEL_SPACE, start] = start, stop - start
            self._large |= {(KERNEL_SPACE, part) for part in range(start // LARGE, -(-stop // LARGE))}

    def _boot_ranges(self) -> tuple[tuple[int, int], ...]:
        return (0x10000, HOLE.start), (HOLE.stop, self.memory.size)

    def is_ahead(self, gva: int) -> bool:
        """Was it mapped with the boot tables, and do these still stand?"""
        return self.ahead and any(start <= gva < stop for start, stop in self._boot_ranges())

    def mappings(self) -> list[tuple[int, int, int, int]]:
        """(space, GVA, GPA, length) of what is mapped now, for people to look at."""
        return sorted((space, gva, *there) for (space, gva), there in self._mappings.items())

    def executes(self, gva: int) -> bool:
        """Is the page mapped from the twin, for execution and perhaps for nothing else?"""
        return (self.space(), gva & -PAGE) in self._executed

    def space(self) -> int:
        """The address space that the guest's virtual privilege level runs in."""
        return USER_SPACE if self.cpu.cpl == 3 else KERNEL_SPACE

    def fill(self, gva: int, *, write: bool, execute: bool) -> Filled:
        """Serve a hidden fault. Raises GuestFault when the guest's own tables forbid the access."""
        # lesson: whose-page-fault
        # The guest's tables decide. Where they forbid the access, walk() raises the guest's own page
        # fault; where they allow it, the fault was ours, and the guest must not hear of it.
        page = walk(self.memory, self.cpu, gva, write=write, execute=execute)
        frame = page.gpa & -PAGE
        if not self.memory.is_ram(frame, PAGE):
            return Filled.DEVICE

        if execute and not permits(self.cpu, page, user=self.cpu.cpl == 3):
            return Filled.UNREACHABLE  # under SMAP: the host's mappings cannot be executed only

        self.fills += 1
        if len(self._mappings) >= MAX_MAPPINGS:
            self.drop_all()
        writable = page.dirty and self._may_write(page)  # clean pages fault once more, to set D
        executable = self._may_execute(page)
        if self.patcher is not None:
            if execute or frame in self.patcher.pages:
                self._pieces |= page.size > PAGE
                return self._fill_code(
                    gva & -PAGE, frame, writable, executable, write=write, execute=execute
                )
            executable = False  # until it is executed, and looked at
        start, frame, length = self._extent(page, gva)
        if not self._map(start, frame, length, writable, executable):
            start, frame, length = gva & -PAGE, page.gpa & -PAGE, PAGE
            if not self._map(start, frame, length, writable, executable):
                return Filled.UNREACHABLE
        self._pieces |= length < page.size
        if self.patcher is not None and length > PAGE:
            for code in self.patcher.pages:
                if frame <= code < frame + length:  # code shows through only where it is executed
                    self.engine.unmap(self.space(), start + code - frame, PAGE)
        return Filled.MAPPED

    def _fill_code(
        self, gva: int, frame: int, writable: bool, executable: bool, *, write: bool, execute: bool
    ) -> Filled:
        """Free mode: a page that code is executed from is mapped from the twin."""
        assert self.patcher is not None
        code = self.patcher.adopt(frame)
        if not code.guarded:
            self._unmap_everywhere(frame)  # no mapping with the right to write may remain
            self.patcher.guard(code)
        if code.shared:
            mapped = self._map(gva, frame, PAGE, writable, executable, twin=True)
        elif execute:
            mapped = self._map(gva, frame, PAGE, False, True, twin=True, readable=False)
        elif write or (self.space(), gva) in self._executed:
            return Filled.CODE
        else:
            mapped = self._map(gva, frame, PAGE, False, False)
        if mapped and execute:
            self._executed.add((self.space(), gva))
        return Filled.MAPPED if mapped else Filled.UNREACHABLE

    def _unmap_everywhere(self, frame: int) -> None:
        for (space, start), (gpa, length) in self._mappings.items():
            if gpa <= frame < gpa + length:
                gva = start + frame - gpa
                self.engine.unmap(space, gva, PAGE)
                self._executed.discard((space, gva))

    def share(self, frame: int) -> None:
        """A code page has become a shared one: every mapping of it is to be made anew."""
        self._unmap_everywhere(frame)

    def reveal(self, gva: int) -> bool:
        """Map the page at ``gva`` as it really is, for one step of one instruction (free mode). False
        where the host process cannot have a mapping."""
        frame = self.mmu.translate(gva & -PAGE, user=False) & -PAGE
        return self.engine.map(self.space(), gva & -PAGE, frame, PAGE, writable=True, executable=True)

    def conceal(self, gva: int) -> None:
        """After ``reveal``: the next access faults, and is mapped as it must be."""
        self.engine.unmap(self.space(), gva & -PAGE, PAGE)

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
    ) -> bool:
        space = self.space()
        if gva < BRIDGE.stop and gva + length > BRIDGE.start:
            return False
        rights = Rights(writable=writable, executable=executable, twin=twin, readable=readable)
        try:
            mapped = self.engine.map(space, gva, gpa, length, **rights)
        except MappingsFullError:
            self.drop_all()
            mapped = self.engine.map(space, gva, gpa, length, **rights)
        if not mapped:
            return False
        self._mappings[space, gva] = gpa, length
        if length > PAGE:
            self._large.add((space, gva // LARGE))
        return True

    def _extent(self, page: Translation, gva: int) -> tuple[int, int, int]:
        """(GVA, GPA, length) to map: of large pages the aligned 2 MiB around ``gva``, if all is RAM."""
        if page.size >= LARGE:
            start = gva & -LARGE
            frame = page.frame + (start - page.page)
            if self.memory.is_ram(frame, LARGE) and (start or frame):
                return start, frame, LARGE
        return gva & -PAGE, page.gpa & -PAGE, PAGE

    def _may_write(self, page: Translation) -> bool:
        if self.cpu.cpl == 3:
            return page.writable and page.user
        return page.writable or not self.cpu.cr0 & Cr0.WP

    def _may_execute(self, page: Translation) -> bool:
        if self.cpu.cpl == 3:
            return page.executable and page.user
        return page.executable and not (page.user and self.cpu.cr4 & Cr4.SMEP)

    def open(self, gva: int, scratch: int, *, writable: bool = True, executable: bool = False) -> bool:
        """Map a page at ``gva`` for one instruction: mostly a scratch page of the VMM's."""
        return self.engine.map(
            self.space(), gva & -PAGE, scratch, PAGE, writable=writable, executable=executable
        )

    def close(self, gva: int) -> None:
        """Take a scratch page away again."""
        self.engine.unmap(self.space(), gva & -PAGE, PAGE)

    def drop(self, gva: int) -> None:
        """INVLPG: forget one page, in both spaces; all of it where it is a large one."""
        if self._pieces or self.ahead:  # mapped in pieces of another size than the guest's pages
            self.drop_all()
            return
        for space in (KERNEL_SPACE, USER_SPACE):
            if (space, gva // LARGE) in self._large:
                self._large.discard((space, gva // LARGE))
                self._forget(space, gva & -LARGE, LARGE)
            else:
                self._forget(space, gva & -PAGE, PAGE)

    def _forget(self, space: int, gva: int, length: int) -> None:
        self.engine.unmap(space, gva, length)
        for at in range(gva, gva + length, PAGE):
            self._mappings.pop((space, at), None)
            self._executed.discard((space, at))

    def drop_all(self) -> None:
        """A new CR3, or a control bit that changes what mappings mean: forget everything."""
        self.engine.drop_all()
        self.drops += 1
        self.ahead = False
        self._large.clear()
        self._pieces = False
        self._mappings.clear()
        self._executed.clear()

    def rights(self) -> tuple[int, int, int, int, int]:
        """What, besides the tables, decides which mappings are right; when it changes, ``drop_all``."""
        cpu = self.cpu
        smap = cpu.rflags & Flag.AC if cpu.cr4 & Cr4.SMAP else 0
        return cpu.cr0 & (Cr0.WP | Cr0.PG), cpu.cr3, cpu.cr4, cpu.efer, smap
