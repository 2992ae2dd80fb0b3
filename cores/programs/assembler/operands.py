"""Operands: parsed from text into registers, memory operands or numbers, and written for Keystone.

Keystone takes the index of ``[rbx + rsp]`` for RSP, which cannot be one, drops RAX of ``[rip + rax]``,
loses symbols and signs of sums, and truncates displacements, all without an error. So an operand is
parsed here, and rewritten for Keystone: base, index and scale, one displacement.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from cores.programs.assembler import expressions
from cores.programs.assembler.expressions import Binary, Expression, Name, Number, Unclear

SIZES = {
    "byte": 1, "word": 2, "dword": 4, "fword": 6, "qword": 8, "mmword": 8, "tbyte": 10, "oword": 16,
    "xmmword": 16, "ymmword": 32, "zmmword": 64,
}  # fmt: skip
"""Bytes."""
_SIZE_WORDS = {
    1: "byte",
    2: "word",
    4: "dword",
    8: "qword",
    10: "tbyte",
    16: "xmmword",
    32: "ymmword",
    64: "zmmword",
}
_LOW = ("ax", "cx", "dx", "bx", "sp", "bp", "si", "di")
_HIGH = tuple(f"r{n}" for n in range(8, 16))
GENERAL: dict[str, int] = {
    **dict.fromkeys([*(f"r{name}" for name in _LOW), *_HIGH], 8),  # in encoding order, as are the next
    **dict.fromkeys([*(f"e{name}" for name in _LOW), *(f"{name}d" for name in _HIGH)], 4),
    **dict.fromkeys([*_LOW, *(f"{name}w" for name in _HIGH)], 2),
    **dict.fromkeys([*(f"{name}b" for name in _HIGH), "al", "cl", "dl",
                     "bl", "ah", "ch", "dh", "bh", "spl", "bpl", "sil", "dil"], 1),
}  # fmt: skip
"""The general registers, and their sizes in bytes."""
_SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")
_ADDRESSING = re.compile(r"(?:rip|eip|riz|eiz|[xyz]mm\d{1,2})$")
REGISTER = re.compile(
    r"(?:[re]?(?:[abcd]x|[sd]i|[sb]p)|[abcd][hl]|(?:si|di|sp|bp)l|r(?:8|9|1[0-5])[dwb]?|[re]ip"
    r"|[c-gs]s|st|mm[0-7]|[xyz]mm(?:[12]?\d|3[01])|[cd]r(?:1?\d)|[er]iz)$",
    re.IGNORECASE,
)
_STACK = re.compile(r"st\s*(?:\(\s*([0-7])\s*\))?$", re.IGNORECASE)
_SIZED = re.compile(
    rf"({'|'.join(SIZES)})\b(?:\s*(?:(ptr)\b\s*(?=\S)|(?=[\w.$@\[('\"]))|\s+(?=-\w))", re.IGNORECASE
)
_FAR = re.compile(r"far\s+(?:ptr\s*)?(?=\[|[c-gs]s\s*:)", re.IGNORECASE)
_DISTANCE = re.compile(r"(short|near)\s+(?:ptr\s+)?(?=\S)", re.IGNORECASE)
_OFFSET = re.compile(r"offset\s+(?:flat\s*:\s*)?(?=\S)", re.IGNORECASE)
_SEGMENT = re.compile(r"([c-gs]s)\s*:\s*", re.IGNORECASE)
_RELATIVE = re.compile(r"\s*rel\s+", re.IGNORECASE)
_DECORATION = re.compile(r"\s*(\{[^{}]*\})\s*$")
_PIECES = re.compile(r"([^\[\]]*)\[([^\[\]]*)\]")

_NUMBERED = {size: [name for name, bytes_ in GENERAL.items() if bytes_ == size] for size in (2, 4, 8)}


def sized(name: str, size: int) -> str:
    """The name of the general register ``name`` (of 2, 4 or 8 bytes) with ``size`` bytes."""
    return _NUMBERED[size][_NUMBERED[GENERAL[name]].index(name)]


_NOTHING = Number(0)

Resolve = Callable[[str], Expression]
"""Gives the definition of a name: a number, or an expression of places. Raises Unclear."""


@dataclass(frozen=True, slots=True)
class Register:
    """A register. name: lower case, `st(0)` for `st`."""

    name: str
    decorations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Immediate:
    """A number, or an address. size: bytes, where the user said `byte 5`, else 0."""

    value: Expression
    size: int = 0


@dataclass(frozen=True, slots=True)
class Memory:
    """A memory operand. size: bytes, 0 where the user gave none. far: it holds a far pointer. segment,
    base, index: lower case, "" for none. decorations: AVX-512's, `{1to8}`."""

    size: int = 0
    segment: str = ""
    base: str = ""
    index: str = ""
    scale: int = 1
    displacement: Expression = _NOTHING
    far: bool = False
    decorations: tuple[str, ...] = ()

    @property
    def relative(self) -> bool:
        """Whether it is relative to the instruction pointer."""
        return self.base in ("rip", "eip")

    @property
    def absolute(self) -> bool:
        """Whether it is an address without registers."""
        return not self.base and not self.index

    @property
    def width(self) -> int:
        """Size of the registers in it, in bytes; 0 without any."""
        name = self.base or self.index
        return {"rip": 8, "eip": 4, "riz": 8, "eiz": 4}.get(name) or GENERAL.get(name, 0)


