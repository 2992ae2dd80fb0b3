"""Sums in operands, said so that Keystone reads them as they are meant.

It loses a symbol of `[r8 + A + B]`, the sign of `[rbx - A]` and the label of `[rip + label + A]`,
takes `4 + label` for memory, and makes `mov rbx, [0x5000]` relative to RIP: all without a word.
What it does read correctly stays as it is written. For the rest constants are folded into one
number; and a sum that takes more than one label gets a name of its own, defined before the
instruction, for Keystone's directives do read any sum. Operators bind as in C, as in Keystone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

_TOKEN = re.compile(
    r"\s*(0[xX][0-9a-fA-F]+|0[bB][01]+|\d+(?![\w.$@])|'(?:\\.|[^\\])'"
    r"|\\\w+|[A-Za-z_.$@][\w.$@]*|<<|>>|[-+*/%&|^~()])"
)
_MEMORY = re.compile(r"([^\[\]]*)\[([^\[\]]*)\]$")
_BEFORE_BRACKET = re.compile(r"(?:(?:\w+\s+)?ptr\b\s*)?(?:[c-gs]s\s*:)?\s*$", re.IGNORECASE)
_WIDE = re.compile(r"r(?:[bcd]x|[sb]p|[sd]i|[89]|1[0-5])$", re.IGNORECASE)
_ACCUMULATOR = re.compile(r"(?:[re]?ax|al)$", re.IGNORECASE)
_BINARY: dict[str, tuple[int, Callable[[int, int], int]]] = {
    "|": (1, lambda a, b: a | b), "^": (2, lambda a, b: a ^ b), "&": (3, lambda a, b: a & b),
    "<<": (4, lambda a, b: a << b), ">>": (4, lambda a, b: a >> b),
    "+": (5, lambda a, b: a + b), "-": (5, lambda a, b: a - b), "*": (6, lambda a, b: a * b),
    "/": (6, lambda a, b: a // b), "%": (6, lambda a, b: a % b),
}  # fmt: skip
"""How tightly an operator binds, and what it does."""

BRANCH = re.compile(r"(?:j\w+|call|loop\w*)$")
REGISTER = re.compile(
    r"(?:r(?:ax|bx|cx|dx|si|di|sp|bp|ip)|e(?:ax|bx|cx|dx|si|di|sp|bp|ip)|[abcd][hlx]|(?:si|di|sp|bp)l?"
    r"|r(?:8|9|1[0-5])[dwb]?|[c-gs]s|st\d?|mm[0-7]|[xy]mm\d{1,2}|[cd]r\d{1,2}|ei[pz]|riz)$",
    re.IGNORECASE,
)
SIZE = re.compile(r"(?:byte|[dqft]?word|tbyte|oword|[xy]mmword)$", re.IGNORECASE)
"""Words that Keystone reads as the size of a memory operand, even where a label must stand."""


class Unclear(Exception):
    """The operand cannot be said in Keystone's words; the message says why."""


@dataclass(frozen=True, slots=True)
class Sum:
    """An expression without registers. text: for Keystone. value: None where labels decide it.

    labels: how many addresses it adds up: 1 for a label, 0 for a number and for `end - start`."""

    text: str
    value: int | None
    labels: int


def tokens(text: str) -> list[str] | None:
    """None: something in it is no part of an expression."""
    found, at, end = [], 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            return None
        found.append(match[1])
        at = match.end()
    return found


def is_name(token: str) -> bool:
    return token[0].isalpha() or token[0] in "_.$@\\"


def evaluate(parts: list[str], symbols: Mapping[str, Sum]) -> Sum | None:
    """The expression that the tokens are, or None if they are none."""
    rest = iter([*parts, ""])
    try:
        found, end = _binary(rest, next(rest), 0, symbols)
    except (StopIteration, ValueError, RecursionError):  # the last: a thousand parentheses
        return None
    return None if end else found


def resolve(definitions: Mapping[str, list[str]]) -> dict[str, Sum]:
    """What is known of the names that these expressions define. What a name stands for that is
    defined twice, or in a block ("" here), only Keystone knows, which reads in order."""
    symbols: dict[str, Sum] = {}
    waiting = dict(definitions)
    while waiting:
        left = {}
        for name, expressions in waiting.items():
            parts = tokens(expressions[0]) if len(expressions) == 1 else None
            if parts and len({"|", "^", "&"} & {*parts}) > 1:
                parts = None  # in a directive these bind alike, in an operand as in C
            if parts and any(part in waiting for part in parts):
                left[name] = expressions
            else:
                found = evaluate(parts, symbols) if parts else None
                symbols[name] = found or Sum(name, None, 0)
        if len(left) == len(waiting):
            break
        waiting = left
    return symbols


