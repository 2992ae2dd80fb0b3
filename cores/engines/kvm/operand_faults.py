"""The fault that one of an instruction's operands raises, computed from the state before it."""

from __future__ import annotations

from cores.x86.faults import GuestFault
from cores.x86.isa.accesses import next_accesses
from cores.x86.isa.instruction import Instruction
from cores.x86.isa.operand_checks import address_fault, check_segments
from cores.x86.mmu.paging import Mmu
from cores.x86.registers import MASK64, canonical
from cores.x86.virtual_cpu import VirtualCpu


def operand_fault(mmu: Mmu, cpu: VirtualCpu, insn: Instruction) -> GuestFault | None:
    """The fault of the first address of ``insn`` that the CPU refuses, None where it accepts all. Of a
    REP instruction the next iteration counts."""
    try:
        if insn.bits != 64:
            check_segments(insn, cpu)
        for gva, length, write in next_accesses(insn, cpu):
            last = (gva + length - 1) & MASK64
            if not canonical(gva) or not canonical(last):
                return address_fault(insn, cpu)
            mmu.translate(gva, write=write)
            mmu.translate(last, write=write)
    except GuestFault as fault:
        return fault
    return None
