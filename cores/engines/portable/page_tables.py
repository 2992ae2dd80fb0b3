"""The page tables of the portable trap engine, in physical memory that no guest can reach.

Where the native engine calls mmap and munmap, this one writes page table entries. The tables have
physical memory of their own, above the guest's RAM. All guest pages are user pages, since the whole
guest runs in ring 3.
"""

from __future__ import annotations

import struct

from cores.pc.ram import PAGE, Ram

_PRESENT, _WRITABLE, _USER, _MARKED, _LARGE, _NX = 1, 2, 4, 0x60, 0x80, 1 << 63
_TABLE = _PRESENT | _WRITABLE | _USER | _MARKED
_FRAME = 0x000F_FFFF_FFFF_F000
_LARGE_BYTES = 2 << 20
_TABLES = 1024
"""The number of table pages, 4 MiB. When they run out, all mappings are dropped: they are a cache of
the guest's own."""

_SUPERVISOR = 0xFFFFFE0000000000
"""Linux's address of descriptor tables; here one page for GDT, IDT and TSS, which ring 3 cannot
access."""

# The descriptors of a Linux process: LAR and LSL show them, and selectors of them can be loaded.
_GDT = (
    0, 0x00CF9B000000FFFF, 0x00AF9B000000FFFF, 0x00CF93000000FFFF, 0x00CFFB000000FFFF,
    0x00CFF3000000FFFF, 0x00AFFB000000FFFF, 0, 0x00008B0000002087 | 0x2000 << 16, 0xFFFFFE00,
)  # fmt: skip


class HiddenTables:
    """Two address spaces, each with its own root table.

    base: the physical address at which ``ram`` is to be mapped. roots: values for CR3, by space.
    gdt: (base, limit) of the descriptor table, a linear address mapped in both spaces.
    """

    def __init__(self, base: int) -> None:
        self.base = base
        self.ram = Ram(_TABLES * PAGE)
        self.roots = (base, base + PAGE)
        self.gdt = (_SUPERVISOR, 8 * len(_GDT) - 1)
        self._free = 0
        self.drop_all()

    def drop_all(self) -> None:
        """Empty both spaces, except the page of the descriptor tables."""
        self.ram.view[: self._free] = bytes(self._free)
        self._free = 3 * PAGE
        gdt = self.base + 2 * PAGE
        struct.pack_into(f"<{len(_GDT)}Q", self.ram.view, 2 * PAGE, *_GDT)
        for root in self.roots:
            self._set(self._entry(root, _SUPERVISOR, 1), gdt | _PRESENT | _WRITABLE | _MARKED | _NX)

    def map(
        self, space: int, gva: int, gpa: int, length: int, *, writable: bool, executable: bool
    ) -> None:
        rights = (
            _PRESENT | _USER | _MARKED | (_WRITABLE if writable else 0) | (0 if executable else _NX)
        )
        root, end = self.roots[space], gva + length
        while gva < end:
            if self._free + 3 * PAGE > _TABLES * PAGE:
                self.drop_all()
            large = not (gva | gpa) % _LARGE_BYTES and end - gva >= _LARGE_BYTES
            size = _LARGE_BYTES if large else PAGE
            self._set(
                self._entry(root, gva, 2 if large else 1), gpa | rights | (_LARGE if large else 0)
            )
            gva += size
            gpa += size

    def unmap(self, space: int, gva: int, length: int) -> None:
        root, end = self.roots[space], gva + length
        while gva < end:
            table, level = self._walk(root, gva)
            size = PAGE << 9 * (level - 1)
            start = gva & -size
            whole = start == gva and end - gva >= size
            if self._get(table) & _PRESENT:
                if level == 1 or whole:
                    self._set(table, 0)
                elif self._free + PAGE > _TABLES * PAGE:
                    self.drop_all()
                    return
                else:  # part of a large page: the rest stays
                    self._entry(root, gva, 1)
                    continue
            gva = start + size

    def translate(self, space: int, gva: int, *, execute: bool = False) -> int | None:
        """The physical address to which a guest address is mapped; None where it is not."""
        if gva >> 47:
            return None
        at, level = self._walk(self.roots[space], gva)
        entry = self._get(at)
        if not entry & _PRESENT or (execute and entry & _NX):
            return None
        return (entry & _FRAME) + gva % (PAGE << 9 * (level - 1))

    def close(self) -> None:
        self.ram.close()

    def _walk(self, root: int, gva: int) -> tuple[int, int]:
        """(address, level) of the entry that ends the walk. Level 1: a page or none, 2: 2 MiB or none,
        3 and 4: none."""
        table = root
        for level in (4, 3, 2, 1):
            at = table + (gva >> 12 + 9 * (level - 1) & 0x1FF) * 8
            entry = self._get(at)
            if level == 1 or not entry & _PRESENT or entry & _LARGE:
                return at, level
            table = entry & _FRAME
        raise AssertionError("a walk has four levels")

    def _entry(self, root: int, gva: int, wanted: int) -> int:
        """The address of the entry of level ``wanted`` for ``gva``. Creates the tables above it."""
        table = root
        for level in range(4, wanted, -1):
            at = table + (gva >> 12 + 9 * (level - 1) & 0x1FF) * 8
            entry = self._get(at)
            if not entry & _PRESENT or entry & _LARGE:
                entry = self._new_table(entry)
                self._set(at, entry)
            table = entry & _FRAME
        return table + (gva >> 12 + 9 * (wanted - 1) & 0x1FF) * 8

    def _new_table(self, large: int) -> int:
        """An entry for a new table. The table is empty, or splits a large page into 512 small ones."""
        at = self._free
        self._free += PAGE
        if large & _LARGE:
            first = large & ~_LARGE
            struct.pack_into("<512Q", self.ram.view, at, *range(first, first + _LARGE_BYTES, PAGE))
        return self.base + at | _TABLE

    def _get(self, gpa: int) -> int:
        return int.from_bytes(self.ram.view[gpa - self.base : gpa - self.base + 8], "little")

    def _set(self, gpa: int, entry: int) -> None:
        self.ram.view[gpa - self.base : gpa - self.base + 8] = entry.to_bytes(8, "little")
