"""Interrupt vectors of zero in real mode, where a guest has asked for a BIOS that the platform lacks.

The CPU delivers INT n by itself, and executes from 0000:0000, where the vectors are. A breakpoint there
finds it; the VMM then completes the INT, and says which service was wanted.
"""

from __future__ import annotations

from struct import unpack

from cores.x86.faults import GuestFault
from cores.x86.mmu.paging import Mmu
from cores.x86.registers import CS, MASK16, MASK32, RSP, SS
from cores.x86.system.descriptors import load_real
from cores.x86.virtual_cpu import VirtualCpu

_INT = 0xCD
_FRAME = 6


def take_back(mmu: Mmu, cpu: VirtualCpu) -> bool:
    """Whether the CPU, at 0000:0000, was led there by an INT n with a vector of zero. If so, ``cpu`` is
    put back to that instruction."""
    stack = cpu.segments[SS].base + (cpu.gpr[RSP] & MASK16) & MASK32
    try:
        ip, selector, flags = unpack("<HHH", mmu.read(stack, _FRAME))
        at = ip - 2 & MASK16
        opcode, vector = mmu.read((selector << 4) + at & MASK32, 2)
        pointer = mmu.read(cpu.idtr.base + vector * 4 & MASK32, 4)
    except GuestFault:
        return False
    if opcode != _INT or any(pointer):
        return False
    load_real(cpu, CS, selector)
    cpu.rip = at
    cpu.gpr[RSP] = cpu.gpr[RSP] & ~MASK16 | cpu.gpr[RSP] + _FRAME & MASK16
    cpu.rflags = cpu.rflags & ~MASK16 | flags
    return True
