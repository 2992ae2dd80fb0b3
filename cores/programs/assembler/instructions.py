"""One instruction: parses its operands, and writes the statement in Keystone's syntax.

A form that Keystone lacks or encodes wrongly is written as bytes; one that cannot be encoded is refused
with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from cores.programs.assembler import dialect, expressions, operands, strings
from cores.programs.assembler.expressions import Expression, Number, Unclear
from cores.programs.assembler.operands import Immediate, Memory, Operand, Register, Resolve

BRANCH = re.compile(r"(?:j\w+|call|loop\w*|xbegin)$")
_SHORT = re.compile(r"\s*short\b", re.IGNORECASE)
_NO_CONTROL_REGISTER = re.compile(r"cr(?:1|[5-7]|9|1[0-5])$")
_NOWHERE = Number(0)
_ACCUMULATORS = {"al": 1, "ax": 2, "eax": 4, "rax": 8}


@dataclass(frozen=True, slots=True)
class Asked:
    """The instruction as the user wrote it. word: the mnemonic, lower case. mode: 16, 32 or 64. short:
    the user marked the branch's target as near."""

    mode: int
    prefixes: tuple[str, ...]
    word: str
    operands: tuple[Operand, ...]
    short: bool = False


@dataclass(slots=True)
class Translator:
    """Translates instructions; its methods raise Unclear.

    mode: 16, 32 or 64, set by the last `.code` directive. base: the image's address. define: inserts a
    line `NAME = EXPRESSION` before the statement, and returns the name. end: the address behind the
    statement."""

    mode: int
    base: int
    define: Callable[[str], str]
    end: Expression = _NOWHERE

    def translate(
        self, prefixes: tuple[str, ...], word: str, texts: list[str], resolve: Resolve
    ) -> tuple[str, Asked]:
        """The statement for Keystone, and the contents it must assemble to. word: lower case."""
        if word in dialect.UNSIZED and self.mode == 64:
            raise Unclear(f"write {dialect.UNSIZED[word]}")
        if word in dialect.FOREIGN:
            raise Unclear("no instruction of this CPU")
        short = len(texts) == 1 and bool(BRANCH.match(word)) and bool(_SHORT.match(texts[0]))
        if len(texts) == 1 and (far := self._far_target(word, texts[0], resolve)):
            return far
        found = [operands.parse(text, resolve) for text in texts]
        if not BRANCH.match(word) and any(_SHORT.match(text) for text in texts):
            raise Unclear("only a jump can be short")
        for operand in found:
            if isinstance(operand, Register) and _NO_CONTROL_REGISTER.match(operand.name):
                raise Unclear("invalid operand")
            if isinstance(operand, Immediate) and operand.size and word != "push":
                raise Unclear("only push takes a size before a number")
            if isinstance(operand, Memory) and not (operand.absolute and word in ("mov", "movabs")):
                operands.check(operand, self.mode)
        _check_prefixes(prefixes, word, found)
        asked = Asked(self.mode, prefixes, word, tuple(found), short)
        return self._render(asked), asked

    def _render(self, asked: Asked) -> str:
        word, found = asked.word, list(asked.operands)
        if not found and (code := dialect.encoded(word, self.mode)):
            return f".byte {code}"
        names = tuple(o.name for o in found if isinstance(o, Register))
        if names and names in dialect.FIXED_REGISTERS.get(word, ()):
            return word
        if text := strings.encoded(word, found, self.mode):
            return text
        if self.mode != 64 and (text := self._legacy(word, found)):
            return text
        match found:
            case [Register(name)] if word == "rdpid":
                return _rdpid(name)
            case [Immediate(value, size)] if word in ("push", "pushw", "pushd", "pushl", "pushq"):
                return self._push(
                    value, {"pushw": 2, "pushd": 4, "pushl": 4, "pushq": 8}.get(word, size)
                )
            case [Register(name), Memory() as memory] if word in ("mov", "movabs"):
                if text := self._far_move(word, name, memory, 0xA0):
                    return text
            case [Memory() as memory, Register(name)] if word in ("mov", "movabs"):
                if text := self._far_move(word, name, memory, 0xA2):
                    return text
            case [Memory() as memory] if word in ("jmp", "call", "ljmp", "lcall"):
                if memory.far or memory.size == 10 or word[0] == "l":
                    return self._far_pointer(word, memory)
        lead = ""
        for i, operand in enumerate(found):
            if isinstance(operand, Memory):
                operands.check(operand, self.mode)
                found[i] = operand = self._absolute(_resized(word, operand, self.mode))
                if operand.base == "eip":
                    lead, found[i] = ".byte 0x67\n", replace(operand, base="rip")
        if word in ("lar", "lsl") and len(found) == 2:
            found[1] = _selector(word, found[0], found[1])
        word = _renamed(word, found)
        return f"{lead}{word} {', '.join(operands.render(o, self.define) for o in found)}"

    def _legacy(self, word: str, found: list[Operand]) -> str | None:
        """A form of 16- and 32-bit code that Keystone encodes with another operand size, or None."""
        match found:
            case [Register(name)] if code := dialect.SEGMENT_STACK.get((word, name)):
                return f".byte {code}"
            case [Immediate(value)] if word in dialect.RETURNS:
                return f".byte {dialect.RETURNS[word]}\n.short {expressions.render(value)}"
            case [Immediate(value)] if word == "call" and self.mode == 16:
                if isinstance(value, Number):
                    from_base = Number(value.value - self.base)
                    value = expressions.Binary("+", expressions.Place(0), from_base)
                distance = expressions.Binary("-", value, self.end)
                return f".byte 0xe8\n.short {expressions.render(distance)}"
            case [Memory() as memory] if word in dialect.TABLE_REGISTERS and self.mode == 32:
                place = replace(memory, size=1)  # ``readback.mended`` makes LGDT and the others of it
                return f"invlpg {operands.render(place, self.define)}"
        return None

    def _push(self, value: Expression, size: int) -> str:
        """PUSH of a number, 6A or 68 (SDM vol. 2, PUSH). Keystone ignores the size of `push word 5`,
        and encodes some numbers as 16 bits, or as 0xFF..FF. size: bytes; 0 and 1 for the default of the
        mode."""
        natural = self.mode // 8
        other = 4 if natural == 2 else 2
        if size not in (0, 1, other, natural):
            raise Unclear(f"a push here has {other * 8} or {self.mode} bits")
        wide = min(size if size > 1 else natural, 4)
        prefix = "0x66, " if size == other else ""
        if isinstance(value, Number):
            signed = value.value - (1 << 64) if value.value >= 1 << 63 else value.value
            if wide == 4 and not (
                operands.is_near(signed) if natural == 8 else operands.fits(signed, 32)
            ):
                raise Unclear("a pushed number has 32 bits, with its sign")
            if -128 <= signed < 128:
                return f".byte {prefix}0x6a, {signed & 0xFF:#x}"
            value = Number(signed)
        text = expressions.render(value)
        return f".byte {prefix}0x68\n{'.short' if wide == 2 else '.long'} {text}"

    def _far_move(self, word: str, register: str, memory: Memory, opcode: int) -> str | None:
        """MOV between the accumulator and a 64-bit address (SDM vol. 2, MOV, A0 to A3)."""
        value = memory.displacement
        distant = isinstance(value, Number) and not operands.is_near(value.value)
        if self.mode != 64 or not (memory.absolute and (word == "movabs" or distant)):
            if word == "movabs":
                raise Unclear("movabs takes an address without registers")
            return None
        size = _ACCUMULATORS.get(register)
        if size is None and word == "mov":
            return None
        if size is None or memory.size not in (0, size):
            raise Unclear("only al, ax, eax and rax reach a 64-bit address")
        segment = {"fs": "0x64, ", "gs": "0x65, "}.get(memory.segment, "")
        prefix = {2: "0x66, ", 8: "0x48, "}.get(size, "")
        return f".byte {segment}{prefix}{opcode | (size > 1):#x}\n.quad {expressions.render(value)}"

    def _far_pointer(self, word: str, memory: Memory) -> str:
        """m16:32, and m16:64 (tbyte), which Keystone accepts only without a size."""
        wide = "rex64\n" if memory.size == 10 else ""
        if memory.size == 6 and self.mode == 16:
            wide = ".byte 0x66\n"
        bare = self._absolute(replace(memory, size=0))
        return f"{wide}l{word.removeprefix('l')} {operands.render(bare, self.define)}"

    def _far_target(self, word: str, text: str, resolve: Resolve) -> tuple[str, Asked] | None:
        """`jmp 0x10:label`, which does not exist in 64-bit mode (SDM vol. 2, JMP)."""
        match = re.match(r"(?:far\s+)?([^\[\]:]+):([^\[\]:]+)$", text.strip(), re.IGNORECASE)
        if match is None or word.removeprefix("l") not in ("jmp", "call"):
            return None
        if operands.is_register(match[1].strip()):
            return None
        if self.mode == 64:
            raise Unclear("64-bit mode has no far jump to a number; it takes a far pointer in memory")
        selector = operands.parse(match[1], resolve)
        target = operands.parse(match[2], resolve)
        if not (isinstance(selector, Immediate) and isinstance(target, Immediate)):
            raise Unclear("a far target is selector:offset")
        opcode = "0xea" if word.endswith("jmp") else "0x9a"
        size = selector.size or self.mode // 8
        if size not in (2, 4):
            raise Unclear("the offset of a far target has 16 or 32 bits")
        prefix = "" if size == self.mode // 8 else "0x66, "
        offset = ".short" if size == 2 else ".long"
        text = f".byte {prefix}{opcode}\n{offset} {expressions.render(target.value)}\n"
        text += f".short {expressions.render(selector.value)}"
        return text, Asked(self.mode, (), f"l{word.removeprefix('l')}", (selector, target))

    def _absolute(self, operand: Memory) -> Memory:
        """Rewrites the number of `mov rbx, [0x5000]` as a distance from the image's first label.
        Keystone would encode it relative to RIP, a different address where the code is copied before it
        runs."""
        value = operand.displacement
        if self.mode != 64 or not operand.absolute or not isinstance(value, Number):
            return operand
        offset = Number(value.value - (value.value >> 63 << 64) - self.base)
        return replace(operand, displacement=expressions.Binary("+", expressions.Place(0), offset))


