"""Help for REP STOS in free runs of Unicorn.

Each iteration is a block of translated code, with a hook, and takes 45 ns: an operating system that
fills its memory at boot spends seconds there. Here the iterations of one page are made at once. The
first iteration in a page is Unicorn's own: it checks the rights, raises the faults, and sets A and D.
So is the last of all, which ends the instruction. Stores over translated code are left to Unicorn.
"""

from __future__ import annotations

import struct

from cores.engines.unicorn.capi import RAX, RCX, RDI, RFLAGS
from cores.engines.unicorn.cpu import PAGE, UnicornCpu
from cores.engines.unicorn.quick_fill import FEW, REGION, QuickFill, Target
from cores.pc.physical_memory import PhysicalMemory
from cores.x86.faults import GuestFault
from cores.x86.isa.instruction import Instruction
from cores.x86.mmu.neighbours import LeafTable, leaf_table
from cores.x86.mmu.paging import paging_format, walk
from cores.x86.mmu.paging_formats import ADDRESS, DIRTY, PRESENT
from cores.x86.registers import ES, MASK64, Flag
from cores.x86.virtual_cpu import VirtualCpu

_DF = int(Flag.DF)
_ENTRY = {4: struct.Struct("<I").unpack_from, 8: struct.Struct("<Q").unpack_from}
_STORED_TO = int(PRESENT | DIRTY)


def may_help(insn: Instruction) -> bool:
    """Is it a REP STOS whose addresses have the width of the code?"""
    return insn.mnemonic == "stos" and bool(insn.repeat) and insn.address_size * 8 == insn.bits > 16


class BulkStore:
    """Makes iterations for one CPU."""

    def __init__(self, core: UnicornCpu, memory: PhysicalMemory, quick: QuickFill | None) -> None:
        self._core, self._memory, self._quick = core, memory, quick
        self._read = core.unicorn.reader(RCX, RDI, RAX, RFLAGS)
        self._write = core.unicorn.writer(RCX, RDI)
        self._leaf: LeafTable | None = None
        self._region = self._last = -1

    def forget(self) -> None:
        """A run begins: translations may be others."""
        self._region = self._last = -1
        self.code_changed()

    def code_changed(self) -> None:
        """There is other translated code than before."""
        if self._quick is not None:
            self._quick.leave_all()

    def _frame(self, cpu: VirtualCpu, page: int) -> int | None:
        """The physical address of a page that has just been stored to. The page table used last is
        kept, as a CPU keeps it (SDM vol. 3, 4.10.3)."""
        if page >> REGION != self._region:
            self._leaf = leaf_table(self._memory, cpu, page)
            self._region = page >> REGION
        leaf = self._leaf
        if leaf is None:
            return self._core.place(cpu, page)
        at = leaf.table + (page >> 12 & PAGE // leaf.width - 1) * leaf.width
        entry: int = _ENTRY[leaf.width](self._memory.view, at)[0]
        return entry & ADDRESS if entry & _STORED_TO == _STORED_TO else self._core.place(cpu, page)

    def store(self, insn: Instruction, rep: int) -> bool:
        """Before an iteration of ``insn`` that is not its first: make this one, and what follows in the
        same page, but for the last of all. rep: its linear address. True: none of the others needs
        help."""
        size = insn.operand_size
        mask = MASK64 >> 64 - insn.bits
        counter, pointer, value, flags = self._read()
        if flags & _DF:
            return True  # downwards: all of them are Unicorn's
        count, at = counter & mask, pointer & mask
        within = at % PAGE
        most = min(count - 1, (PAGE - within) // size)
        if most < FEW or within < size:
            return count == 1
        cpu = self._core.cpu
        if insn.bits != 64 and cpu.segments[ES].base:
            return False
        frame, length = self._frame(cpu, at - within), most * size
        if frame is None or not self._memory.is_ram(frame + within, length):
            return False
        gpa = frame + within
        if self._core.has_code(gpa, length):
            return False
        self._memory.view[gpa : gpa + length] = value.to_bytes(8, "little")[:size] * most
        self._write(count - most, at + length & mask)
        if self._quick is not None and self._last == self._region:
            self._aim(self._quick, insn, rep, at - within, frame)
        self._last = self._region
        return count - most == 1

    def _aim(self, quick: QuickFill, insn: Instruction, rep: int, page: int, frame: int) -> None:
        """Have the machine code help in the region of ``page`` from now on, if it can."""
        frames = range(frame >> REGION << REGION, (frame >> REGION) + 1 << REGION)
        if not self._memory.is_ram(frames.start, len(frames)):
            return
        if self._core.has_code_in(range(frames.start // PAGE, frames.stop // PAGE)):
            return
        mask = MASK64 >> 64 - insn.bits
        target = Target(rep, insn.operand_size, mask, page >> REGION, frame >> REGION, -1, 8)
        if self._leaf is not None:
            target = target._replace(table=self._leaf.table, width=self._leaf.width)
        elif not self._is_large(page, len(frames)):
            return
        quick.aim(target)

    def _is_large(self, page: int, size: int) -> bool:
        """Is it part of a page of ``size`` bytes or more, or not paged? Not where the tables are no
        part of the guest's memory (cores/engines/portable/page_tables.py)."""
        cpu = self._core.cpu
        form = paging_format(cpu)
        if form is None:
            return True
        if not self._memory.is_ram(cpu.cr3 & form.root, PAGE):
            return False
        try:
            return walk(self._memory, cpu, page, mark=False).size >= size
        except GuestFault:
            return False
