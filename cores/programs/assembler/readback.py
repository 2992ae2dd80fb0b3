"""Readback: decodes the assembler's output again and compares it with the source.

Keystone truncates, drops and misreads operands without an error. So every unit's bytes are decoded by
Capstone, whose tables are independent, and mnemonic, registers, address, number, sizes and prefixes
have to be those of the statement. A difference is an error that names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import capstone
from capstone import x86_const

from cores.programs.assembler import dialect, expressions, spelling, strings
from cores.programs.assembler.data import Bytes, Data, Gap, Padding
from cores.programs.assembler.expressions import Unclear
from cores.programs.assembler.instructions import BRANCH, Asked
from cores.programs.assembler.operands import Immediate, Memory, Operand, Register, fits
from cores.programs.assembler.parser import Unit

_MODES = {16: capstone.CS_MODE_16, 32: capstone.CS_MODE_32, 64: capstone.CS_MODE_64}
_REG, _IMM, _MEM = x86_const.X86_OP_REG, x86_const.X86_OP_IMM, x86_const.X86_OP_MEM
_WIDE_NUMBERS = frozenset(
    [
        "mov",
        "movabs",
        "add",
        "adc",
        "sub",
        "sbb",
        "and",
        "or",
        "xor",
        "cmp",
        "test",
        "imul",
        "push",
        "ret",
        "retf",
        "retfq",
        "lret",
        "lretq",
        "movq",
        "retq",
        "retn",
        "jmp",
        "call",
    ]
)
"""Instructions whose numbers can be wider than a byte."""
_BY_XMM0 = frozenset({"blendvps", "blendvpd", "pblendvb", "sha256rnds2"})
"""Their third operand is always XMM0."""
_WAITING = frozenset({"fstsw", "fstcw", "fsave", "fstenv", "finit", "fclex"})
_X87_WITHOUT_OPERANDS = frozenset({"fadd", "fmul", "fsub", "fsubr", "fdiv", "fdivr"})
"""x87 arithmetic that pops if written without operands, as in the GNU assembler: `fadd` is `faddp`."""
_EXCHANGED_WITH_ITSELF = {"rax": b"\x48\x90", "ax": b"\x66\x90"}
"""XCHG of a register with itself, which Capstone decodes as NOP."""
_UNORDERED = frozenset({"xchg", "test"})
"""Instructions whose result does not depend on the order of the operands."""


class Misread(Exception):
    """The output is not what the unit specifies; the message says how they differ."""

    def __init__(self, unit: Unit, reason: str) -> None:
        super().__init__(reason)
        self.unit = unit


def mended(units: Sequence[Unit], code: bytes, addresses: Sequence[int]) -> bytes:
    """The image with Keystone's `nop dword ptr [rax]`, 0F 18 /4, as 0F 1F /0 (SDM vol. 2, NOP), and
    LGDT and its kin in 32-bit code made of the INVLPG with their operand, 0F 01 /7."""
    changed = bytearray(code)
    for i, unit in enumerate(units):
        if not isinstance(unit.content, Asked) or not unit.content.operands:
            continue
        word, start, end = (
            unit.content.word,
            addresses[i] - addresses[0],
            addresses[i + 1] - addresses[0],
        )
        if word == "nop":
            at = changed.find(b"\x0f\x18", start, end)
            if at >= 0 and changed[at + 2] >> 3 & 7 == 4:
                changed[at + 1] = 0x1F
                changed[at + 2] &= ~0x38
        elif word in dialect.TABLE_REGISTERS and unit.content.mode == 32:
            at = changed.find(b"\x0f\x01", start, end)
            if at >= 0 and changed[at + 2] >> 3 & 7 == 7:
                changed[at + 2] = changed[at + 2] & ~0x38 | dialect.TABLE_REGISTERS[word] << 3
    return bytes(changed)


def check(units: Sequence[Unit], code: bytes, addresses: Sequence[int]) -> None:
    """Raises Misread for the first unit whose bytes differ from its statement."""
    base = addresses[0] if addresses else 0
    if addresses[-1] - base != len(code):
        raise Misread(units[-1], "the assembler loses count at or before this")
    for i, unit in enumerate(units):
        start, end = addresses[i], addresses[i + 1]
        try:
            reason = _difference(unit, code[start - base : end - base], start, end, addresses)
        except Unclear as unclear:
            reason = str(unclear)
        if reason:
            raise Misread(unit, reason)


def _difference(unit: Unit, code: bytes, start: int, end: int, addresses: Sequence[int]) -> str:
    """The difference between the bytes and the unit; "" for none."""
    match unit.content:
        case None:
            return "" if not code else "cannot be read"
        case Bytes(content, times):
            return "" if code == content * times else "cannot be read"
        case Data(size, values):
            numbers = [expressions.evaluate(value, addresses) for value in values]
            if not all(fits(n, 8 * size) for n in numbers):
                return f"value out of range of {8 * size} bits"
            wanted = b"".join((n % (1 << 8 * size)).to_bytes(size, "little") for n in numbers)
            return "" if code == wanted else "cannot be read"
        case Gap(place):
            wanted_end = expressions.evaluate(place, addresses)
            return "" if end == wanted_end and not any(code) else "size or place out of range"
        case Padding():
            return _padding(unit.content, code, start)
        case Asked():
            return _Comparison(unit.content, code, start, addresses).difference()


def _padding(asked: Padding, code: bytes, start: int) -> str:
    distance = -start % asked.alignment
    if asked.most and distance > asked.most:
        distance = 0
    if len(code) != distance:
        return "the assembler does not align here"
    if asked.fill is not None and code != bytes([asked.fill]) * distance:
        return "the assembler fills with something else"
    return ""


@cache
def _decoder(mode: int) -> Any:  # Capstone ships no types
    decoder = capstone.Cs(capstone.CS_ARCH_X86, _MODES[mode])
    decoder.detail = True
    return decoder


def _is_implied(word: str, insn: Any, operand: Any) -> bool:
    """Whether the operand may be omitted: `shl eax` is by 1, `shld eax, ebx` by CL."""
    if operand.type == _REG:
        return word in ("shld", "shrd") and insn.reg_name(operand.reg) == "cl"
    return bool(operand.type == _IMM and operand.imm == 1)


class _Comparison:
    """Compares one instruction of the source with the decoded one."""

    def __init__(self, asked: Asked, code: bytes, start: int, addresses: Sequence[int]) -> None:
        self.asked = asked
        self.code = code
        self.start = start
        self.addresses = addresses

    def difference(self) -> str:
        if not self.code:
            return "cannot be read"
        if self.asked.word in dialect.PREFIXES:
            return "" if self.code == bytes([dialect.PREFIXES[self.asked.word]]) else "cannot be read"
        if self._known_bytes():
            return ""
        if self.asked.word in _WAITING and self.code[0] == 0x9B:  # FSTSW is FWAIT and FNSTSW
            self.code, self.start = self.code[1:], self.start + 1
            self.asked = replace(self.asked, word=f"fn{self.asked.word[1:]}")
        insn = next(_decoder(self.asked.mode).disasm(self.code, self.start, 1), None)
        if insn is None or insn.size != len(self.code):
            return f"not an instruction in {self.asked.mode}-bit mode"
        return self._compare(insn)

    def _known_bytes(self) -> bool:
        """Whether its bytes are those of the dialect's table, or of an instruction that Capstone
        renames."""
        asked = self.asked
        if not asked.operands and (encoded := dialect.encoded(asked.word, asked.mode)):
            return self.code.endswith(bytes(int(b, 16) for b in encoded.split(",")))
        names = [o.name for o in asked.operands if isinstance(o, Register)]
        if asked.word == "xchg" and len(names) == 2 and names[0] == names[1]:
            return self.code == _EXCHANGED_WITH_ITSELF.get(names[0])
        return asked.word == "nop" and asked.prefixes == ("rep",) and self.code == b"\xf3\x90"

    def _mistaken(self, text: str) -> str:
        """The message for a fault of the assembler, not of the user."""
        return f"the assembler makes {text} ({self.code.hex(' ')}) of this"

    def _compare(self, insn: Any) -> str:
        asked, text = self.asked, f"{insn.mnemonic} {insn.op_str}".strip()
        if not spelling.same(asked.word, insn.mnemonic, insn.op_str, asked.operands) and not (
            asked.word in _X87_WITHOUT_OPERANDS and not asked.operands and self.code[0] == 0xDE
        ):
            return self._mistaken(text)
        for prefix in asked.prefixes:
            if dialect.PREFIXES[prefix] not in self.code[:5]:
                return self._mistaken(text)
        found = list(insn.operands)
        pairs = self._pairs(insn, found)
        if pairs is None:
            return self._mistaken(text)
        for operand, one in pairs:
            if reason := self._operand(insn, operand, one):
                return self._mistaken(text) if reason == "other" else reason
        if asked.short and insn.imm_size > 1:
            return "target out of reach of a short jump"
        return ""

    def _pairs(self, insn: Any, found: list[Any]) -> list[tuple[Operand, Any]] | None:
        """Pairs of requested and decoded operands; None if they do not match in number or kind."""
        asked = list(self.asked.operands)
        word = self.asked.word
        names = tuple(o.name for o in asked if isinstance(o, Register))
        if not asked or names in dialect.FIXED_REGISTERS.get(word, ()):
            return []
        registers = [o for o in asked if isinstance(o, Register)]
        if len(registers) == len(asked):
            same = spelling.same_x87(word, registers, self.code)
            if same is not None:
                return [] if same else None
        memory = [o for o in asked if isinstance(o, Memory)]
        if word in ("xlat", "xlatb"):
            return []  # Capstone gives it no operand
        if strings.name_and_size(word, asked)[0] and len(asked) != len(found):
            asked = list(memory)  # the accumulator may be left out
            found = [o for o in found if o.type == _MEM]
        if word == "imul" and len(asked) == 2 and len(found) == 3:
            asked.insert(1, asked[0])
        if len(asked) + 1 == len(found) and _is_implied(word, insn, found[-1]):
            found.pop()
        last = asked[-1]
        if len(asked) == len(found) + 1 and word in _BY_XMM0 and last == Register("xmm0"):
            asked.pop()
        if len(asked) == len(found) + 1 and isinstance(asked[-1], Immediate):
            return self._with_predicate(insn, asked, found)
        if len(asked) != len(found):
            return None
        if word in _UNORDERED and isinstance(asked[0], Memory) != (found[0].type == _MEM):
            asked.reverse()
        elif word in _UNORDERED and all(isinstance(o, Register) for o in asked):
            order = [insn.reg_name(o.reg) for o in found]
            if order != [o.name for o in asked if isinstance(o, Register)]:
                asked.reverse()
        return list(zip(asked, found, strict=True))

    def _with_predicate(
        self, insn: Any, asked: list[Operand], found: list[Any]
    ) -> list[tuple[Operand, Any]] | None:
        """The pairs for `cmpsd xmm0, xmm1, 1`, which Capstone decodes as `cmpltsd xmm0, xmm1`."""
        last = asked.pop()
        assert isinstance(last, Immediate)
        if expressions.evaluate(last.value, self.addresses) != self.code[-1]:
            return None
        return list(zip(asked, found, strict=True))

    def _operand(self, insn: Any, asked: Operand, found: Any) -> str:
        """The difference of an operand: "" for equal, "other" for a fault of the assembler, else the
        reason."""
        match asked:
            case Register(name):
                same = found.type == _REG and spelling.same_register(
                    self.asked.word, name, insn.reg_name(found.reg)
                )
                return "" if same else "other"
            case Immediate(value):
                if found.type != _IMM:
                    return "other"
                return self._number(insn, expressions.evaluate(value, self.addresses), found)
            case Memory():
                if found.type == _IMM and asked.absolute:  # moffs, as some versions decode it
                    return "" if found.imm == self._displacement(asked) else "other"
                return self._memory(insn, asked, found) if found.type == _MEM else "other"

    def _number(self, insn: Any, wanted: int, found: Any) -> str:
        word = self.asked.word
        if BRANCH.match(word):
            bits = self.asked.mode
            return "" if (wanted - found.imm) % (1 << bits) == 0 else "target out of reach"
        bits = self._bits(insn, found)
        if not fits(wanted, bits):
            return f"{wanted:#x} does not fit into {bits} bits" if abs(wanted) > 9 else "out of range"
        if (wanted - found.imm) % (1 << bits):
            signed = 32 if bits == 64 else bits
            return f"{wanted:#x} does not fit into {signed} bits, with its sign"
        return ""

    def _bits(self, insn: Any, found: Any) -> int:
        """Size of a number in bits: that of the operation, whatever size the encoding stores."""
        word = self.asked.word
        if word == "enter":
            return 16 if found.imm == insn.operands[0].imm and found is insn.operands[0] else 8
        if word in ("ljmp", "lcall"):
            wide = (self.asked.mode == 32) != (self.code[0] == 0x66)
            return 16 if found is insn.operands[0] or not wide else 32
        if word not in _WIDE_NUMBERS:
            return 8
        if word in ("ret", "retf", "retq", "retn", "retfq", "lret", "lretq"):
            return 16
        if word.startswith("push"):
            short = b"\x66" in self.code[: insn.size - insn.imm_size - 1]
            return 16 if short != (self.asked.mode == 16) else (64 if self.asked.mode == 64 else 32)
        first = insn.operands[0]
        return int(first.size) * 8

    def _displacement(self, asked: Memory) -> int:
        return expressions.evaluate(asked.displacement, self.addresses)

    def _memory(self, insn: Any, asked: Memory, found: Any) -> str:
        memory = found.mem
        base, index = insn.reg_name(memory.base) or "", insn.reg_name(memory.index) or ""
        segment = insn.reg_name(memory.segment) or ""
        target = insn.operands[0].size if insn.operands[0].type == _REG else 0
        if asked.size and not (
            asked.far or spelling.same_size(self.asked.word, asked.size, found.size, target)
        ):
            return f"the operand in memory does not have {asked.size} bytes"
        far = asked.far or asked.size in (6, 10)
        far = far and self.asked.mode == 64 and bool(BRANCH.match(self.asked.word))
        if far and bool(insn.rex & 8) != (asked.size == 10):
            return "other"
        string = strings.name_and_size(self.asked.word, self.asked.operands)[0]
        to_es = string and asked.base in ("rdi", "edi", "di") and {asked.segment, segment} <= {"", "es"}
        if not to_es and not spelling.same_segment(
            asked.segment, segment, asked.base or asked.index, self.asked.mode
        ):
            return "other"
        wanted = self._displacement(asked)
        width = (asked.width or {16: 2, 32: 4, 64: 8}[self.asked.mode]) * 8
        if asked.absolute:
            if base in ("rip", "eip"):
                base, got = "", memory.disp + self.start + insn.size
            else:
                got = memory.disp
            if base or index not in ("", "riz", "eiz"):
                return "other"
        elif asked.relative:
            got = memory.disp
            if expressions.labels(asked.displacement):
                got += self.start + insn.size
            if base != asked.base or index:
                return "other"
        else:
            got = memory.disp
            same = (base, index) == (asked.base, asked.index) and (
                memory.scale == asked.scale or not index
            )
            if not same and not self._same_sum(asked, base, index, memory.scale):
                return "other"
        if width == 64 and asked.absolute and base == "" and insn.addr_size == 4:
            width = 32
        if (wanted - got) % (1 << width):
            return f"{wanted:#x} does not fit into the address"
        return ""

    def _same_sum(self, asked: Memory, base: str, index: str, scale: int) -> bool:
        """Whether the addresses are equal. Base and index may be exchanged if neither is scaled and
        neither selects SS."""
        stack = {"rsp", "rbp", "esp", "ebp", "sp", "bp"}
        if asked.scale == scale == 1 and not asked.base and base == asked.index:
            return not index and base not in stack
        swapped = asked.scale == scale == 1 and (base, index) == (asked.index, asked.base)
        return swapped and not {base, index} & stack
