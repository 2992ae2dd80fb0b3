"""Ordinary instructions that every CPU has, and Unicorn refuses or gets wrong.

It says #UD to F6 /1 and F7 /1, which are TEST (SDM vol. 2, appendix A.3 leaves them blank, but every
CPU takes them), and to 0F 0D and 0F 18 with a register operand, which are NOPs (vol. 2, PREFETCHW,
PREFETCHh). LAHF and SAHF with a REX prefix, and RET of 32 KiB and more, it executes wrongly
(``operand_checks.mistranslated``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..x86.faults import general_protection
from ..x86.instruction import Instruction
from ..x86.registers import ARITHMETIC_FLAGS, MASK64, RAX, RSP, Flag, canonical

if TYPE_CHECKING:
    from ..emulator import Emulator, Handlers


_LOW = Flag.SF | Flag.ZF | Flag.AF | Flag.PF | Flag.CF


def test(e: Emulator, insn: Instruction) -> str:
    destination, source = insn.operands
    bits = 8 * insn.operand_size
    result = e.read(insn, destination) & e.read(insn, source) & ((1 << bits) - 1)
    flags = Flag.ZF if not result else 0
    flags |= Flag.SF if result >> bits - 1 else 0
    flags |= Flag.PF if (result & 0xFF).bit_count() % 2 == 0 else 0
    e.cpu.rflags = e.cpu.rflags & ~ARITHMETIC_FLAGS | flags
    return "a test, though the translator does not know the encoding"


def lahf(e: Emulator, insn: Instruction) -> str:
    e.cpu.gpr[RAX] = e.cpu.gpr[RAX] & ~0xFF00 | (e.cpu.rflags & 0xFF) << 8
    return "AH = the low flags"


def sahf(e: Emulator, insn: Instruction) -> str:
    e.cpu.rflags = e.cpu.rflags & ~_LOW | (e.cpu.gpr[RAX] >> 8) & _LOW
    return "the low flags = AH"


def ret(e: Emulator, insn: Instruction) -> str:
    rsp = e.cpu.gpr[RSP]
    target = int.from_bytes(e.mmu.read(rsp, 8), "little")
    if not canonical(target):
        raise general_protection()
    e.cpu.gpr[RSP] = (rsp + 8 + (e.read(insn, insn.operands[0]) & 0xFFFF)) & MASK64
    e.next_rip = target
    return f"returned to {target:#x}"


def nop(e: Emulator, insn: Instruction) -> str:
    return "nothing"


HANDLERS: Handlers = {"test": test, "nop": nop, "lahf": lahf, "sahf": sahf, "ret": ret}
"""Called when an engine that translates has refused one of these, or would get it wrong."""
