"""A view of the guest's page tables, as ranges and as a walk, with the shadow's mappings."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from cores.engines.base import KERNEL_SPACE
from cores.machine.machine import Machine
from cores.x86.mmu.paging_formats import (
    ADDRESS,
    HIGH_RESERVED,
    LARGE,
    NO_EXECUTE,
    PAGE,
    PRESENT,
    USER,
    WRITABLE,
)
from cores.x86.registers import canonical

MOST_TABLES = 128
"""Tables read for one view; a guest may have built millions of them, even in circles."""
MOST_RANGES = 512
LEVELS = (("PML4", 39), ("PDPT", 30), ("page directory", 21), ("page table", 12))
_RIGHTS = WRITABLE | USER | NO_EXECUTE


@dataclass(frozen=True, slots=True)
class Entry:
    """One level of a walk. table: its name. index: the entry's. gpa: the entry's address.
    value: the entry. verdict: "" when the walk continues, else how it ends there."""

    table: str
    index: int
    gpa: int
    value: int
    verdict: str


@dataclass(frozen=True, slots=True)
class Range:
    """A range of guest virtual addresses that is mapped contiguously, with the same rights.

    shadowed: bytes of it that the shadow has mapped for the guest's kernel, and for its user code."""

    start: int
    length: int
    gpa: int
    page: int
    writable: bool
    user: bool
    executable: bool
    shadowed: tuple[int, int]


@dataclass(frozen=True, slots=True)
class PagingView:
    """root: CR3. address: the address walked. walk: its levels. gpa: its translation, None if unmapped.
    ranges: all mapped ranges, by address; complete: are these all? shadow: (user space?, GVA, GPA,
    length) of the host's mappings, None on a machine that needs none. stale: those that the guest's
    tables no longer contain, like TLB entries before the guest executes INVLPG."""

    root: int
    address: int
    walk: tuple[Entry, ...]
    gpa: int | None
    ranges: tuple[Range, ...]
    complete: bool
    shadow: tuple[tuple[bool, int, int, int], ...] | None
    stale: tuple[tuple[bool, int, int, int], ...]
    fills: int


def paging_view(machine: Machine, address: int) -> PagingView:
    steps, gpa = _walk(machine, address)
    found, complete = _ranges(machine)
    shadow = machine.vmm.shadow
    mappings: tuple[tuple[bool, int, int, int], ...] = ()
    if shadow is not None:
        mappings = tuple(
            (space != KERNEL_SPACE, gva, frame, size) for space, gva, frame, size in shadow.mappings()
        )
    ranges, stale = _beside(found, mappings)
    return PagingView(
        machine.cpu.cr3, address, steps, gpa, ranges, complete,
        None if shadow is None else mappings, stale if complete else (),
        0 if shadow is None else shadow.fills,
    )  # fmt: skip


def _walk(machine: Machine, address: int) -> tuple[tuple[Entry, ...], int | None]:
    """The walk level by level, for display: rights are not checked (SDM vol. 3, 4.5)."""
    if not canonical(address):
        return (), None
    memory, table, steps = machine.memory, machine.cpu.cr3 & ADDRESS, []
    for name, shift in LEVELS:
        index = address >> shift & 0x1FF
        at = table + 8 * index
        if not memory.is_ram(at, 8):
            steps.append(Entry(name, index, at, (1 << 64) - 1, "no RAM there"))
            return tuple(steps), None
        value = int.from_bytes(memory.view[at : at + 8], "little")
        if not value & PRESENT:
            steps.append(Entry(name, index, at, value, "not present"))
            return tuple(steps), None
        leaf = shift == 12 or bool(value & LARGE)
        if value & HIGH_RESERVED or (leaf and shift == 39):
            steps.append(Entry(name, index, at, value, "a reserved bit is set"))
            return tuple(steps), None
        if leaf:
            size = 1 << shift
            gpa = value & ADDRESS & -size | address & size - 1
            steps.append(Entry(name, index, at, value, f"a page of {_words(size)}"))
            return tuple(steps), gpa
        steps.append(Entry(name, index, at, value, ""))
        table = value & ADDRESS
    raise AssertionError("the last level is a leaf or none")


