"""Page-table pages: the pages of RAM that hold paging structures, found from a set of CR3 values."""

from __future__ import annotations

from collections.abc import Iterable

from cores.x86.mmu.paging import ADDRESS, LARGE, PAGE, PRESENT, PhysicalSpace


def table_pages(memory: PhysicalSpace, roots: Iterable[int]) -> set[int]:
    """Guest physical addresses of all pages that hold a paging structure of any of these CR3s.

    A table that leads to itself or to another (a recursive mapping) is visited once per level.
    """
    found: set[tuple[int, int]] = set()
    todo = [(root & ADDRESS, 4) for root in roots]
    while todo:
        page, level = todo.pop()
        if (page, level) in found or not memory.is_ram(page, PAGE):
            continue
        found.add((page, level))
        if level == 1:
            continue
        entries = memory.view[page : page + PAGE].cast("Q")
        for entry in entries:
            if entry & PRESENT and not (entry & LARGE and level <= 3):
                todo.append((entry & ADDRESS, level - 1))
    return {page for page, _ in found}
