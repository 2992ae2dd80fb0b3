"""What a translator forgets, and what it says wrongly: Unicorn's faults made a CPU's.

QEMU translates what programs do, and takes their checks lightly: no #AC, no #GP for a misaligned SSE
operand, #GP in place of #SS, a page fault at the wrong half of a store. The VMM asks here before it
enters such an engine (in exact mode), and when one has faulted. A real CPU needs none of this.
"""

from __future__ import annotations

from cores.pc.physical_memory import PhysicalMemory
from cores.x86.faults import GuestFault, Unsupported
from cores.x86.isa.accesses import next_accesses
from cores.x86.isa.instruction import Instruction
from cores.x86.isa.operand_checks import (
    address_fault,
    beyond_canonical,
    check_operands,
    mistranslated,
)
from cores.x86.mmu.paging import PAGE, Mmu
from cores.x86.registers import MASK64, PageFault, Vector
from cores.x86.virtual_cpu import VirtualCpu


class Translated:
    """Corrects one machine's translating engine."""

    def __init__(self, cpu: VirtualCpu, mmu: Mmu, memory: PhysicalMemory) -> None:
        self._cpu = cpu
        self._mmu = mmu
        self._memory = memory

    def may_run(self, insn: Instruction) -> bool:
        """Would it be executed as the SDM says? Raises the GuestFault that the engine would forget."""
        if insn.access or insn.implicit:
            check_operands(insn, self._cpu, self._mmu.translate)
        return not mistranslated(insn)

    def demand_code(self, insn: Instruction) -> None:
        """Raises Unsupported for an instruction of which some byte is in no RAM: Unicorn says #UD."""
        demand_code(insn, self._cpu, self._mmu, self._memory)

    def fault(
        self, insn: Instruction, vector: int, error: int | None, address: int | None
    ) -> GuestFault:
        """What a CPU would have said where the engine says this."""
        cpu = self._cpu
        if vector == Vector.UD:
            self.demand_code(insn)
        elif vector == Vector.GP and error == 0:
            return address_fault(insn, cpu)  # #SS, or #GP
        elif vector == Vector.PF and address is not None and beyond_canonical(insn, cpu, address):
            return address_fault(insn, cpu)
        elif vector == Vector.PF and error is not None and address is not None:
            return self._page_fault(insn, error, address)
        return GuestFault(vector, error, address)

    def _page_fault(self, insn: Instruction, error: int, address: int) -> GuestFault:
        """A CPU asks for the right to write before it reads what it will write back (ADD [m], r), and
        for the first of two pages first; a translator faults on the read, or on the second page."""
        for gva, length, store in next_accesses(insn, self._cpu):
            if store and gva <= address < gva + length:
                error |= PageFault.W
                if (gva ^ address) & -PAGE:
                    try:
                        self._mmu.translate(gva, write=True)
                    except GuestFault as first:
                        return first
        return GuestFault(Vector.PF, error, address)


def demand_code(insn: Instruction, cpu: VirtualCpu, mmu: Mmu, memory: PhysicalMemory) -> None:
    """Raises Unsupported for an instruction of which some byte is in no RAM."""
    for rip in (cpu.rip, cpu.rip + insn.length - 1):
        if not memory.is_ram(mmu.translate(rip & MASK64, execute=True)):
            raise no_code(rip)


def no_code(rip: int) -> Unsupported:
    """An ordinary instruction was fetched from where no RAM is."""
    return Unsupported(
        f"the guest executes a device's memory, at {rip:#x}: this platform's devices hold no code"
    )