def _binary(rest: Iterator[str], token: str, least: int, symbols: Mapping[str, Sum]) -> tuple[Sum, str]:
    left, token = _unary(rest, token, symbols)
    while token in _BINARY and _BINARY[token][0] >= least:
        operator = token
        right, token = _binary(rest, next(rest), _BINARY[operator][0] + 1, symbols)
        labels = {"+": left.labels + right.labels, "-": left.labels - right.labels}.get(operator, 0)
        text = f"({left.text} {operator} {right.text})"
        left = Sum(text, _apply(operator, left.value, right.value), labels)
    return left, token


def _apply(operator: str, left: int | None, right: int | None) -> int | None:
    """None also where it depends on how Keystone stores numbers."""
    if left is None or right is None:
        return None
    if operator in ("<<", ">>", "/", "%") and (
        left < 0 or right < 0 or (right > 63 and operator > "/")
    ):
        return None
    if operator in "/%" and not right:
        return None
    value = _BINARY[operator][1](left, right)
    return value if -(1 << 63) <= value < 1 << 64 else None


def _unary(rest: Iterator[str], token: str, symbols: Mapping[str, Sum]) -> tuple[Sum, str]:
    if token in ("-", "+", "~"):
        inner, after = _unary(rest, next(rest), symbols)
        value = inner.value
        if value is not None and token != "+":
            value = -value if token == "-" else ~value
        return Sum(
            f"({token}{inner.text})", value, -inner.labels if token == "-" else inner.labels
        ), after
    if token == "(":
        inner, after = _binary(rest, next(rest), 0, symbols)
        if after != ")":
            raise ValueError
        return inner, next(rest)
    if not token or token in _BINARY or token == ")":
        raise ValueError
    if token[0] == "\\":  # a macro's argument, which may be a sum itself
        return Sum(f"({token})", None, 1), next(rest)
    if is_name(token):
        known = symbols.get(token)
        return Sum(token, known.value if known else None, known.labels if known else 1), next(rest)
    return Sum(token, _literal(token), 0), next(rest)


def _literal(token: str) -> int:
    """As Keystone has it: a leading 0 is octal, 'a' a character. Raises ValueError."""
    if token[0] == "'":
        if len(token) != 3:
            raise ValueError
        return ord(token[1])
    return int(token, 8 if token[0] == "0" and token.isdigit() else 0)


def _terms(parts: list[str]) -> list[tuple[str, list[str]]]:
    """The signs and terms of the sum, as it stands outside parentheses."""
    found: list[tuple[str, list[str]]] = []
    depth, before = 0, ""
    for token in parts:
        if token in ("+", "-") and not depth and (not before or before == ")" or before not in _BINARY):
            found.append((token, []))
        else:
            if not found:
                found.append(("+", []))
            found[-1][1].append(token)
        depth += (token == "(") - (token == ")")
        before = token
    return found


def _is_register(token: str) -> bool:
    return REGISTER.match(token) is not None


def _one_label(parts: list[str]) -> bool:
    """Is it one name, added once, and numbers? That much Keystone reads."""
    names = [term for _, term in _terms(parts) if any(map(is_name, term))]
    return len(names) == 1 and len(names[0]) == 1 and ("+", names[0]) in _terms(parts)


