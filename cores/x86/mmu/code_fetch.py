"""Code can be fetched from RAM alone: this platform's devices hold none."""

from __future__ import annotations

from cores.x86.faults import Unsupported
from cores.x86.isa.instruction import Instruction
from cores.x86.mmu.paging import PAGE, Mmu
from cores.x86.registers import MASK64
from cores.x86.virtual_cpu import VirtualCpu


def demand_ram(insn: Instruction, cpu: VirtualCpu, mmu: Mmu) -> None:
    """Raises Unsupported for an instruction at RIP of which some byte is in no RAM."""
    end = cpu.rip + insn.length - 1 & MASK64
    for rip in (cpu.rip, end) if (cpu.rip ^ end) & -PAGE else (cpu.rip,):
        if not mmu.memory.is_ram(mmu.locate(rip)):
            raise no_code(rip)


def no_code(rip: int) -> Unsupported:
    """An instruction was fetched from where no RAM is."""
    return Unsupported(
        f"the guest executes a device's memory, at {rip:#x}: this platform's devices hold no code"
    )
