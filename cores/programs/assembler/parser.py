"""The parser: from assembly source to units for Keystone, each with its line and expected contents.

The statements, unrolled (cores/programs/assembler/blocks.py), are numbered; a label is the number of
its statement, and a name is replaced by its definition. Keystone never sees a user's name. It lays the
units out, choosing the lengths of jumps; its output for each unit is compared with the unit afterwards
(cores/programs/assembler/readback.py). Sections have no effect in a flat image: its parts lie in the
order of the source.
"""

from __future__ import annotations

import difflib
import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field

from cores.errors import InputError
from cores.programs.assembler import blocks, data, dialect, expressions, operands, source
from cores.programs.assembler.data import Bytes, Data, Gap, Padding
from cores.programs.assembler.expressions import Expression, Number, Place, Unclear
from cores.programs.assembler.instructions import Asked, Translator
from cores.programs.assembler.source import (
    ASSIGNMENT,
    DEFINITION,
    LABEL,
    WORD,
    Statement,
    excerpt,
    outside_quotes,
    split,
)

_NUMERIC_REFERENCE = re.compile(r"(?<![\w.$@])(\d+)([bf])\b")
_BITS = re.compile(r"bits\s+(16|32|64)$", re.IGNORECASE)
"""NASM's spelling of `.code16`, `.code32` and `.code64`."""
_PREFIX_LINES = {"data32": ".byte 0x66"}
"""Prefixes that Keystone does not know."""
_OURS = "__ks_"
_AT_AND_T = re.compile(r"(?:^|[,(:*])\s*(?:%[A-Za-z]|\$-?[0-9])")
HUGE = 1 << 29
"""Limit in bytes of an image, and of a size or a place in it."""
_DEEPEST = 50
"""Deepest chain of names defined by names that are defined later, resolved by recursion."""


Content = Asked | Data | Bytes | Gap | Padding | None


@dataclass(frozen=True, slots=True)
class Unit:
    """One statement. shown: the user's text, for messages. text: for Keystone. content: the expected
    contents, None for no bytes."""

    statement: Statement
    text: str = ""
    content: Content = None

    @property
    def line(self) -> int:
        return self.statement.line


@dataclass(slots=True)
class Assembly:
    """A parsed source. labels: name -> index of the unit that it precedes, in order."""

    units: list[Unit] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)


def mistake(reason: str, statement: Statement, path: str) -> InputError:
    """The error that names the statement, and the macro that it comes from."""
    return InputError(f"{reason}: {excerpt(statement.text)}{statement.via}", path, statement.written)


def parse(text: str, path: str, is_mnemonic: Callable[[str], bool], base: int) -> Assembly:
    """Parse a source. Raises InputError.

    is_mnemonic: whether a word is an instruction, which decides what a `;` begins. base: of the
    image."""
    statements = blocks.unroll(source.read(text, path, is_mnemonic), path)
    return _Parser(path, is_mnemonic, base).parse(statements)


