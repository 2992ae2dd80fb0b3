"""Denormal operands of SSE arithmetic, of which a translator does not tell (SDM vol. 1, 11.5.2.2)."""

from __future__ import annotations

from cores.x86.isa.instruction import Instruction, Register

_BOTH = ("add", "sub", "mul", "div", "min", "max", "cmp", "comis", "ucomis", "hadd", "hsub", "dpp")
"""Beginnings of the names of operations that read both operands; ADDSUB's is among them."""
_SOURCE = ("sqrt", "cvtss2sd", "cvtsd2ss", "cvtps2pd", "cvtpd2ps")
"""Of those that read the second alone. Conversions from and to integers, rounding and approximations
raise no #D (SDM vol. 2, the instructions' pages)."""
_DAZ = 0x40
_XMM_AT, _MXCSR_AT = 160, 24


def may_read_denormal(insn: Instruction) -> bool:
    """Whether it is one of the instructions that raise #D for a denormal operand."""
    return insn.mnemonic.startswith(_BOTH + _SOURCE)


def reads_denormal(insn: Instruction, image: bytes, memory: bytes) -> bool:
    """Whether the instruction raises #D, masked or not. image: the state before it. memory: the memory
    operand, b"" for none. An element of which either operand is a NaN does not count."""
    name = insn.mnemonic
    if image[_MXCSR_AT] & _DAZ or not may_read_denormal(insn):
        return False
    width = 4 if _suffix(name)[-1] == "s" else 8
    operands = [_value(operand, image) for operand in insn.operands[:2]]
    values = [memory if value is None else value for value in operands]
    if name.startswith(_SOURCE):
        values = values[1:]
    length = width if _suffix(name)[0] == "s" else min(len(value) for value in values)
    if name == "cvtps2pd":
        length = 8
    for at in range(0, min(length, *(len(value) for value in values)), width):
        kinds = [_kind(value[at : at + width]) for value in values]
        if "denormal" in kinds and "nan" not in kinds:
            return True
    return False


def _suffix(name: str) -> str:
    """The format of the operands: "ss", "sd", "ps" or "pd"; of a conversion, that of its source."""
    return name[3:5] if name.startswith("cvt") else name[-2:]


def _value(operand: object, image: bytes) -> bytes | None:
    if isinstance(operand, Register) and operand.name.startswith("xmm"):
        at = _XMM_AT + 16 * int(operand.name[3:])
        return image[at : at + 16]
    return None


def _kind(element: bytes) -> str:
    fraction_bits, largest = (23, 0xFF) if len(element) == 4 else (52, 0x7FF)
    word = int.from_bytes(element, "little")
    if not word & (1 << fraction_bits) - 1:
        return "number"
    return {0: "denormal", largest: "nan"}.get(word >> fraction_bits & largest, "number")