def _words(size: int) -> str:
    return f"{size >> 10} KiB" if size < 1 << 20 else f"{size >> 20} MiB" if size < 1 << 30 else "1 GiB"


def _ranges(machine: Machine) -> tuple[list[Range], bool]:
    """(all ranges that the guest's tables map, adjacent ones joined; are these all?)."""
    walker = _Walker(machine)
    walker.visit(machine.cpu.cr3 & ADDRESS, 0, 0, WRITABLE | USER)
    return walker.ranges, walker.complete


class _Walker:
    """Reads tables depth first, which yields ranges in the order of addresses."""

    def __init__(self, machine: Machine) -> None:
        self.memory = machine.memory
        self.ranges: list[Range] = []
        self.complete = True
        self._tables = 0

    def visit(self, table: int, level: int, base: int, rights: int) -> None:
        if not self.memory.is_ram(table, PAGE):
            return
        self._tables += 1
        if self._tables > MOST_TABLES or len(self.ranges) >= MOST_RANGES:
            self.complete = False
            return
        shift = LEVELS[level][1]
        for index, value in enumerate(self.memory.view[table : table + PAGE].cast("Q")):
            if not value & PRESENT or value & HIGH_RESERVED:
                continue
            gva = base + (index << shift)
            if gva >> 47 & 1:
                gva |= -1 << 48 & (1 << 64) - 1
            # R/W and U/S must be set at every level; XD applies if it is set at any.
            both = rights & value & (WRITABLE | USER) | (rights | value) & NO_EXECUTE
            if shift == 12 or (value & LARGE and level):
                self._add(gva, value & ADDRESS & -(1 << shift), 1 << shift, both)
            elif level < 3:
                self.visit(value & ADDRESS, level + 1, gva, both)

    def _add(self, gva: int, gpa: int, size: int, rights: int) -> None:
        writable, user = bool(rights & WRITABLE), bool(rights & USER)
        executable = not rights & NO_EXECUTE
        if self.ranges:
            last = self.ranges[-1]
            if (
                last.start + last.length == gva and last.gpa + last.length == gpa and last.page == size
                and (last.writable, last.user, last.executable) == (writable, user, executable)
            ):  # fmt: skip
                length = last.length + size
                self.ranges[-1] = Range(
                    last.start, length, last.gpa, size, writable, user, executable, (0, 0)
                )
                return
        if len(self.ranges) >= MOST_RANGES:
            self.complete = False
            return
        self.ranges.append(Range(gva, size, gpa, size, writable, user, executable, (0, 0)))


def _beside(
    ranges: list[Range], mappings: tuple[tuple[bool, int, int, int], ...]
) -> tuple[tuple[Range, ...], tuple[tuple[bool, int, int, int], ...]]:
    """The ranges with the number of bytes that the shadow maps, and the shadow's stale mappings."""
    starts = [r.start for r in ranges]
    covered = [[0, 0] for _ in ranges]
    stale = []
    for mapping in mappings:
        user, gva, gpa, length = mapping
        at, end, matched = gva, gva + length, 0
        i = max(0, bisect_right(starts, gva) - 1)
        while i < len(ranges) and ranges[i].start < end:
            r = ranges[i]
            shared = min(end, r.start + r.length) - max(at, r.start)
            if shared > 0 and r.gpa - r.start == gpa - gva:
                covered[i][user] += shared
                matched += shared
            i += 1
        if not matched:
            stale.append(mapping)
    shown = tuple(
        Range(
            r.start, r.length, r.gpa, r.page, r.writable, r.user, r.executable,
            (min(c[0], r.length), min(c[1], r.length)),
        )
        for r, c in zip(ranges, covered, strict=True)
    )  # fmt: skip
    return shown, tuple(stale)