class _Parser:
    def __init__(self, path: str, is_mnemonic: Callable[[str], bool], base: int) -> None:
        self.path = path
        self.is_mnemonic = is_mnemonic
        self.out = Assembly()
        self.numeric: dict[str, list[int]] = {}  # numeric label -> the statements that it precedes
        self.definitions: dict[str, list[tuple[int, str]]] = {}  # name -> statements and expressions
        self.values: dict[str, Expression] = {}  # definitions so far
        self.index = 0
        self.serial = 0
        self.lead = ""
        self.translator = Translator(64, base, self._define)

    def parse(self, statements: list[Statement]) -> Assembly:
        bare = []
        for self.index, statement in enumerate(statements):
            try:
                bare.append(self._find_names(statement.text))
            except Unclear as reason:
                raise mistake(str(reason), statement, self.path) from None
        for self.index, (statement, text) in enumerate(zip(statements, bare, strict=True)):
            self.lead = ""
            try:
                rendered, content = self._statement(text) if text else ("", None)
            except Unclear as reason:
                raise mistake(str(reason), statement, self.path) from None
            self.out.units.append(Unit(statement, self.lead + rendered, content))
        return self.out

    # Names

    def _find_names(self, text: str) -> str:
        """Record the labels and definitions of a statement. Returns the statement without labels."""
        if _OURS in text and '"' not in text:
            raise Unclear(f"names with {_OURS} are taken")
        while match := LABEL.match(text):
            name = match[1]
            if name.isdigit():
                self.numeric.setdefault(name, []).append(self.index)
            else:
                self._check_new(name)
                if name in self.definitions:
                    raise Unclear("this name is defined twice")
                self.out.labels[name] = self.index
            text = text[match.end() :]
        text = text.strip()
        if match := ASSIGNMENT.match(text) or DEFINITION.match(text):
            self._check_new(match[1])
            known = self.definitions.setdefault(match[1], [])
            if known and text.lower().startswith(".equiv"):
                raise Unclear("this name is defined twice")
            known.append((self.index, match[2]))
        return text

    def _check_new(self, name: str) -> None:
        if operands.is_register(name):
            raise Unclear("a register's name cannot be given to anything else")
        if name in (".", "$"):
            raise Unclear("to move on to an address, write .org")
        if name in self.out.labels:
            raise Unclear("this name is defined twice")

    def _resolve(self, name: str, depth: int = 0) -> Expression:
        """The definition of a name, as of this statement. Raises Unclear."""
        if name in (".", "$"):
            return Place(self.index)
        if name.startswith(_OURS):
            return Place(int(name.removeprefix(_OURS)))
        if (index := self.out.labels.get(name)) is not None:
            return Place(index)
        if (value := self.values.get(name)) is not None:
            return value
        definitions = self.definitions.get(name, [])
        if not definitions:
            raise Unclear(f"unknown symbol: {name}")
        if len(definitions) > 1:
            raise Unclear(f"{name} is defined more than once, and for the first time behind this")
        if depth > _DEEPEST:
            raise Unclear(f"{name} is defined by itself, or by too many others")
        here, (self.index, text) = self.index, definitions[0]
        try:
            self.values[name] = self._expression(text, depth + 1)
        finally:
            self.index = here
        return self.values[name]

    def _expression(self, text: str, depth: int = 0) -> Expression:
        tree = expressions.parse(self._numeric_references(text))
        if any(map(operands.is_register, expressions.names(tree))):
            raise Unclear("a register is no part of an expression")
        return expressions.fold(tree, lambda name: self._resolve(name, depth))

    def _numeric_references(self, text: str) -> str:
        """`1b` and `1f`: replaced by the nearest label 1 up to this statement and behind it."""

        def target(match: re.Match[str]) -> str:
            places = self.numeric.get(match[1], [])
            at = bisect_right(places, self.index) - (match[2] == "b")
            if not 0 <= at < len(places):
                raise Unclear(f"there is no label {match[0]}")
            return f"{_OURS}{places[at]}"

        return outside_quotes(lambda piece: _NUMERIC_REFERENCE.sub(target, piece), text)

    def _define(self, text: str) -> str:
        self.serial += 1
        self.lead += f"{_OURS}s{self.serial} = {text}\n"
        return f"{_OURS}s{self.serial}"

    # Statements

    def _statement(self, text: str) -> tuple[str, Content]:
        """The statement for Keystone, and its expected contents."""
        if match := ASSIGNMENT.match(text) or DEFINITION.match(text):
            if not match[2].strip():
                raise Unclear("the statement ends too early")
            self.values[match[1]] = self._expression(match[2])
            return "", None
        if match := _BITS.match(text):
            return self._directive(f".code{match[1]}", "")
        match = WORD.match(text)
        if match is None:
            raise Unclear(_no_statement(text))
        word, rest = match[0].lower(), text[match.end() :].strip()
        if word.startswith("."):
            return self._directive(word, rest)
        if _AT_AND_T.search(outside_quotes(str, rest)):
            raise Unclear("AT&T syntax; only Intel syntax is understood")
        return self._instruction(word, rest)

    def _instruction(self, word: str, rest: str) -> tuple[str, Content]:
        prefixes: list[str] = []
        while word in dialect.PREFIXES and (match := WORD.match(rest)):
            prefixes.append(word)
            word, rest = match[0].lower(), rest[match.end() :].strip()
        texts = split(self._numeric_references(rest), ",") if rest else []
        self.translator.end = Place(self.index + 1)
        if rest and not all(text.strip() for text in texts):
            raise Unclear("an operand is missing")
        try:
            text, asked = self.translator.translate(tuple(prefixes), word, texts, self._resolve)
        except Unclear:
            if word in dialect.ADDED or self.is_mnemonic(word):
                raise
            raise Unclear(unknown(word)) from None
        return "".join(f"{_PREFIX_LINES.get(p, p)}\n" for p in prefixes) + text, asked

    def _directive(self, word: str, rest: str) -> tuple[str, Content]:
        arguments = [a.strip() for a in split(rest, ",")] if rest else []
        if word in dialect.IGNORED:
            return "", None
        if word == ".att_syntax":
            raise Unclear("only Intel syntax is understood")
        if word in dialect.MODES:
            self.translator.mode = dialect.MODES[word]
            return word, None
        if word in (".equ", ".set", ".equiv"):
            raise Unclear("a name, a comma and its value are needed")
        if word == ".org":
            return self._origin(arguments)
        if not all(arguments):
            raise Unclear("the statement ends too early")
        if word in dialect.TEXTS:
            content = b"".join(data.text(a) + dialect.TEXTS[word] for a in arguments)
            return data.render(content), Bytes(content)
        if word in dialect.FLOAT_SIZES:
            content = b"".join(data.floating(a, dialect.FLOAT_SIZES[word]) for a in arguments)
            return data.render(content), Bytes(content)
        if word in dialect.DATA_SIZES:
            return self._data(word, arguments)
        if word in dialect.SPACES:
            return self._space(word, arguments)
        if word in dialect.ALIGNMENTS:
            return self._align(word, arguments)
        close = difflib.get_close_matches(word, dialect.DIRECTIVES, n=1, cutoff=0.75)
        raise Unclear(f"unknown directive{f' (is {close[0]} meant?)' if close else ''}")

    def _data(self, word: str, arguments: list[str]) -> tuple[str, Content]:
        size = dialect.DATA_SIZES[word]
        if not arguments:
            raise Unclear("the statement ends too early")
        if any(a.startswith('"') for a in arguments):
            raise Unclear("a text is laid down by .ascii or .asciz")
        values = [
            Number(whole) if size == 16 and (whole := data.octa(a)) is not None else self._expression(a)
            for a in arguments
        ]
        for value in values:
            if isinstance(value, Number) and not operands.fits(value.value, 8 * size):
                raise Unclear(f"value out of range of {8 * size} bits")
        content = Data(size, tuple(values))
        numbers = [v.value for v in values if isinstance(v, Number)]
        if len(numbers) == len(values):
            return data.render(
                b"".join((n % (1 << 8 * size)).to_bytes(size, "little") for n in numbers)
            ), content
        if size == 16:
            raise Unclear(".octa takes numbers")
        name = {1: ".byte", 2: ".short", 4: ".long", 8: ".quad"}[size]
        return f"{name} {', '.join(map(expressions.render, values))}", content

    def _count(self, text: str) -> int | None:
        """The value of a size that is known now, or None if it depends on labels."""
        value = self._expression(text)
        if not isinstance(value, Number):
            return None
        if not 0 <= value.value <= HUGE:
            raise Unclear("size out of range")
        return value.value

    def _space(self, word: str, arguments: list[str]) -> tuple[str, Content]:
        """`.space SIZE, FILL`; `.fill COUNT, SIZE, VALUE`. A size that depends on labels is emitted as
        an origin: other forms Keystone drops, or never returns from."""
        if not 1 <= len(arguments) <= (3 if word == ".fill" else 2):
            raise Unclear("size out of range" if not arguments else "too many arguments")
        unit = self._count(arguments[1]) if word == ".fill" and len(arguments) > 1 else 1
        if unit is None or (word == ".fill" and unit > 8):
            raise Unclear("size out of range")
        last = arguments[2 if word == ".fill" else 1 :]
        fill = self._expression(last[0]) if last else Number(0)
        if not isinstance(fill, Number) or not operands.fits(fill.value, 8 * unit or 8):
            raise Unclear(f"value out of range of {8 * unit} bits")
        count = self._count(arguments[0])
        if count is None:
            if fill.value:
                raise Unclear("a size made of labels can only be filled with zeros")
            size = expressions.Binary("*", self._expression(arguments[0]), Number(unit))
            end = expressions.Binary("+", Place(self.index), size)
            return f". = {expressions.render(end)}", Gap(end)
        if count * unit > HUGE:
            raise Unclear("size out of range")
        content = (fill.value % (1 << 8 * unit)).to_bytes(unit, "little")
        if not fill.value:
            return f".space {count * unit}", Bytes(b"\0", count * unit)
        return f".fill {count}, {unit}, {fill.value % (1 << 8 * unit):#x}", Bytes(content, count)

    def _align(self, word: str, arguments: list[str]) -> tuple[str, Content]:
        if not 1 <= len(arguments) <= 3:
            raise Unclear("an alignment is a number, a power of two")
        numbers = [self._expression(a) for a in arguments]
        known = [n.value for n in numbers if isinstance(n, Number)]
        if len(known) < len(numbers):
            raise Unclear("an alignment is a number, a power of two")
        size = 1 << known[0] if word == ".p2align" and 0 <= known[0] <= 24 else known[0]
        if not 0 < size <= 1 << 24 or size & (size - 1):
            raise Unclear("an alignment is a number, a power of two")
        fill = known[1] if len(known) > 1 else None
        most = known[2] if len(known) > 2 else 0
        if (fill is not None and not operands.fits(fill, 8)) or not 0 <= most <= HUGE:
            raise Unclear("value out of range")
        given = "".join(f", {n:#x}" for n in (*([] if fill is None else [fill & 0xFF]), *known[2:]))
        return f".balign {size}{given}", Padding(size, None if fill is None else fill & 0xFF, most)

    def _origin(self, arguments: list[str]) -> tuple[str, Content]:
        """`.org 0x200`: relative to the image's beginning; from a megabyte on, an address."""
        if len(arguments) != 1:
            raise Unclear("place out of range")
        place = self._expression(arguments[0])
        if isinstance(place, Number):
            if not 0 <= place.value < HUGE:
                raise Unclear("place out of range")
            if place.value < 1 << 20:
                place = expressions.Binary("+", Place(0), place)
        return f". = {expressions.render(place)}", Gap(place)


def _no_statement(text: str) -> str:
    if text.startswith("\\"):
        return "this is the argument of no macro"
    return "not a statement"


def unknown(word: str) -> str:
    """The reason why a word is not an instruction."""
    if re.match(r"(?:db|dw|dd|dq|resb|resw|resd|resq|times)$", word):
        return "NASM's directive; here it is .byte, .word, .long, .quad, .space or .rept"
    if re.match(r"(?:section|global|bits|org|extern|default)$", word):
        return "a directive begins with a period"
    return "unknown instruction"
