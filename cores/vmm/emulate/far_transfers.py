"""Far transfers: CALL, JMP and RET between segments and rings, INT, IRET, SYSCALL and SYSRET (SDM
vol. 3, 5.8 and ch. 6)."""

from __future__ import annotations

from cores.vmm.emulate import branches_stack as flow
from cores.vmm.emulate.emulator import Emulator, Handlers
from cores.x86.isa.instruction import Immediate, Instruction
from cores.x86.registers import MASK32, Flag, Vector
from cores.x86.system import far_transfers as far
from cores.x86.system import interrupts


def far_target(e: Emulator, insn: Instruction) -> tuple[int, int]:
    """(offset, selector): in the instruction itself, outside 64-bit code, or in memory."""
    first = insn.operands[0]
    if isinstance(first, Immediate):
        return e.read(insn, insn.operands[1]) & MASK32, first.value & 0xFFFF
    return e.far_pointer(insn, first)


def far_call(e: Emulator, insn: Instruction) -> str:
    offset, selector = far_target(e, insn)
    far.far_call(e.mmu, e.cpu, selector, offset, e.next_rip, insn.operand_size)
    return e.arrived()


def far_jump(e: Emulator, insn: Instruction) -> str:
    offset, selector = far_target(e, insn)
    far.far_jump(e.mmu, e.cpu, selector, offset)
    return e.arrived()


def far_return(e: Emulator, insn: Instruction) -> str:
    release = e.read(insn, insn.operands[0]) & 0xFFFF if insn.operands else 0
    far.far_return(e.mmu, e.cpu, insn.operand_size, release)
    return e.arrived()


def iret(e: Emulator, insn: Instruction) -> str:
    far.interrupt_return(e.mmu, e.cpu, insn.operand_size)
    return e.arrived()


def syscall(e: Emulator, insn: Instruction) -> str:
    far.syscall(e.cpu, e.next_rip)
    return e.arrived()


def sysret(e: Emulator, insn: Instruction) -> str:
    far.sysret(e.cpu, insn.operand_size)
    return e.arrived()


def int_(e: Emulator, insn: Instruction) -> str:
    return software_interrupt(e, e.read(insn, insn.operands[0]) & 0xFF, software=True)


def int3(e: Emulator, insn: Instruction) -> str:
    return software_interrupt(e, Vector.BP, software=True)


def into(e: Emulator, insn: Instruction) -> str:
    if not e.cpu.rflags & Flag.OF:
        return "nothing: OF is clear"
    return software_interrupt(e, Vector.OF, software=True)


def int1(e: Emulator, insn: Instruction) -> str:
    return software_interrupt(e, Vector.DB, software=False)


def software_interrupt(e: Emulator, vector: int, *, software: bool) -> str:
    interrupts.deliver(e.mmu, e.cpu, vector, None, software=software, return_rip=e.next_rip)
    return e.arrived()


def swapgs(e: Emulator, insn: Instruction) -> str:
    far.swapgs(e.cpu)
    return f"virtual GS base = {e.cpu.segments[5].base:#x}"


HANDLERS: Handlers = {
    "syscall": syscall,
    "sysret": sysret,
    "int": int_,
    "int3": int3,
    "into": into,
    "int1": int1,
    "swapgs": swapgs,
    "iret": iret,
    "lcall": far_call,
    "ljmp": far_jump,
    "retf": far_return,
    "jmp": flow.jump,
    "call": flow.call,
}
