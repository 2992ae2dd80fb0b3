"""Instruction fetch: from CS:RIP to a decoded instruction, in every mode.

Fetches from device memory are refused, since this platform's devices hold no code.
"""

from __future__ import annotations

from cores.x86.faults import Unsupported, undefined_opcode
from cores.x86.isa.decoder import Truncated, decode, known
from cores.x86.isa.instruction import Instruction
from cores.x86.mmu.paging import LONGEST_INSTRUCTION, PAGE, Mmu
from cores.x86.mmu.segmentation import check_fetch, code_address
from cores.x86.mode import CODE_64, code_bits, is_long
from cores.x86.registers import CS, MASK64, Efer
from cores.x86.virtual_cpu import VirtualCpu

_LMA = Efer.LMA


def code_at(cpu: VirtualCpu, mmu: Mmu, rip: int) -> bytes:
    """The up to 15 bytes at CS:``rip`` that the CPU may execute. Raises the GuestFault of the first
    one."""
    if is_long(cpu):
        return mmu.fetch(rip)
    check_fetch(cpu, rip, 1)
    code = mmu.fetch(code_address(cpu, rip))
    room = cpu.segments[CS].limit - rip + 1
    return code if room >= LONGEST_INSTRUCTION else code[:room]


def instruction_at(cpu: VirtualCpu, mmu: Mmu, rip: int) -> Instruction:
    """The instruction at CS:``rip``. Raises the GuestFault of a fetch: #GP(0) beyond CS's limit, #PF,
    #UD."""
    if cpu.efer & _LMA and cpu.segments[CS].attributes & CODE_64:
        insn = known(mmu.fetch(rip))  # the usual case, by a look-up
        if insn is not None:
            return insn
    code = code_at(cpu, mmu, rip)
    try:
        return decode(code, code_bits(cpu))
    except Truncated:
        beyond = rip + len(code)
        check_fetch(cpu, beyond, 1)
        mmu.translate(code_address(cpu, beyond & MASK64), execute=True)  # raises its page fault
        raise undefined_opcode() from None


def demand_ram(insn: Instruction, cpu: VirtualCpu, mmu: Mmu) -> None:
    """Raises Unsupported if a byte of the instruction at RIP is not in RAM."""
    first = code_address(cpu, cpu.rip)
    end = first + insn.length - 1 & MASK64
    for gva in (first, end) if (first ^ end) & -PAGE else (first,):
        if not mmu.memory.is_ram(mmu.locate(gva)):
            raise no_code(gva)


def no_code(gva: int) -> Unsupported:
    """The error for an instruction fetch from an address without RAM."""
    return Unsupported(
        f"the guest executes a device's memory, at {gva:#x}: this platform's devices hold no code"
    )
