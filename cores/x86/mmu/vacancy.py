"""Which tables say that nothing is mapped in a range of linear addresses."""

from __future__ import annotations

from cores.x86.mmu.paging import PhysicalSpace, paging_format, read_entry
from cores.x86.mmu.paging_formats import ADDRESS, LARGE, NEVER_A_PAGE, PAGE, PRESENT
from cores.x86.virtual_cpu import VirtualCpu


def empty_tables(memory: PhysicalSpace, cpu: VirtualCpu, area: range) -> set[int] | None:
    """The pages with the entries by which no page of ``area`` is present in the guest's tables: as long
    as nothing is stored there, it stays so. None where a page is present, and where paging is off."""
    form = paging_format(cpu)
    if form is None:
        return None
    found: set[int] = set()
    at = area.start
    while at < area.stop:
        table = cpu.cr3 & form.root
        for shift, indexes, in_leaf, _, _ in form.levels:
            place = table + (at >> shift & indexes) * form.entry
            entry = read_entry(memory, place, form.entry)
            if not entry & PRESENT:
                found.add(place & -PAGE)
                at = ((at >> shift) + 1) << shift
                break
            if shift == 12 or (entry & LARGE and in_leaf is not NEVER_A_PAGE):
                return None
            table = entry & ADDRESS
    return found