@dataclass(slots=True)
class Rewriter:
    """Rewrites the operands of one instruction; its methods raise Unclear.

    symbols: what is known of names. base: the image's address. name: makes a new name.
    definitions: lines for Keystone that have to stand before the instruction."""

    symbols: Mapping[str, Sum]
    base: int
    name: Callable[[], str]
    definitions: list[str] = field(default_factory=list)

    def instruction(self, word: str, operands: list[str]) -> list[str]:
        """The operands in Keystone's words."""
        is_move = word == "mov" and len(operands) == 2
        far = is_move and any(_ACCUMULATOR.match(o.strip()) for o in operands)  # 64-bit addresses
        changed = []
        for i, text in enumerate(operands):
            if text.isidentifier() and word != "push" and not SIZE.match(text):
                pass  # most are a register or a label
            elif match := _MEMORY.match(text.strip()):
                if _BEFORE_BRACKET.match(match[1]):
                    wide = is_move and i == 1 and _WIDE.match(operands[0].strip()) is not None
                    text = f"{match[1]}[{self._address(match[2], wide, far)}]"
                elif re.search(r"[-+*/]", match[1]):
                    raise Unclear("a sum belongs inside the brackets")
            elif parts := tokens(text):
                text = self._immediate(word, text, parts)
            changed.append(text)
        return changed

    def arguments(self, text: str) -> str:
        """A macro's, where a sum may be put anywhere: as one number or name."""
        changed = []
        for argument in text.split(","):
            parts = tokens(argument) or []
            whole = (
                evaluate(parts, self.symbols)
                if len(parts) > 1 and not re.search(r"[\s\\]", argument.strip())
                else None
            )
            if whole and any(map(is_name, parts)) and not any(map(_is_register, parts)):
                value = whole.value
                argument = self._define(whole.text) if value is None else f"{value:#x}"
            changed.append(argument)
        return ",".join(changed)

    def _immediate(self, word: str, text: str, parts: list[str]) -> str:
        whole = evaluate(parts, self.symbols)
        if whole is None:
            return text  # `st(1)`, `short x`, a mistake: Keystone knows better
        if word == "push" and whole.value is not None and not _is_near(whole.value):
            raise Unclear("a pushed number has 32 bits, with its sign")
        names = [p for p in parts if is_name(p)]
        if len(parts) == 1 and not SIZE.match(parts[0]):
            return text
        if any(map(_is_register, names)):
            raise Unclear("a register is no part of an expression")
        if not names and not {"%", "~"} & {*parts} and parts[0] != "-":
            return text
        if whole.value is not None:
            return f"{whole.value:#x}"
        readable = is_name(parts[0]) and _one_label(parts) and not SIZE.match(parts[0])
        if readable and not names[0].startswith("\\") and not BRANCH.match(word):
            return text
        return self._define(whole.text)

    def _address(self, text: str, wide: bool, far: bool) -> str:
        """What stands between brackets: registers, kept, and the displacement."""
        parts = tokens(text)
        if not parts:
            return text
        registers: list[str] = []
        others: list[str] = []
        for sign, term in _terms(parts):
            if any(map(_is_register, term)) or (sign == "+" and term[0][0] == "\\"):
                if sign == "-":
                    raise Unclear("a register cannot be subtracted")
                registers.append(self._scaled(term))
            else:
                others += [sign, *term]
        lead = " + ".join(registers)
        if not others:
            return lead
        changed = lead + self._displacement(others, registers, wide, far)
        return changed if registers else changed.removeprefix(" + ").lstrip()

    def _displacement(self, parts: list[str], registers: list[str], wide: bool, far: bool) -> str:
        as_it_is = " " + " ".join(parts)
        whole = evaluate(parts, self.symbols)
        if whole is None:
            return as_it_is
        value = whole.value
        names = [p for p in parts if is_name(p)]
        readable = _one_label(parts) and not SIZE.match(names[0])
        relative = any(r.lower() == "rip" for r in registers)
        if value is not None:
            if not _is_near(value) and (registers or not far):
                raise Unclear("an address or displacement here has 32 bits, with its sign")
            if wide and not registers:  # Keystone would make the number a distance from RIP
                return self._define(f"__ks_0 - {self.base:#x} + {whole.text}")
            if readable and not relative:
                return as_it_is
            return f" - {-value:#x}" if value < 0 else f" + {value:#x}"
        if relative and whole.labels != 1:
            raise Unclear("an address relative to RIP takes one label")
        return as_it_is if readable else " + " + self._define(whole.text)

    def _scaled(self, term: list[str]) -> str:
        """A base, or an index with its scale, which has to be a number for Keystone."""
        if len(term) > 2 and "*" in (term[1], term[-2]):
            first = _is_register(term[0])
            register, factor = (term[0], term[2:]) if first else (term[-1], term[:-2])
            scale = evaluate(factor, self.symbols)
            if _is_register(register) and scale and scale.value is not None:
                return f"{register}*{scale.value}"
        return " ".join(term)

    def _define(self, text: str) -> str:
        name = self.name()
        self.definitions.append(f"{name} = {text}\n")
        return name


def _is_near(value: int) -> bool:
    """Does it come back from 32 bits, extended with its sign?"""
    return -(1 << 31) <= value < 1 << 31 or (1 << 64) - (1 << 31) <= value < 1 << 64
