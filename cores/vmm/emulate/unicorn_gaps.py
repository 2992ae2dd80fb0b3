"""Ordinary instructions that every CPU has and that an emulator refuses or executes wrongly.

Unicorn raises #UD at F6 /1 and F7 /1, which are TEST (SDM vol. 2, appendix A.3 leaves them blank, but
every CPU takes them), and to 0F 0D and 0F 18 with a register operand, which are NOPs (vol. 2,
PREFETCHW, PREFETCHh). It executes wrongly LAHF and SAHF with a REX prefix, RET of 32 KiB and more,
LOCK NEG, SHLD and SHRD of a RIP-relative operand, and POPCNT and CRC32 in 16-bit code
(``Instruction.mistranslated``). A kernel that
interprets KVM's ring 0 executes wrongly NOP with ModRM and the fences (cores/engines/kvm/stepping.py):
here they do nothing, since one virtual CPU sees its own stores in order.
"""

from __future__ import annotations

from cores.vmm.emulate import branches_stack as flow
from cores.vmm.emulate.emulator import Emulator, Handlers
from cores.x86.isa.instruction import Instruction
from cores.x86.registers import ARITHMETIC_FLAGS, MASK32, RAX, Flag

_REFLECTED = 0x82F63B78
_LOW = Flag.SF | Flag.ZF | Flag.AF | Flag.PF | Flag.CF


def test(e: Emulator, insn: Instruction) -> str:
    destination, source = insn.operands
    bits = 8 * insn.operand_size
    result = e.read(insn, destination) & e.read(insn, source) & ((1 << bits) - 1)
    e.cpu.rflags = e.cpu.rflags & ~ARITHMETIC_FLAGS | _result_flags(result, bits)
    return "a test, though the translator does not know the encoding"


def lahf(e: Emulator, insn: Instruction) -> str:
    e.cpu.gpr[RAX] = e.cpu.gpr[RAX] & ~0xFF00 | (e.cpu.rflags & 0xFF) << 8
    return "AH = the low flags"


def sahf(e: Emulator, insn: Instruction) -> str:
    e.cpu.rflags = e.cpu.rflags & ~_LOW | (e.cpu.gpr[RAX] >> 8) & _LOW
    return "the low flags = AH"


def nop(e: Emulator, insn: Instruction) -> str:
    return "nothing"


def neg(e: Emulator, insn: Instruction) -> str:
    bits = 8 * insn.operand_size
    old = e.read(insn, insn.operands[0])
    new = -old & ((1 << bits) - 1)
    e.write(insn, insn.operands[0], new)
    flags = _result_flags(new, bits) | (Flag.CF if old else 0) | (Flag.AF if old & 0xF else 0)
    flags |= Flag.OF if old == 1 << bits - 1 else 0
    e.cpu.rflags = e.cpu.rflags & ~ARITHMETIC_FLAGS | flags
    return "negated"


def double_shift(e: Emulator, insn: Instruction) -> str:
    """SHLD and SHRD. A count above the operand size, whose result is undefined, changes nothing."""
    destination, source, count = insn.operands
    bits = 8 * insn.operand_size
    by = e.read(insn, count) & (63 if bits == 64 else 31)
    if not 0 < by <= bits:
        return "shifted by nothing"
    mask = (1 << bits) - 1
    old, into = e.read(insn, destination), e.read(insn, source)
    if insn.mnemonic == "shld":
        new, carry = ((old << bits | into) << by >> bits) & mask, old >> bits - by & 1
    else:
        new, carry = (into << bits | old) >> by & mask, old >> by - 1 & 1
    e.write(insn, destination, new)
    e.cpu.rflags = e.cpu.rflags & ~ARITHMETIC_FLAGS | _result_flags(new, bits)
    e.cpu.rflags |= (Flag.CF if carry else 0) | (Flag.OF if (old ^ new) >> bits - 1 else 0)
    return "shifted into its operand"


def popcnt(e: Emulator, insn: Instruction) -> str:
    destination, source = insn.operands
    value = e.read(insn, source)
    e.write(insn, destination, value.bit_count())
    e.cpu.rflags = e.cpu.rflags & ~ARITHMETIC_FLAGS | (0 if value else Flag.ZF)
    return "counted the bits"


def crc32(e: Emulator, insn: Instruction) -> str:
    """Reflected, with the polynomial 0x11EDC6F41 (SDM vol. 2, CRC32)."""
    destination, source = insn.operands
    rest = e.read(insn, destination) & MASK32 ^ e.read(insn, source)
    for _ in range(8 * source.size):  # a byte's operand size is that of the prefixes
        rest = rest >> 1 ^ (_REFLECTED if rest & 1 else 0)
    e.write(insn, destination, rest)
    return "a step of the checksum"


def _result_flags(result: int, bits: int) -> int:
    """ZF, SF and PF."""
    flags = Flag.ZF if not result else 0
    flags |= Flag.SF if result >> bits - 1 else 0
    return flags | (Flag.PF if (result & 0xFF).bit_count() % 2 == 0 else 0)


HANDLERS: Handlers = {
    "test": test, "nop": nop, "lahf": lahf, "sahf": sahf, "ret": flow.ret,
    "shld": double_shift, "shrd": double_shift, "neg": neg, "enter": flow.enter,
    "popcnt": popcnt, "crc32": crc32, "lfence": nop, "mfence": nop, "sfence": nop,
}  # fmt: skip
"""Handlers of instructions that an engine has refused or would execute wrongly."""
