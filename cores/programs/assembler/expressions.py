"""Expressions without registers: numbers, names, places, and the operators between them.

An expression is parsed once into a tree, then resolved: every name becomes a number or a ``Place``, the
address of a statement, which only the layout determines. Keystone gets the tree as text with all
parentheses; ``evaluate`` computes the same tree from the addresses that Keystone chose, so that its
output can be checked.

C and the GNU assembler have different operator precedences: ``1 + 1 << 4`` is 32 in C and 17 there. An
expression whose value differs between them is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

_TOKEN = re.compile(
    r"\s*(0[xX][0-9a-fA-F]+(?![\w.$@])|0[bB][01]+(?![\w.$@])|\d+(?![\w.$@])|'(?:\\.|[^\\])'"
    r"|[A-Za-z_.$][\w.$@]*|<<|>>|<=|>=|==|!=|<>|&&|\|\||[-+*/%&|^~!<>()])"
)
_MOST_DIGITS = 140
"""Longest number in characters: more than any that fits, and fewer than the thousands that Python
refuses."""
_MOST_OPERATORS = 300
"""Most operators in an expression, far above what users write: the tree is at most that deep, and is
walked by recursion."""
_ESCAPES = {
    "n": 10, "t": 9, "r": 13, "b": 8, "f": 12, "0": 0, "\\": 92, "'": 39, '"': 34,
}  # fmt: skip
_WORDS = {"and": "&", "or": "|", "xor": "^", "mod": "%", "shl": "<<", "shr": ">>"}
"""Operators spelled as words, as in Intel's own assemblers."""

_C = {
    "||": 1, "&&": 2, "|": 3, "^": 4, "&": 5, "==": 6, "!=": 6, "<>": 6, "<": 7, ">": 7, "<=": 7,
    ">=": 7, "<<": 8, ">>": 8, "+": 9, "-": 9, "*": 10, "/": 10, "%": 10,
}  # fmt: skip
"""Operator precedences in C."""
_GNU = {
    "||": 1, "&&": 2, "==": 3, "!=": 3, "<>": 3, "<": 3, ">": 3, "<=": 3, ">=": 3, "+": 4, "-": 4,
    "|": 5, "^": 5, "&": 5, "<<": 6, ">>": 6, "*": 6, "/": 6, "%": 6,
}  # fmt: skip
"""Operator precedences in the GNU assembler ("Using as", 6.2.4, Infix Operators)."""
TRUTHS = frozenset({"||", "&&", "==", "!=", "<>", "<", ">", "<=", ">=", "!"})
"""Operators with a truth value, for `.if` only: whether true is 1 or -1 depends on the assembler."""


class Unclear(Exception):
    """The text is invalid or ambiguous; the message says why."""


class OutOfRange(Unclear):
    """A number that 64 bits cannot hold."""

    def __init__(self) -> None:
        super().__init__("number out of range")


class Ambiguous(Unclear):
    """An expression that C and the GNU assembler read differently."""

    def __init__(self) -> None:
        super().__init__("C and the GNU assembler read this differently; parentheses decide")


@dataclass(frozen=True, slots=True)
class Number:
    value: int


@dataclass(frozen=True, slots=True)
class Name:
    """A symbol, a register, or `.` and `$`: the statement that contains it determines which."""

    name: str


@dataclass(frozen=True, slots=True)
class Place:
    """The address of the statement with this index."""

    index: int


@dataclass(frozen=True, slots=True)
class Unary:
    operator: str
    operand: Expression


@dataclass(frozen=True, slots=True)
class Binary:
    operator: str
    left: Expression
    right: Expression


Expression = Number | Name | Place | Unary | Binary


def tokens(text: str) -> list[str]:
    """The tokens of an expression. Raises Unclear for characters that no token has."""
    found, at, end = [], 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            raise Unclear(_strange(text[at:].strip()))
        found.append(match[1])
        at = match.end()
    if sum(part not in "()" for part in found) > 2 * _MOST_OPERATORS:
        raise Unclear("the expression is too long")
    return found


