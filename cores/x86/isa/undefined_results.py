"""Results that the architecture leaves undefined, and the values that the platform gives them.

The real cores differ here, and each is right: after SHL by 3 an Intel CPU, an AMD CPU and Unicorn may
leave three values of OF and AF. So that cores can be compared, the platform defines them: undefined
flags are 0 after the instruction, undefined destinations keep their old value (contract.md). Flags that
are *unchanged* by definition, as by a shift of count 0, stay.

Sources: SDM vol. 2, "Flags Affected" of each instruction; vol. 1, appendix A.
"""

from __future__ import annotations

from typing import Protocol

from cores.x86.isa.instruction import Immediate, Instruction, MemoryOperand, Register
from cores.x86.registers import MASK64, RAX, RCX, Flag, register_number


class GeneralState(Protocol):
    """The part of a CPU's state that is needed here; ``VirtualCpu`` is one."""

    gpr: list[int]
    rflags: int


CF, PF, AF, ZF, SF, OF = (
    Flag.CF, Flag.PF, Flag.AF, Flag.ZF, Flag.SF, Flag.OF,
)  # fmt: skip
_ALL = CF | PF | AF | ZF | SF | OF

_FLAGS = {
    **dict.fromkeys(("and", "or", "xor", "test"), AF),
    **dict.fromkeys(("mul", "imul"), SF | ZF | AF | PF),
    **dict.fromkeys(("div", "idiv"), _ALL),
    **dict.fromkeys(("bsf", "bsr"), CF | OF | SF | AF | PF),
    **dict.fromkeys(("bt", "bts", "btr", "btc"), OF | SF | AF | PF),
    **dict.fromkeys(("aaa", "aas"), OF | SF | ZF | PF),
    **dict.fromkeys(("daa", "das"), OF),
    **dict.fromkeys(("aam", "aad"), OF | AF | CF),
    **dict.fromkeys(("fcomi", "fcompi", "fucomi", "fucompi"), OF | SF | AF),  # cleared by CPUs
}
"""Flags that are undefined after the instruction, whatever its operands."""

_RULES = {
    **dict.fromkeys(("shl", "shr", "sar"), "shift"),
    **dict.fromkeys(("rol", "ror", "rcl", "rcr"), "rotate"),
    **dict.fromkeys(("shld", "shrd"), "double shift"),
    **dict.fromkeys(("bsf", "bsr"), "bit scan"),
}


_MMX = ("emms", "cvtpi2ps", "cvtpi2pd")
"""MMX instructions that need not have an MMX operand."""
_COMPARISONS = frozenset({
    "fcom", "fcomp", "fcompp", "fucom", "fucomp", "fucompp", "ficom", "ficomp", "ftst",
    "fcomi", "fcompi", "fucomi", "fucompi",
})  # fmt: skip
"""x87 comparisons: AMD's CPUs deliver a result after an unmasked exception, too."""
_APPROXIMATIONS = ("rcpps", "rcpss", "rsqrtps", "rsqrtss")
"""The VMM computes them (cores/vmm/emulate/approximations.py)."""


def classify(mnemonic: str, operands: tuple[object, ...], operand_size: int) -> tuple[int, str]:
    """(``Instruction.undefined``, ``Instruction.undefined_rule``) of an instruction. The rule is
    "fixed" where only the flags matter, and "" when nothing is undefined. "mmx", "comparison": the VMM
    has to change x87's state as the platform's CPU does (``x87_environment.after_mmx``,
    ``after_comparison``)."""
    flags, rule = _FLAGS.get(mnemonic, 0), _RULES.get(mnemonic, "")
    if mnemonic == "bswap" and operand_size == 2:
        rule = "keep"
    if mnemonic == "cmpxchg" and operand_size == 4:
        rule = "compare"
    if mnemonic == "mov" and any(
        isinstance(o, Register) and o.name[:2] in ("cr", "dr") for o in operands
    ):
        flags = _ALL  # SDM vol. 2, MOV to/from control and debug registers
    if mnemonic in _APPROXIMATIONS:
        rule = "approximation"
    elif mnemonic in _COMPARISONS:
        rule = "comparison"
    elif mnemonic in _MMX or any(isinstance(o, Register) and o.name[:2] == "mm" for o in operands):
        rule = "mmx"
    return flags, rule or ("fixed" if flags else "")


def settle(insn: Instruction, gpr: list[int], rflags: int, cpu: GeneralState) -> None:
    """Set the undefined results of ``insn`` in ``cpu``, the state after it, to the platform's values.

    gpr, rflags: the general registers and RFLAGS before the instruction. Call it for completed
    instructions only; it costs one test when nothing is undefined."""
    rule = insn.undefined_rule
    if not rule or rule == "mmx":
        return
    undefined = insn.undefined
    if rule == "shift":
        undefined = _after_shift(insn, _count(insn, gpr))
    elif rule == "rotate":
        count = _count(insn, gpr)
        undefined = OF if count > 1 else 0
    elif rule == "double shift":
        undefined = _after_double_shift(insn, gpr, cpu)
    elif rule == "bit scan":
        if cpu.rflags & ZF:
            _keep(insn, gpr, cpu)
    elif rule == "keep":
        _keep(insn, gpr, cpu)
    elif rule == "compare":
        _after_compare(insn, gpr, cpu)
    cpu.rflags &= ~undefined


def keeps_memory(insn: Instruction, gpr: list[int]) -> bool:
    """Whether ``insn`` will leave its memory operand undefined, so that the caller has to save the
    operand before it and restore it after. Only SHLD and SHRD of 16 bits by more than 16 do."""
    return (
        insn.undefined_rule == "double shift"
        and insn.operand_size == 2
        and isinstance(insn.operands[0], MemoryOperand)
        and _count(insn, gpr) > 16
    )


def _count(insn: Instruction, gpr: list[int]) -> int:
    """The masked count of a shift or rotate: five bits, six for 64-bit operands."""
    last = insn.operands[-1] if len(insn.operands) > 1 else None
    mask = 0x3F if insn.operand_size == 8 else 0x1F
    if isinstance(last, Immediate):
        return last.value & mask
    return gpr[RCX] & mask if last is not None else 1


def _after_shift(insn: Instruction, count: int) -> int:
    if count == 0:
        return 0
    undefined = AF if count == 1 else AF | OF
    if insn.mnemonic != "sar" and count >= insn.operand_size * 8:
        undefined |= CF
    return undefined


def _after_double_shift(insn: Instruction, gpr: list[int], cpu: GeneralState) -> int:
    count = _count(insn, gpr)
    if count == 0:
        return 0
    if count > insn.operand_size * 8:
        _keep(insn, gpr, cpu)
        return _ALL
    return AF if count == 1 else AF | OF


def _after_compare(insn: Instruction, gpr: list[int], cpu: GeneralState) -> None:
    """CMPXCHG of 32 bits: an operand that keeps its value is not written, and so not zero-extended.
    Unicorn writes it, CPUs do not (SDM vol. 2 can be read either way)."""
    destination = insn.operands[0]
    written = register_number(destination.name) if isinstance(destination, Register) else None
    if not cpu.rflags & ZF:
        _keep(insn, gpr, cpu)
    elif written != RAX:
        cpu.gpr[RAX] = gpr[RAX]


def _keep(insn: Instruction, gpr: list[int], cpu: GeneralState) -> None:
    """Restore the destination register's old value, all 64 bits of it."""
    destination = insn.operands[0]
    if isinstance(destination, Register):
        number = register_number(destination.name)
        cpu.gpr[number] = gpr[number] & MASK64
