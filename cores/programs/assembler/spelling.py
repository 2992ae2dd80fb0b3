"""Spellings of one instruction: the user's, and Capstone's."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cores.programs.assembler import dialect, strings
from cores.programs.assembler.operands import GENERAL, Memory, Operand, Register, sized

_CONDITIONS = {
    "c": "b", "nae": "b", "nc": "ae", "nb": "ae", "z": "e", "nz": "ne", "na": "be", "nbe": "a",
    "nge": "l", "nl": "ge", "ng": "le", "nle": "g", "pe": "p", "po": "np",
}  # fmt: skip
_CONDITIONAL = re.compile(r"(j|set|cmov)(n?[abceglnopsz]{1,2}|p[eo])$")
_PREDICATE = re.compile(r"(v?cmp)(?:eq|lt|le|unord|neq|nlt|nle|ord)([sp][sd])$")
_PRODUCT = re.compile(r"(v?pclmul)[lh]q[lh]q(dq)$")
_NAMES = {
    "sal": "shl", "retn": "ret", "retq": "ret", "wait": "fwait", "icebp": "int1", "movabs": "mov",
    "xlat": "xlatb", "pushw": "push", "pushd": "push", "pushl": "push", "pushq": "push",
    "fcompi": "fcomip", "fucompi": "fucomip",
}  # fmt: skip

_X87 = {
    "fadd": (0xD8C0, 0xDCC0), "fmul": (0xD8C8, 0xDCC8), "fcom": (0xD8D0,), "fcomp": (0xD8D8,),
    "fsub": (0xD8E0, 0xDCE8), "fsubr": (0xD8E8, 0xDCE0), "fdiv": (0xD8F0, 0xDCF8),
    "fdivr": (0xD8F8, 0xDCF0), "faddp": (0xDEC0,), "fmulp": (0xDEC8,), "fsubrp": (0xDEE0,),
    "fsubp": (0xDEE8,), "fdivrp": (0xDEF0,), "fdivp": (0xDEF8,), "fld": (0xD9C0,), "fxch": (0xD9C8,),
    "fst": (0xDDD0,), "fstp": (0xDDD8,), "ffree": (0xDDC0,), "ffreep": (0xDFC0,), "fucom": (0xDDE0,),
    "fucomp": (0xDDE8,), "fcmovb": (0xDAC0,), "fcmove": (0xDAC8,), "fcmovbe": (0xDAD0,),
    "fcmovu": (0xDAD8,), "fcmovnb": (0xDBC0,), "fcmovne": (0xDBC8,), "fcmovnbe": (0xDBD0,),
    "fcmovnu": (0xDBD8,), "fucomi": (0xDBE8,), "fcomi": (0xDBF0,), "fucomip": (0xDFE8,),
    "fucompi": (0xDFE8,), "fcomip": (0xDFF0,), "fcompi": (0xDFF0,),
}  # fmt: skip
"""x87 instructions between registers: the opcode to which the number of the other register is added,
with ST(0) first; and where they differ, with ST(0) second (SDM vol. 2, appendix A.5)."""


def _canonical(word: str) -> str:
    word = dialect.RENAMED.get(word, word)
    if match := _CONDITIONAL.match(word):
        return match[1] + _CONDITIONS.get(match[2], match[2])
    return _NAMES.get(word, word)


def same(asked: str, mnemonic: str, text: str, operands: Sequence[Operand]) -> bool:
    """Whether the decoded instruction is the requested one. mnemonic, text: of the decoded one, its
    prefixes before the mnemonic."""
    found = mnemonic.split()[-1]
    far = found in ("ljmp", "lcall") or (found in ("jmp", "call") and text.startswith("ptr"))
    first = operands[0] if operands else None
    if asked in ("jmp", "call", "ljmp", "lcall"):
        far_asked = asked[0] == "l" or (isinstance(first, Memory) and (first.far or first.size == 10))
        return far == far_asked and asked.removeprefix("l") == found.removeprefix("l")
    if asked in strings.OPCODES and found[:-1] == asked:
        return True
    if len(operands) > 2 and (match := _PREDICATE.match(found) or _PRODUCT.match(found)):
        found = match[1] + match[2] if match[2] != "dq" else f"{match[1]}qdq"
    if asked == "movsx" and found == "movsxd":
        return True
    if (asked, found) in (("movd", "movq"), ("movq", "mov"), ("movq", "movabs")):
        return True
    return _canonical(asked) == _canonical(found)


def same_x87(word: str, operands: Sequence[Register], code: bytes) -> bool | None:
    """Whether the code is this x87 instruction between registers; None: it is not such an
    instruction."""
    if word not in _X87 or not all(o.name.startswith("st(") for o in operands):
        return None
    numbers = [int(o.name[3]) for o in operands]
    opcodes = _X87[word]
    wanted = []
    popping = word[-1] == "p" and opcodes[0] >> 8 == 0xDE
    if len(numbers) == 1:
        wanted = [opcodes[0] + numbers[0]]
    elif len(numbers) == 2 and not numbers[0] and not popping:
        wanted = [opcodes[0] + numbers[1]]
        if not numbers[1]:
            wanted += [opcode + numbers[1] for opcode in opcodes]
    elif len(numbers) == 2 and not numbers[1]:
        wanted = [opcodes[-1] + numbers[0]] if popping or len(opcodes) == 2 else []
    return int.from_bytes(code, "big") in wanted


_LOW_HALF = frozenset(
    ["lar", "lsl", "movmskps", "movmskpd", "pmovmskb", "extractps", "pextrb", "pextrw"]
)
"""Instructions with a register of which only the low part is used: the rest is zero, or ignored.
Capstone may give the register another size."""


def same_register(word: str, asked: str, found: str) -> bool:
    found = "st(0)" if found == "st" else found
    if word in _LOW_HALF and GENERAL.get(asked, 1) > 1 and GENERAL.get(found, 1) > 1:
        return sized(asked, 8) == sized(found, 8)
    return asked == found


def same_size(word: str, asked: int, found: int, target: int) -> bool:
    """Whether the memory operand can have this size. found: Capstone's. target: the size of the
    register before it, or 0."""
    if word in dialect.PLACES or word == "lea":
        return True
    if word in ("lfs", "lgs", "lss"):
        return asked == target + 2
    if re.match(r"(fx|x)(save|rstor)", word):
        return False
    if word in ("comisd", "ucomisd"):
        return asked == 8
    if word in ("lar", "lsl"):
        return asked == 2
    return asked == found


def same_segment(asked: str, found: str, base: str, mode: int) -> bool:
    """Whether the segments are equal. found: "" without a prefix. In 64-bit mode only FS and GS count
    (SDM vol. 1, 3.4.2.1)."""
    if mode == 64:
        return {asked, found} <= {"", "cs", "ds", "es", "ss"} or asked == found
    default = "ss" if base in ("esp", "ebp", "sp", "bp") else "ds"
    return (asked or default) == (found or default)