def _renamed(word: str, found: list[Operand]) -> str:
    """The instruction's mnemonic in Keystone."""
    sizes = [operands.GENERAL.get(o.name, 0) if isinstance(o, Register) else 0 for o in found]
    if word == "movsx" and len(found) == 2:
        source = found[1].size if isinstance(found[1], Memory) else sizes[1]
        return "movsxd" if source == 4 else word
    if word == "movd" and 8 in sizes:
        return "movq"
    vector = any(isinstance(o, Register) and not operands.GENERAL.get(o.name) for o in found)
    if (
        word == "movq"
        and not vector
        and all(size == 8 for o, size in zip(found, sizes, strict=True) if isinstance(o, Register))
    ):
        return "mov"
    return dialect.RENAMED.get(word, word)


def _resized(word: str, operand: Memory, mode: int) -> Memory:
    """The operand with the size that Keystone wants, where the user's has no effect or is not
    needed."""
    if word in dialect.PLACES:
        return replace(operand, size=1)
    if word in ("lar", "lsl"):
        return replace(operand, size=0) if operand.size == 2 else operand
    if word == "pop" and not operand.size:
        return replace(operand, size=mode // 8)
    return operand


def _selector(word: str, target: Operand, source: Operand) -> Operand:
    """LAR and LSL use 16 bits of their source, whatever its size. Keystone accepts only one size."""
    if not (isinstance(target, Register) and isinstance(source, Register)):
        return source
    sizes = operands.GENERAL.get(target.name, 0), operands.GENERAL.get(source.name, 0)
    if 1 in sizes or 0 in sizes:
        raise Unclear("invalid operand")
    return Register(operands.sized(source.name, sizes[0] if word == "lsl" else min(sizes[0], 4)))


def _check_prefixes(prefixes: tuple[str, ...], word: str, found: list[Operand]) -> None:
    """Checks prefixes as the GNU assembler does: LOCK and REP only on instructions that they apply
    to."""
    if len({dialect.PREFIXES[prefix] for prefix in prefixes}) < len(prefixes):
        raise Unclear("the same prefix twice")
    for prefix in prefixes:
        if prefix == "lock":
            to_memory = any(isinstance(o, Memory) for o in (found if word == "xchg" else found[:1]))
            if word not in dialect.LOCKABLE or not to_memory:
                raise Unclear("lock needs an instruction that changes memory and can be locked")
        elif prefix.startswith("rep") and word not in dialect.REPEATABLE:
            raise Unclear(f"{prefix} needs a string instruction")


def _rdpid(register: str) -> str:
    """F3 0F C7 /7, the register in ModRM.rm (SDM vol. 2, RDPID)."""
    if operands.GENERAL.get(register) != 8:
        raise Unclear("invalid operand")
    n = [name for name, size in operands.GENERAL.items() if size == 8].index(register)
    return f".byte 0xf3, {'0x41, ' * (n >= 8)}0x0f, 0xc7, {0xF8 | n & 7:#x}"
