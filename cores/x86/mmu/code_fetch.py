"""Instruction fetches from device memory: refused, since this platform's devices hold no code."""

from __future__ import annotations

from cores.x86.faults import Unsupported
from cores.x86.isa.instruction import Instruction
from cores.x86.mmu.paging import PAGE, Mmu
from cores.x86.registers import MASK64
from cores.x86.virtual_cpu import VirtualCpu


def demand_ram(insn: Instruction, cpu: VirtualCpu, mmu: Mmu) -> None:
    """Raises Unsupported if a byte of the instruction at RIP is not in RAM."""
    end = cpu.rip + insn.length - 1 & MASK64
    for rip in (cpu.rip, end) if (cpu.rip ^ end) & -PAGE else (cpu.rip,):
        if not mmu.memory.is_ram(mmu.locate(rip)):
            raise no_code(rip)


def no_code(rip: int) -> Unsupported:
    """The error for an instruction fetch from an address without RAM."""
    return Unsupported(
        f"the guest executes a device's memory, at {rip:#x}: this platform's devices hold no code"
    )
