"""Guest memory for people: the walk through the page tables, and a few bytes in hexadecimal."""

from __future__ import annotations

from cores.machine.machine import Machine
from cores.x86.faults import GuestFault

LEVELS = (("PML4", 39), ("PDPT", 30), ("page directory", 21), ("page table", 12))
PRESENT, WRITABLE, USER, ACCESSED, DIRTY, LARGE = 1, 2, 4, 0x20, 0x40, 0x80
FRAME = 0x000F_FFFF_FFFF_F000


def walk(machine: Machine, address: int) -> tuple[str, ...]:
    """The translation of ``address`` by the guest's own tables, a line for each level (SDM vol. 3,
    4.5.4)."""
    table = machine.cpu.cr3 & FRAME
    lines = [f"cr3 {machine.cpu.cr3:#x}"]
    for name, shift in LEVELS:
        index = address >> shift & 511
        entry = int.from_bytes(machine.memory.view[table + 8 * index : table + 8 * index + 8], "little")
        lines.append(f"{name} at {table:#x}, entry {index}: {_entry(entry)}")
        if not entry & PRESENT:
            return (*lines, "so: page fault")
        table = entry & FRAME
        if shift == 12 or (entry & LARGE and shift != 39):
            size = 1 << shift
            return (*lines, f"so: physical {(table & -size) + address % size:#x}")
    raise AssertionError("the page table is the last level")


def _entry(entry: int) -> str:
    if not entry & PRESENT:
        return "not present"
    words = ["writable" if entry & WRITABLE else "read only", "user" if entry & USER else "kernel only"]
    words += [word for bit, word in ((ACCESSED, "accessed"), (DIRTY, "dirty")) if entry & bit]
    return f"{entry & FRAME:#x}, {', '.join(words)}"


def dump(machine: Machine, address: int, length: int = 32) -> tuple[str, ...]:
    """Bytes at a linear address, sixteen a line, with their letters."""
    try:
        found = machine.vmm.mmu.peek(address, length)
    except GuestFault:
        return (f"{address:#x}  not mapped",)
    rows = (found[at : at + 16] for at in range(0, len(found), 16))
    return tuple(
        f"{address + 16 * i:#x}  {row.hex(' ', 2):<39}  "
        + "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        for i, row in enumerate(rows)
    )
