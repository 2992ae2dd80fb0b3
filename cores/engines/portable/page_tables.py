"""The page tables of the portable trap engine: real ones, in memory that no guest can reach.

Where the native engine asks Linux to map and unmap, this one writes page table entries. They lie
behind the guest's RAM in physical memory of their own. All guest pages are user pages: the whole
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
"""4 MiB of them. When they run out, all mappings are dropped: they only cache the guest's own."""

_SUPERVISOR = 0xFFFFFE0000000000
"""Where Linux keeps descriptor tables; one page of ours for GDT, IDT and TSS, out of ring 3's reach."""

# As in a Linux process: what LAR and LSL show, and what may be loaded.
_GDT = (
    0, 0x00CF9B000000FFFF, 0x00AF9B000000FFFF, 0x00CF93000000FFFF, 0x00CFFB000000FFFF,
    0x00CFF3000000FFFF, 0x00AFFB000000FFFF, 0, 0x00008B0000002087 | 0x2000 << 16, 0xFFFFFE00,
)  # fmt: skip


class HiddenTables:
    """Two address spaces, each with a root of its own.

    base: the physical address at which ``ram`` is to be mapped. roots: for CR3, by space.
    gdt: (base, limit) of the descriptor table in it, a linear address mapped in both spaces.
    """

    def __init__(self, base: int) -> None:
        self.base = base
        self.ram = Ram(_TABLES * PAGE)
        self.roots = (base, base + PAGE)
        self.gdt = (_SUPERVISOR, 8 * len(_GDT) - 1)
        self._free = 0
        self.drop_all()

    def drop_all(self) -> None:
        """Empty both spaces but for the page of the descriptor tables."""
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
        """The physical address behind a guest address; None where nothing is mapped."""
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
        """(address of the entry that decides, its level): 1 a page, 2 2 MiB, 3 and 4 nothing there."""
        table = root
        for level in (4, 3, 2, 1):
            at = table + (gva >> 12 + 9 * (level - 1) & 0x1FF) * 8
            entry = self._get(at)
            if level == 1 or not entry & _PRESENT or entry & _LARGE:
                return at, level
            table = entry & _FRAME
        raise AssertionError("a walk has four levels")

    def _entry(self, root: int, gva: int, wanted: int) -> int:
        """The address of the level ``wanted`` entry for ``gva``, with the tables above it made."""
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
        """An entry that leads to a new table: empty, or 512 small pages for a large one."""
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