def _strange(text: str) -> str:
    """The reason why an expression cannot continue with this text."""
    match = re.match(r"((?:0x)?[0-9a-f]+h\b|[$]?\d[\w.$@]*)", text, re.IGNORECASE)
    if match and match[0][-1] in "hH":
        digits = match[0][:-1].lower().removeprefix("0x").lstrip("0") or "0"
        return f"a hexadecimal number is written 0x{digits}, not {match[0]}"
    if match:
        return f"not a number: {match[0]}"
    if text[0] in "%":
        return "AT&T syntax; only Intel syntax is understood"
    return f"unexpected character {text[0]!r}"


def parse(text: str, *, truth: bool = False) -> Expression:
    """The tree of the expression. truth: for `.if`, where comparisons are allowed."""
    return parse_tokens(tokens(text), truth=truth)


def parse_tokens(parts: Sequence[str], *, truth: bool = False) -> Expression:
    """As ``parse``. Raises Unclear."""
    if not parts:
        raise Unclear("the statement ends too early")
    as_c, as_gnu = readings(parts)
    if not truth and any(part in TRUTHS for part in parts):
        raise Unclear("a comparison can only stand in .if")
    if as_c != as_gnu and (fold(as_c) != fold(as_gnu) or not isinstance(fold(as_c), Number)):
        raise Ambiguous
    return as_c


def readings(parts: Sequence[str]) -> tuple[Expression, Expression]:
    """The expression by C's precedences, and by the GNU assembler's."""
    return _tree(parts, _C), _tree(parts, _GNU)


_UNARY = 99
"""Precedence of unary operators: higher than that of every binary one."""


def _tree(parts: Sequence[str], binds: Mapping[str, int]) -> Expression:
    """The tree by one table of precedences. Dijkstra's shunting yard: parentheses need no recursion."""
    operands: list[Expression] = []
    operators: list[tuple[str, int]] = []

    def reduce(least: int) -> None:
        while operators and operators[-1][1] >= least:
            operator, bound = operators.pop()
            right = operands.pop()
            if bound == _UNARY:
                operands.append(Unary(operator, right))
            else:
                operands.append(Binary(operator, operands.pop(), right))

    wanted = True  # an operand
    for part in parts:
        operator = _WORDS.get(part.lower(), part)
        if wanted and part in ("-", "+", "~", "!"):
            if part != "+":
                operators.append((part, _UNARY))
        elif wanted and part == "(":
            operators.append((part, -1))
        elif wanted:
            operands.append(_operand(part))
            wanted = False
        elif part == ")":
            reduce(0)
            if not operators:
                raise Unclear("unbalanced brackets")
            operators.pop()
        elif operator in binds:
            reduce(binds[operator])
            operators.append(("!=" if operator == "<>" else operator, binds[operator]))
            wanted = True
        else:
            raise Unclear(f"unexpected {part}")
    if wanted:
        raise Unclear("the statement ends too early")
    reduce(0)
    if operators:
        raise Unclear("unbalanced brackets")
    return operands[0]


def _operand(part: str) -> Expression:
    if part[0].isdigit() or part[0] == "'":
        return Number(_literal(part))
    if part[0].isalpha() or part[0] in "_.$":
        return Name(part)
    raise Unclear("unbalanced brackets" if part == ")" else f"unexpected {part}")


def _literal(token: str) -> int:
    """The number of a literal: a leading 0 is octal, 'a' a character. Raises Unclear."""
    if token[0] == "'":
        if len(token) == 3:
            return ord(token[1])
        if token[2] not in _ESCAPES:
            raise Unclear(f"unknown escape in a character: {token}")
        return _ESCAPES[token[2]]
    if len(token) > _MOST_DIGITS:
        raise OutOfRange
    octal = token[0] == "0" and len(token) > 1 and token.isdigit()
    if octal and set(token) & {"8", "9"}:
        raise Unclear(f"a number that begins with 0 is octal: {token}")
    value = int(token, 8 if octal else 0)
    if value >= 1 << 64:
        raise OutOfRange
    return value


_OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b,
    "&": lambda a, b: a & b, "|": lambda a, b: a | b, "^": lambda a, b: a ^ b,
    "<<": lambda a, b: a << b, ">>": lambda a, b: a >> b,
    "/": lambda a, b: abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1),
    "%": lambda a, b: abs(a) % abs(b) * (-1 if a < 0 else 1),
    "==": lambda a, b: a == b, "!=": lambda a, b: a != b, "<": lambda a, b: a < b,
    ">": lambda a, b: a > b, "<=": lambda a, b: a <= b, ">=": lambda a, b: a >= b,
    "&&": lambda a, b: bool(a and b), "||": lambda a, b: bool(a or b),
}  # fmt: skip


def _apply(operator: str, left: int, right: int) -> int:
    """The value of one operation. Raises Unclear if the result depends on how a number is stored."""
    if operator in "/%" and not right:
        raise Unclear("division by 0")
    if operator in ("<<", ">>") and (left < 0 or not 0 <= right <= 63):
        raise Unclear("a shift of a negative number, or by a number outside 0 to 63")
    return _checked(int(_OPERATIONS[operator](left, right)))


def _checked(value: int) -> int:
    if not -(1 << 63) <= value < 1 << 64:
        raise OutOfRange
    return value


def fold(expression: Expression, resolve: Callable[[str], Expression] | None = None) -> Expression:
    """The expression with every known part computed. resolve: gives the definition of a name."""
    match expression:
        case Number() | Place():
            return expression
        case Name(name):
            return resolve(name) if resolve else expression
        case Unary(operator, operand):
            inner = fold(operand, resolve)
            if not isinstance(inner, Number):
                return Unary(operator, inner)
            return Number(_checked(_unary(operator, inner.value)))
        case Binary(operator, left, right):
            a, b = fold(left, resolve), fold(right, resolve)
            if isinstance(a, Number) and isinstance(b, Number):
                return Number(_apply(operator, a.value, b.value))
            if operator == "-" and a == b:
                return Number(0)
            return Binary(operator, a, b)


def _unary(operator: str, value: int) -> int:
    return {"-": -value, "~": ~value}.get(operator, int(not value))


def evaluate(expression: Expression, addresses: Sequence[int]) -> int:
    """The value when every statement has its address. Raises Unclear."""
    found = fold(_placed(expression, addresses))
    assert isinstance(found, Number), "a name was not resolved"
    return found.value


def _placed(expression: Expression, addresses: Sequence[int]) -> Expression:
    match expression:
        case Place(index):
            return Number(addresses[index])
        case Unary(operator, operand):
            return Unary(operator, _placed(operand, addresses))
        case Binary(operator, left, right):
            return Binary(operator, _placed(left, addresses), _placed(right, addresses))
        case _:
            return expression


def render(expression: Expression) -> str:
    """The expression in Keystone's syntax."""
    match expression:
        case Number(value):
            return f"{value:#x}" if value >= 0 else f"(-{-value:#x})"
        case Place(index):
            return f"__ks_{index}"
        case Name(name):
            return name
        case Unary(operator, operand):
            return f"({operator}{render(operand)})"
        case Binary(operator, left, right):
            return f"({render(left)} {operator} {render(right)})"


def labels(expression: Expression) -> int:
    """The number of addresses that it adds up: 1 for a label, 0 for a number and for `end - start`."""
    match expression:
        case Place():
            return 1
        case Unary("-", operand):
            return -labels(operand)
        case Binary("+", left, right):
            return labels(left) + labels(right)
        case Binary("-", left, right):
            return labels(left) - labels(right)
        case _:
            return 0


def names(expression: Expression) -> list[str]:
    """The names in it, in order."""
    match expression:
        case Name(name):
            return [name]
        case Unary(_, operand):
            return names(operand)
        case Binary(_, left, right):
            return names(left) + names(right)
        case _:
            return []