Operand = Register | Immediate | Memory


def parse(text: str, resolve: Resolve) -> Operand:
    """Parse an operand. Raises Unclear."""
    text = text.strip()
    decorations: list[str] = []
    while match := _DECORATION.search(text):
        decorations.insert(0, match[1])
        text = text[: match.start()]
    if match := _STACK.match(text):
        return Register(f"st({match[1] or 0})")
    if REGISTER.match(text):
        return Register(text.lower(), tuple(decorations))
    size, pointed, far = 0, False, False
    if match := _DISTANCE.match(text):
        text = text[match.end() :]
    if match := _SIZED.match(text):
        size, pointed, text = SIZES[match[1].lower()], match[2] is not None, text[match.end() :]
        if pointed and REGISTER.match(text):
            raise Unclear("a register has the size that it has")
    if match := _FAR.match(text):
        far, text = True, text[match.end() :]
    segment = ""
    if match := _SEGMENT.match(text):
        segment, text = match[1].lower(), text[match.end() :]
    if "[" in text or "]" in text:
        return _memory(text, resolve, size, segment, far or size == 6, tuple(decorations))
    offset = _OFFSET.match(text)
    if offset:
        text = text[offset.end() :]
    if size and REGISTER.match(text):
        raise Unclear("a register has the size that it has")
    value = _number(expressions.parse(text), resolve)
    if segment or (pointed and not offset and not isinstance(value, Number)):
        return Memory(size, segment, displacement=value)
    return Immediate(value, size)


def _number(tree: Expression, resolve: Resolve) -> Expression:
    if any(map(is_register, expressions.names(tree))):
        raise Unclear("a register is no part of an expression")
    return expressions.fold(tree, resolve)


def is_register(name: str) -> bool:
    return REGISTER.match(name) is not None


def _memory(
    text: str, resolve: Resolve, size: int, segment: str, far: bool, decorations: tuple[str, ...]
) -> Memory:
    """`label[rax]`, `[rax + 4][rbx]`, `[rel label]`: the sum of everything in and before the
    brackets."""
    terms: list[str] = []
    relative = False
    end = 0
    while match := _PIECES.match(text, end):
        before, inner = match[1].strip(), match[2]
        if before:
            if end or not re.match(r"[\w.$@]+$|-?\d\w*$", before):
                raise Unclear("a sum belongs inside the brackets")
            if is_register(before):
                raise Unclear("a register belongs inside the brackets")
            terms.append(before)
        if lead := _RELATIVE.match(inner):
            relative, inner = True, inner[lead.end() :]
        if _SEGMENT.match(inner.strip()):
            raise Unclear("a segment stands before the bracket, as in fs:[rax]")
        if not inner.strip():
            raise Unclear("nothing stands between the brackets")
        terms.append(inner)
        end = match.end()
    rest = text[end:].strip()
    if not end or "[" in rest or "]" in rest:
        raise Unclear("unbalanced brackets")
    if rest:
        if rest[0] not in "+-":
            raise Unclear(f"unexpected {rest}")
        terms.append(rest)
    parts = [expressions.tokens(term) for term in terms]
    if not all(parts):
        raise Unclear("nothing stands between the brackets")
    whole = parts[0] if len(parts) == 1 else [t for p in parts for t in ("+", "(", *p, ")")][1:]
    registers, displacement = _sum(whole, resolve)
    if relative:
        if registers or expressions.labels(displacement) != 1:
            raise Unclear("rel takes one label, and no register")
        registers = [("rip", 0)]
    base, index, scale = _roles(registers)
    return Memory(size, segment, base, index, scale, displacement, far, decorations)


