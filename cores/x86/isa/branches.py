"""Branch targets, as far as the instruction alone determines them; pure functions on
``Instruction``."""

from __future__ import annotations

from cores.x86.isa.instruction import Immediate, Instruction, MemoryOperand, Register, Sensitivity
from cores.x86.registers import RBP, RSP, Flag

NEAR = ("jmp", "call")
NEW_STACK = 1 << 16
"""More words than any function pops: after RSP is reloaded, the contents of the stack are unknown."""
RSP_ITSELF = Register("rsp", 8), Register("esp", 4)
RBP_ITSELF = Register("rbp", 8), Register("ebp", 4)


def holds(condition: int, flags: int) -> bool:
    """Is one of the sixteen conditions of Jcc true (SDM vol. 1, appendix B)?"""
    less = bool(flags & Flag.SF) != bool(flags & Flag.OF)
    truth = (
        bool(flags & Flag.OF), bool(flags & Flag.CF), bool(flags & Flag.ZF),
        bool(flags & (Flag.CF | Flag.ZF)), bool(flags & Flag.SF), bool(flags & Flag.PF),
        less, less or bool(flags & Flag.ZF),
    )[condition >> 1]  # fmt: skip
    return truth != bool(condition & 1)


def direct_target(insn: Instruction, following: int) -> int | None:
    """The target of a direct near branch, else None. following: address of the next instruction."""
    if not insn.ends_block or insn.sensitivity is not Sensitivity.ORDINARY or not insn.operands:
        return None
    operand = insn.operands[0]
    if isinstance(operand, Immediate) and insn.mnemonic not in ("ret", "enter"):
        return (following + operand.value) & ((1 << 8 * insn.operand_size) - 1)
    return None


def is_indirect(insn: Instruction) -> bool:
    """Whether it is a near JMP, CALL or RET whose target is in a register or in memory."""
    if insn.mnemonic in NEAR:
        return not isinstance(insn.operands[0], Immediate)
    return insn.mnemonic == "ret"


def words_pushed(insn: Instruction, words: int) -> int:
    """The number of words on top of the stack that this code pushed itself, after ``insn``, given the
    number before it (``words``). A RET with any left is a jump; compiled code leaves none."""
    mnemonic, operands = insn.mnemonic, insn.operands
    match mnemonic:
        case "push":
            return words + 1
        case "pusha":
            return words + 8
        case "leave":
            return 0
        case "xchg" if any(o in RSP_ITSELF for o in operands):
            return NEW_STACK
    first = operands[0] if operands else None
    if isinstance(first, Register) and first.name in ("rsp", "esp"):
        match mnemonic:
            case "mov" | "lea":  # back to where RBP kept it, or somewhere else
                source = operands[1]
                kept = source.base if isinstance(source, MemoryOperand) and mnemonic == "lea" else None
                return 0 if source in RBP_ITSELF or kept == RBP else NEW_STACK
            case "pop":
                return NEW_STACK
            case "add":
                return 0
    elif mnemonic == "pop":
        return max(0, words - 1)
    elif isinstance(first, MemoryOperand) and first.base == RSP and insn.access in ("w", "rw"):
        return words + (first.displacement >= 0)
    return words
