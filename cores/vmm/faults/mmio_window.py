"""MMIO windows: scratch pages through which any instruction can touch a device on a trap core.

On real hardware the access goes out on the bus, whatever instruction made it. A VMM at ring 3 gets a
fault instead, and would have to emulate each of some thousand instructions. So the VMM maps a scratch
page where the device should be, with those of the device's bytes that the instruction accesses, lets
the CPU execute that one instruction, and passes what was stored to the device. Only MOV, which needs
no CPU, is done without one (cores/vmm/device_move.py).
"""

from __future__ import annotations

from typing import Protocol

from cores.deadline import Deadline
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.ram import SCRATCH_PAGES
from cores.x86.isa.accesses import bus_accesses
from cores.x86.isa.instruction import Instruction
from cores.x86.isa.rep_step import iterations_left
from cores.x86.mmu.paging import PAGE, Mmu
from cores.x86.registers import MASK64, Flag
from cores.x86.virtual_cpu import VirtualCpu

_HALF = 1 << 63


class Opener(Protocol):
    """Maps the scratch pages: ``ShadowPages``, or an operand that stands elsewhere."""

    def open(self, gva: int, scratch: int) -> bool: ...

    def close(self, gva: int) -> None: ...


class MmioWindow:
    """Scratch pages that stand in for device pages while one instruction runs."""

    def __init__(
        self,
        shadow: Opener,
        memory: PhysicalMemory,
        mmu: Mmu,
        cpu: VirtualCpu,
        insn: Instruction,
    ) -> None:
        self.shadow = shadow
        self.memory = memory
        self.mmu = mmu
        self.insn = insn
        self.cpu = cpu
        self.detail = ""
        self._pages: dict[int, tuple[int, int]] = {}  # GVA of the page -> its GPA, its scratch page
        self._begin()

    def _begin(self) -> None:
        self.touching = bus_accesses(self.insn, self.cpu)
        self.count = iterations_left(self.insn, self.cpu)

    def open(self, address: int) -> bool:
        """Map a scratch page with the device's bytes at ``address``; False where none can be mapped."""
        if len(self._pages) == SCRATCH_PAGES:  # a REP over many pages: its finished iterations count
            self.close(self.cpu, completed=False)
            self._pages.clear()
            self._begin()
        page = address & -PAGE
        gpa = self.mmu.translate(page)
        scratch = self.memory.ram.scratch + PAGE * len(self._pages)
        for gva, length, _ in self.touching:
            begin = (gva - page + _HALF & MASK64) - _HALF  # from the page's first byte on
            start, end = max(begin, 0), min(begin + length, PAGE)
            if start < end:
                there = self.memory.device_peek(gpa + start, end - start)
                self.memory.view[scratch + start : scratch + end] = there
        self._pages[page] = gpa, scratch
        return self.shadow.open(page, scratch)

    def close(self, cpu: VirtualCpu, *, completed: bool) -> None:
        """Unmap the pages, and make each access that the instruction made on the device: all of them,
        or those of the iterations that a REP instruction finished before it faulted."""
        insn, deadline = self.insn, Deadline()
        iterations = self.count - iterations_left(insn, cpu) if insn.repeat else int(completed)
        for gva, length, is_write in self.touching if iterations else ():
            unit = insn.operand_size if insn.repeat else length
            for at in self._units(gva, length, unit, iterations, cpu):
                deadline.check()
                self._access(at, unit, is_write)
        for page in self._pages:
            self.shadow.close(page)

    def _units(self, gva: int, length: int, unit: int, iterations: int, cpu: VirtualCpu) -> range:
        """The linear addresses accessed, in the instruction's order of iterations."""
        if not self.insn.repeat:
            return range(gva, gva + 1)
        if cpu.rflags & Flag.DF:  # from the top down
            top = gva + length - unit
            return range(top, top - iterations * unit, -unit)
        return range(gva, gva + iterations * unit, unit)

    def _access(self, gva: int, length: int, is_write: bool) -> None:
        while length:
            gva &= MASK64
            here = min(length, PAGE - gva % PAGE)
            if (gva & -PAGE) in self._pages:
                gpa, scratch = self._pages[gva & -PAGE]
                at = gva % PAGE
                if is_write:
                    data = bytes(self.memory.view[scratch + at : scratch + at + here])
                    self.memory.device_write(gpa + at, data)
                else:
                    self.memory.device_read(gpa + at, here)
                self.detail = self.memory.describe(gpa + at, here, is_write=is_write)
            gva += here
            length -= here
