"""Neighbouring pages: a run of page-table entries that lead to contiguous frames with the same rights.

A CPU may translate pages ahead of their first use (SDM vol. 3, 4.10.2.3). The VMM does so in free mode,
within one page table, and sets A bits with it, never D (contract.md, Virtual time).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from cores.x86.mmu.paging import PhysicalSpace, paging_format, read_entry
from cores.x86.mmu.paging_formats import (
    ACCESSED,
    ADDRESS,
    LARGE,
    NEVER_A_PAGE,
    PAGE,
    PRESENT,
    USER,
    WRITABLE,
)
from cores.x86.registers import Efer
from cores.x86.virtual_cpu import VirtualCpu


class Run(NamedTuple):
    """How many pages before and behind one page are mapped as it is. entry_at: the GPA of its entry,
    which has ``width`` bytes."""

    before: int
    behind: int
    entry_at: int
    width: int


def run_around(
    memory: PhysicalSpace, cpu: VirtualCpu, gva: int, *, before: bool, behind: bool
) -> Run | None:
    """The run around the 4 KiB page of ``gva``, which has been walked, in the directions asked for.
    Neighbours have the same rights and D bit. None without paging, and where it is a large page."""
    form = paging_format(cpu)
    if form is None:
        return None
    table, width = cpu.cr3 & form.root, form.entry
    for shift, indexes, in_leaf, _, _ in form.levels[:-1]:
        entry = read_entry(memory, table + (gva >> shift & indexes) * width, width)
        if not entry & PRESENT or (entry & LARGE and in_leaf is not NEVER_A_PAGE):
            return None
        table = entry & ADDRESS
    if not memory.is_ram(table, PAGE):
        return None
    place = gva >> 12 & form.levels[-1].indexes
    at = table + place * width
    wanted = read_entry(memory, at, width) & ~ACCESSED
    before = before and place > 0 and _follows(memory, at - width, width, wanted - PAGE)
    behind = behind and place < form.levels[-1].indexes
    behind = behind and _follows(memory, at + width, width, wanted + PAGE)
    if not (before or behind):  # the usual case where pages are stored to one by one
        return Run(0, 0, at, width)
    entries = struct.unpack("<512Q" if width == 8 else "<1024I", memory.view[table : table + PAGE])
    low = high = place
    while before and low and entries[low - 1] & ~ACCESSED == wanted + (low - 1 - place) * PAGE:
        low -= 1
    last = len(entries) - 1 if behind else place
    while high < last and entries[high + 1] & ~ACCESSED == wanted + (high + 1 - place) * PAGE:
        high += 1
    return Run(place - low, high - place, at, width)


class LeafTable(NamedTuple):
    """The page table of an address. rights: R/W and U/S of the levels above; no_execute: their XD bit.
    reserved: the bits that are reserved in its entries, which have ``width`` bytes."""

    table: int
    rights: int
    no_execute: int
    reserved: int
    width: int


def leaf_table(memory: PhysicalSpace, cpu: VirtualCpu, gva: int) -> LeafTable | None:
    """The page table that a walk for ``gva`` would come to, whose upper entries have their A bits. None
    where it would not, would set a bit on its way, or would fault."""
    form = paging_format(cpu)
    if form is None:
        return None
    no_execute_on = form.no_execute and cpu.efer & Efer.NXE
    reserved = form.reserved if no_execute_on else form.reserved | form.no_execute
    table, rights, no_execute = cpu.cr3 & form.root, WRITABLE | USER, 0
    for shift, indexes, in_leaf, in_table, granted in form.levels[:-1]:
        entry = read_entry(memory, table + (gva >> shift & indexes) * form.entry, form.entry)
        if not entry & PRESENT or (entry & LARGE and in_leaf is not NEVER_A_PAGE):
            return None
        if entry & (reserved | in_table) or not (entry & ACCESSED or granted):
            return None
        rights &= entry | granted
        no_execute |= entry & form.no_execute
        table = entry & ADDRESS
    if not memory.is_ram(table, PAGE):
        return None
    return LeafTable(table, rights, no_execute, reserved, form.entry)


def _follows(memory: PhysicalSpace, at: int, width: int, wanted: int) -> bool:
    return read_entry(memory, at, width) & ~ACCESSED == wanted


def mark_accessed(memory: PhysicalSpace, run: Run) -> None:
    """Set the A bits of all pages of a run. Not through ``memory.write``: no store by the guest."""
    first, count = run.entry_at - run.before * run.width, run.before + 1 + run.behind
    letter = "Q" if run.width == 8 else "I"
    at = slice(first, first + count * run.width)
    entries = struct.unpack(f"<{count}{letter}", memory.view[at])
    memory.view[at] = struct.pack(f"<{count}{letter}", *(entry | ACCESSED for entry in entries))