def _sum(parts: list[str], resolve: Resolve) -> tuple[list[tuple[str, int]], Expression]:
    """The registers of an address with their scales, and its displacement."""
    if not any(map(is_register, parts)):
        return [], expressions.fold(expressions.parse_tokens(parts), resolve)
    if any(part in expressions.TRUTHS for part in parts):
        raise Unclear("a comparison can only stand in .if")
    found = []
    for tree in expressions.readings(parts):  # `[rax + 1 << 4]`: a register cannot be shifted
        try:
            registers, others = _registers(tree, resolve)
            found.append((registers, expressions.fold(others or Number(0), resolve)))
        except Unclear as reason:
            failure = reason
    if not found:
        raise failure
    if found[0] != found[-1]:
        raise expressions.Ambiguous
    return found[0]


def _registers(tree: Expression, resolve: Resolve) -> tuple[list[tuple[str, int]], Expression | None]:
    """The registers of a sum with their scales, 0 where none is given; and the sum of everything
    else."""
    match tree:
        case Name(name) if is_register(name):
            return [(name.lower(), 0)], None
        case Binary("+", left, right):
            a, x = _registers(left, resolve)
            b, y = _registers(right, resolve)
            return a + b, x if y is None else y if x is None else Binary("+", x, y)
        case Binary("-", left, right):
            a, x = _registers(left, resolve)
            b, y = _registers(right, resolve)
            if b or y is None:
                raise Unclear("a register cannot be subtracted")
            return a, Binary("-", Number(0) if x is None else x, y)
        case Binary("*", left, right):
            for one, other in ((left, right), (right, left)):
                if isinstance(one, Name) and is_register(one.name):
                    factor = _number(other, resolve)
                    if not isinstance(factor, Number) or factor.value not in (1, 2, 4, 8):
                        raise Unclear("a scale is 1, 2, 4 or 8")
                    return [(one.name.lower(), factor.value)], None
    if any(map(is_register, expressions.names(tree))):
        raise Unclear("a register can only be added, or multiplied by its scale")
    return [], tree


def _roles(registers: list[tuple[str, int]]) -> tuple[str, str, int]:
    """Base, index and scale. Raises Unclear for a sum that no addressing mode has."""
    if len(registers) > 2:
        raise Unclear("an address has at most two registers")
    for name, _ in registers:
        if name not in GENERAL and not _ADDRESSING.match(name):
            raise Unclear(f"{name} is no part of an address")
        if GENERAL.get(name) == 1:
            raise Unclear(f"{name} is no part of an address")
    if not registers:
        return "", "", 1
    if any(name in ("rip", "eip") for name, _ in registers):
        if len(registers) > 1 or registers[0][1]:
            raise Unclear("rip takes no other register and no scale")
        return registers[0][0], "", 1
    widths = {GENERAL[name] for name, _ in registers if name in GENERAL}
    if len(widths) > 1:
        raise Unclear("the registers of an address are of one size")
    if 2 in widths:
        return _roles16(registers)
    if len(registers) == 1:
        ((name, scale),) = registers
        if not scale and not _ADDRESSING.match(name):
            return name, "", 1
        return "", _index(name), scale or 1
    (base, scale), (index, other) = registers
    if scale and other:  # one of them has to be the base, which has no scale
        if scale == 1 and not _ADDRESSING.match(base):
            scale = 0
        elif other == 1:
            base, scale, index, other = index, 0, base, scale
        else:
            raise Unclear("only one register of an address has a scale")
    elif scale or _ADDRESSING.match(base):
        base, scale, index, other = index, 0, base, scale
    elif index in ("rsp", "esp") and not other:
        base, index = index, base
    return base, _index(index), other or 1


