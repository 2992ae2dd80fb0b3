"""Page-table pages: the pages of RAM that hold paging structures, found from a set of CR3 values."""

from __future__ import annotations

from collections.abc import Iterable

from cores.x86.mmu.paging import PhysicalSpace
from cores.x86.mmu.paging_formats import (
    ADDRESS,
    LARGE,
    NEVER_A_PAGE,
    PAGE,
    PRESENT,
    Format,
    table_addresses,
)


def table_pages(memory: PhysicalSpace, roots: Iterable[int]) -> dict[int, int]:
    """Guest physical addresses of all pages that hold a paging structure of any of these roots
    (``paging_formats.root``), each with the bytes of an entry.

    A table that leads to itself or to another (a recursive mapping) is visited once per level.
    """
    found: set[tuple[int, int, Format]] = set()
    todo = [(table, 0, form) for table, form in table_addresses(roots)]
    while todo:
        table, depth, form = todo.pop()
        page = table & -PAGE
        if (page, depth, form) in found or not memory.is_ram(page, PAGE):
            continue
        found.add((page, depth, form))
        level = form.levels[depth]
        if level.shift == 12:
            continue
        entries = memory.view[page : page + PAGE].cast("Q" if form.entry == 8 else "I")
        begin = (table - page) // form.entry
        for entry in entries[begin : begin + level.indexes + 1]:
            leaf = entry & LARGE and level.in_leaf is not NEVER_A_PAGE
            if entry & PRESENT and not leaf:
                todo.append((entry & ADDRESS, depth + 1, form))
    return {page: form.entry for page, _, form in found}
