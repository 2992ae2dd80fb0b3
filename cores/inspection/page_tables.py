"""A view of the guest's page tables, as ranges and as a walk, with the shadow's mappings."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from cores.engines.base import KERNEL_SPACE
from cores.machine.machine import Machine
from cores.x86.mmu.paging import paging_format
from cores.x86.mmu.paging_formats import (
    ADDRESS,
    LARGE,
    NEVER_A_PAGE,
    NO_EXECUTE,
    PRESENT,
    USER,
    WRITABLE,
    Format,
)
from cores.x86.registers import MASK32, Cr4, canonical
from cores.x86.virtual_cpu import VirtualCpu

MOST_TABLES = 128
"""Tables read for one view; a guest may have built millions of them, even in circles."""
MOST_RANGES = 512
NAMES = {
    4: ("PML4", "PDPT", "page directory", "page table"),
    3: ("PDPT", "page directory", "page table"),
    2: ("page directory", "page table"),
}
"""The tables' names, by the number of levels."""


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
    """root: CR3. format: of the tables, in words, "" where paging is off. address: the address walked.
    walk: its levels. gpa: its translation, None if unmapped.
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
    format: str = "four levels of tables"


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
        0 if shadow is None else shadow.fills, _format_words(paging_format(machine.cpu)),
    )  # fmt: skip


def _format_words(form: Format | None) -> str:
    if form is None:
        return ""
    return {4: "four levels of tables", 3: "PAE, three levels", 2: "two levels of tables"}[
        len(form.levels)
    ]


def _large(form: Format, cpu: VirtualCpu, value: int) -> bool:
    """Does PS of an entry count? Of 32-bit paging with CR4.PSE alone (SDM vol. 3, 4.3)."""
    return bool(value & LARGE and (form.entry == 8 or cpu.cr4 & Cr4.PSE))


def _walk(machine: Machine, address: int) -> tuple[tuple[Entry, ...], int | None]:
    """The walk level by level, for display: rights are not checked (SDM vol. 3, 4.3 to 4.5)."""
    cpu, form = machine.cpu, paging_format(machine.cpu)
    if form is None:
        return (), address & MASK32
    if len(form.levels) == 4 and not canonical(address):
        return (), None
    memory, table, steps, entry = machine.memory, cpu.cr3 & form.root, [], form.entry
    for name, level in zip(NAMES[len(form.levels)], form.levels, strict=True):
        shift = level.shift
        index = address >> shift & level.indexes
        at = table + entry * index
        if not memory.is_ram(at, entry):
            steps.append(Entry(name, index, at, (1 << 8 * entry) - 1, "no RAM there"))
            return tuple(steps), None
        value = int.from_bytes(memory.view[at : at + entry], "little")
        if not value & PRESENT:
            steps.append(Entry(name, index, at, value, "not present"))
            return tuple(steps), None
        leaf = shift == 12 or _large(form, cpu, value)
        reserved = level.in_leaf if leaf else level.in_table
        if value & form.reserved or reserved == NEVER_A_PAGE or value & reserved:
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
    form = paging_format(machine.cpu)
    if form is None:
        return [], True
    walker = _Walker(machine, form)
    walker.visit(machine.cpu.cr3 & form.root, 0, 0, WRITABLE | USER)
    return walker.ranges, walker.complete


class _Walker:
    """Reads tables depth first, which yields ranges in the order of addresses."""

    def __init__(self, machine: Machine, form: Format) -> None:
        self.memory, self.cpu, self.form = machine.memory, machine.cpu, form
        self.ranges: list[Range] = []
        self.complete = True
        self._tables = 0

    def visit(self, table: int, level: int, base: int, rights: int) -> None:
        form = self.form
        at = form.levels[level]
        size = form.entry * (at.indexes + 1)
        if not self.memory.is_ram(table, size):
            return
        self._tables += 1
        if self._tables > MOST_TABLES or len(self.ranges) >= MOST_RANGES:
            self.complete = False
            return
        shift = at.shift
        for index, value in enumerate(
            self.memory.view[table : table + size].cast("Q" if form.entry == 8 else "I")
        ):
            if not value & PRESENT or value & form.reserved:
                continue
            gva = base + (index << shift)
            if gva >> 47 & 1:
                gva |= -1 << 48 & (1 << 64) - 1
            # R/W and U/S must be set at every level; XD applies if it is set at any.
            granted = value | at.granted
            both = rights & granted & (WRITABLE | USER) | (rights | value) & form.no_execute
            if shift == 12 or (_large(form, self.cpu, value) and at.in_leaf != NEVER_A_PAGE):
                self._add(gva, value & ADDRESS & -(1 << shift), 1 << shift, both)
            elif level < len(form.levels) - 1:
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
