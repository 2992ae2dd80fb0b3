"""CLI, STI, STAC, CLAC, PUSHF and POPF: privileged flags of RFLAGS (SDM vol. 1, 3.4.3)."""

from __future__ import annotations

from cores.vmm.emulate.emulator import Emulator, Handlers
from cores.x86.faults import general_protection, undefined_opcode
from cores.x86.isa.instruction import Instruction
from cores.x86.mmu.stack import Stack
from cores.x86.registers import Flag
from cores.x86.system import far_transfers as far


def cli(e: Emulator, insn: Instruction) -> str:
    interrupt_flag_allowed(e)
    e.cpu.rflags &= ~Flag.IF
    return "virtual IF = 0"


def sti(e: Emulator, insn: Instruction) -> str:
    interrupt_flag_allowed(e)
    e.shadows_next = not e.cpu.rflags & Flag.IF
    e.cpu.rflags |= Flag.IF
    return "virtual IF = 1"


def interrupt_flag_allowed(e: Emulator) -> None:
    if e.cpu.cpl > (e.cpu.rflags & Flag.IOPL) >> 12:
        raise general_protection()


def pushf(e: Emulator, insn: Instruction) -> str:
    image = e.cpu.rflags & ~(Flag.RF | Flag.VM)
    e.push(image, insn.operand_size)
    return f"pushed the virtual flags {image:#x}"


def popf(e: Emulator, insn: Instruction) -> str:
    cpu, size = e.cpu, insn.operand_size
    stack = Stack.current(e.mmu)
    (image,) = stack.pop(1, size)
    stack.commit()
    allowed = far.loadable_flags(cpu, size) & ~(Flag.RF | Flag.VIF | Flag.VIP)
    cpu.rflags = (cpu.rflags & ~allowed) | (image & allowed) | Flag.FIXED
    return f"virtual flags = {cpu.rflags:#x}"


def stac(e: Emulator, insn: Instruction) -> str:
    if e.cpu.cpl != 0:
        raise undefined_opcode()
    e.cpu.rflags |= Flag.AC
    return "virtual AC = 1"


def clac(e: Emulator, insn: Instruction) -> str:
    if e.cpu.cpl != 0:
        raise undefined_opcode()
    e.cpu.rflags &= ~Flag.AC
    return "virtual AC = 0"


HANDLERS: Handlers = {
    "cli": cli,
    "sti": sti,
    "pushf": pushf,
    "popf": popf,
    "stac": stac,
    "clac": clac,
}