def _index(name: str) -> str:
    if name in ("rsp", "esp"):
        raise Unclear(f"{name} cannot be an index")
    return name


def _roles16(registers: list[tuple[str, int]]) -> tuple[str, str, int]:
    """16-bit addresses: BX or BP, SI or DI, or one of each (SDM vol. 2, table 2-1)."""
    names = [name for name, _ in registers]
    bases = [name for name in names if name in ("bx", "bp")]
    indices = [name for name in names if name in ("si", "di")]
    if len(bases) > 1 or len(indices) > 1 or len(bases) + len(indices) != len(names):
        raise Unclear("a 16-bit address is made of bx or bp, and si or di")
    if any(scale > 1 for _, scale in registers):
        raise Unclear("a 16-bit address has no scale")
    return (bases + indices)[0], (indices[0] if bases and indices else ""), 1


def fits(value: int, bits: int) -> bool:
    """Whether a signed or an unsigned number of ``bits`` bits can hold it."""
    return -(1 << (bits - 1)) <= value < 1 << bits


def is_near(value: int) -> bool:
    """Whether it equals its low 32 bits, sign-extended."""
    return -(1 << 31) <= value < 1 << 31 or (1 << 64) - (1 << 31) <= value < 1 << 64


def check(operand: Memory, mode: int) -> None:
    """Raises Unclear where the address cannot be encoded in this mode (16, 32 or 64)."""
    width = operand.width * 8
    if width == 16 and mode == 64:
        raise Unclear("there are no 16-bit addresses in 64-bit mode")
    if operand.relative:
        if mode != 64:
            raise Unclear("only 64-bit mode has addresses relative to rip")
        number = isinstance(operand.displacement, Number)
        if not number and expressions.labels(operand.displacement) != 1:
            raise Unclear("an address relative to RIP takes one label")
    if isinstance(operand.displacement, Number):
        value = operand.displacement.value
        narrow = width in (16, 32) or (mode != 64 and not width)
        if not (fits(value, width or 32) if narrow else is_near(value)):
            raise Unclear(f"an address or displacement here has {width % 64 or 32} bits, with its sign")


def render(operand: Operand, define: Callable[[str], str]) -> str:
    """The operand in Keystone's syntax. define: gives an expression a name of its own."""
    match operand:
        case Register(name, decorations):
            return " ".join((name, *decorations))
        case Immediate(value):
            return _term(value, define)
        case Memory():
            size = f"{_SIZE_WORDS[operand.size]} ptr " if operand.size in _SIZE_WORDS else ""
            segment = f"{operand.segment}:" if operand.segment else ""
            inside = " + ".join(filter(None, (operand.base, _scaled(operand))))
            match operand.displacement:
                case Number(0) if inside:
                    pass
                case Number(n):
                    n -= n >> 63 << 64 if n > 0 else 0
                    sign = "-" if n < 0 else "+" if inside else ""
                    inside = f"{inside} {sign} {abs(n):#x}".strip()
                case other:
                    inside = " + ".join(filter(None, (inside, _term(other, define))))
            return " ".join((f"{size}{segment}[{inside}]", *operand.decorations))


def _scaled(operand: Memory) -> str:
    if operand.scale > 1 or (operand.index and not operand.base):
        return f"{operand.index}*{operand.scale}"
    return operand.index


def _term(value: Expression, define: Callable[[str], str]) -> str:
    """A number or a name for ``value``: other expressions in an operand Keystone misreads."""
    match value:
        case Number(n):
            return f"{n:#x}"
        case expressions.Place():
            return expressions.render(value)
        case _:
            return define(expressions.render(value))
