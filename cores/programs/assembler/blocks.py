"""Blocks: `.macro`, `.rept`, `.irp`, `.irpc` and `.if`, unrolled into plain statements.

Keystone supports them too, but drops whatever it cannot parse inside them, takes `.if` of an unknown
name for true, and expands a recursive macro until memory is exhausted. So blocks are unrolled before
Keystone. As in the GNU assembler, an argument is text, substituted before anything is parsed; arguments
are separated by commas or blanks; and a condition must be known where it stands.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from cores.errors import InputError
from cores.plural import counted
from cores.programs.assembler import expressions
from cores.programs.assembler.expressions import Expression, Name, Number, Unclear
from cores.programs.assembler.source import (
    ASSIGNMENT,
    DEFINITION,
    LABEL,
    Statement,
    excerpt,
    outside_quotes,
)

MANY = 1 << 17
"""Most statements that all blocks together may expand to: a few seconds of work."""
DEEPEST = 100
"""Deepest nesting of macros, as in the GNU assembler."""

_CONDITIONS: dict[str, Callable[[int], bool]] = {
    ".if": lambda n: n != 0, ".elseif": lambda n: n != 0, ".ifne": lambda n: n != 0,
    ".ifeq": lambda n: n == 0, ".ifge": lambda n: n >= 0, ".ifgt": lambda n: n > 0,
    ".ifle": lambda n: n <= 0, ".iflt": lambda n: n < 0,
}  # fmt: skip
_DEFINED = {".ifdef": True, ".ifndef": False, ".ifnotdef": False}
_BLANK = {".ifb": True, ".ifnb": False}
_IFS = (_CONDITIONS.keys() | _DEFINED.keys() | _BLANK.keys()) - {".elseif"}
_CLOSES = {
    ".rept": ".endr", ".irp": ".endr", ".irpc": ".endr", ".macro": ".endm",
    **dict.fromkeys(_IFS, ".endif"),
}  # fmt: skip
_CLOSERS = frozenset(_CLOSES.values())
_HEAD = re.compile(
    r"((?:\s*(?:\d+|[A-Za-z_.@$][\w.$@]*)\s*:(?!=))*)\s*([A-Za-z_.@$][\w.$@]*)?\s*(.*)$", re.DOTALL
)
_PARAMETER = re.compile(r"([A-Za-z_.$@][\w.$@]*)\s*(?::\s*(req|vararg))?\s*(?:=\s*)?", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z_.$@][\w.$@]*$")
_ARGUMENT = re.compile(r"\\(\(\)|@|[A-Za-z_.$][\w.$]*)")
_BESIDE_OPERATORS = re.compile(r"\s*([^\w\s.$@\\\"'])\s*")
_TEXT = re.compile(r"\s*(?:[\w.$@]+\s*:\s*)*\.(?:ascii|asciz|string)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Macro:
    """A macro. parameters: of each the name, the default and "", "req" or "vararg"."""

    name: str
    parameters: tuple[tuple[str, str, str], ...]
    body: tuple[Statement, ...]


def unroll(statements: Iterable[Statement], path: str) -> list[Statement]:
    """The statements without blocks. Raises InputError."""
    return _Unroller(statements, path).run()


class _Unroller:
    def __init__(self, statements: Iterable[Statement], path: str) -> None:
        self.path = path
        self.waiting = deque(statements)
        self.out: list[Statement] = []
        self.macros: dict[str, _Macro] = {}
        self.known: dict[str, Expression | None] = {}  # names so far; None: not a plain number
        self.calls = 0
        self.steps = 0
        self.inside = False  # a block has been unrolled
        self.now = Statement("", 0, 0)

    def error(self, reason: str, statement: Statement | None = None) -> InputError:
        at = statement or self.now
        return InputError(f"{reason}: {excerpt(at.text)}{at.via}", self.path, at.written)

    def run(self) -> list[Statement]:
        while self.waiting:
            self.now = self.waiting.popleft()
            labels, word, rest = _head(self.now.text)
            lower = word.lower()
            if lower not in _CLOSES and lower not in _CLOSERS and lower not in self.macros:
                if lower in (".else", ".elseif"):
                    raise self.error("an alternative without its .if")
                if lower == ".purgem" and rest.strip().lower() in self.macros:
                    del self.macros[rest.strip().lower()]
                    continue
                self._plain(self.now)
                continue
            if labels:
                self._plain(replace(self.now, text=labels))
            try:
                self._block(lower, rest)
            except Unclear as reason:
                raise self.error(str(reason)) from None
        return self.out

    def _plain(self, statement: Statement) -> None:
        self.out.append(statement)
        text = statement.text
        while match := LABEL.match(text):
            self.known[match[1]] = None
            text = text[match.end() :]
        text = text.strip()
        if match := ASSIGNMENT.match(text) or DEFINITION.match(text):
            try:
                value = expressions.fold(expressions.parse(match[2]), self._value)
                self.known[match[1]] = value if isinstance(value, Number) else None
            except Unclear:
                self.known[match[1]] = None

    def _value(self, name: str) -> Expression:
        return self.known.get(name) or Name(name)

    def _number(self, text: str) -> int:
        """The value of a condition or a count, which must be known at this statement."""
        found = expressions.fold(expressions.parse(text, truth=True), self._value)
        if isinstance(found, Number):
            return found.value
        for name in expressions.names(found):
            if name not in self.known and name not in (".", "$"):
                raise Unclear(f"unknown symbol: {name}")
        raise Unclear("this must be a number, and not depend on where labels lie")

    def _block(self, word: str, rest: str) -> None:
        if word in self.macros:
            self._use(self.macros[word], rest)
            return
        if word in _CLOSERS:
            raise Unclear("an end without its block")
        if not rest.strip() and word not in _BLANK:
            raise Unclear("the statement ends too early")
        opening = self.now
        count = self._number(rest) if word == ".rept" or word in _CONDITIONS else 0
        if word == ".rept" and not 0 <= count <= MANY:
            raise Unclear("number out of range")
        body, branches = self._body(opening, _CLOSES[word])
        if word in _IFS:
            self._choose(opening, word, rest, body, branches)
            return
        if branches:
            raise self.error("an alternative without its .if", body[branches[0]])
        if word == ".macro":
            self._define(rest, body)
        elif word == ".rept":
            self._spend(count * (len(body) + 1))
            for _ in range(count):
                self.waiting.extendleft(reversed(body))
        else:
            self._for_each(word, rest, body)

    def _spend(self, steps: int) -> None:
        self.steps += steps
        if self.steps > MANY:
            raise Unclear(f"the blocks come to more than {MANY} statements")

    def _body(self, opening: Statement, closer: str) -> tuple[list[Statement], list[int]]:
        """The statements up to the closer, and the indexes in them of this block's alternatives."""
        closers = [closer]
        body: list[Statement] = []
        branches: list[int] = []
        while self.waiting and self.waiting[0].call == opening.call:
            statement = self.waiting.popleft()
            word = _head(statement.text)[1].lower()
            if word in _CLOSES:
                closers.append(_CLOSES[word])
            elif word in _CLOSERS:
                if word != closers.pop():
                    raise self.error("an end without its block", statement)
                if not closers:
                    return body, branches
            elif word in (".else", ".elseif") and len(closers) == 1:
                branches.append(len(body))
            body.append(statement)
        raise self.error("block without an end", opening)

    def _choose(
        self, opening: Statement, word: str, rest: str, body: list[Statement], branches: list[int]
    ) -> None:
        """Expand the first branch whose condition is true."""
        parts = [-1, *branches, len(body)]
        ended = False
        for i, start in enumerate(parts[:-1]):
            if start >= 0:
                self.now = body[start]
                _, word, rest = _head(self.now.text)
                if ended:
                    raise Unclear("an alternative behind .else")
            word = word.lower()
            ended = word == ".else"
            if ended or self._holds(word, rest):
                chosen = body[start + 1 : parts[i + 1]]
                if ended and i + 2 < len(parts):
                    self.now = body[parts[i + 1]]
                    raise Unclear("an alternative behind .else")
                self.waiting.extendleft(reversed(chosen))
                return

    def _holds(self, word: str, rest: str) -> bool:
        if word in _DEFINED:
            name = rest.strip()
            if not _NAME.match(name):
                raise Unclear("a name is needed")
            return (name in self.known or name.lower() in self.macros) == _DEFINED[word]
        if word in _BLANK:
            return (not rest.strip()) == _BLANK[word]
        return _CONDITIONS[word](self._number(rest))

    # Macros

    def _define(self, rest: str, body: list[Statement]) -> None:
        name, _, parameters = rest.strip().partition(" ")
        name, comma, more = name.partition(",")
        if not _NAME.match(name):
            raise Unclear("a macro needs a name")
        found: list[tuple[str, str, str]] = []
        text = f"{more}{' ' if comma else ''}{parameters}".strip()
        while text:
            match = _PARAMETER.match(text)
            if match is None or match[1] in [p[0] for p in found]:
                raise Unclear("not a list of names")
            text = text[match.end() :]
            default = ""
            if "=" in match[0]:
                default, text = _argument(text)
            found.append((match[1], default, (match[2] or "").lower()))
            text = text.lstrip().removeprefix(",").lstrip()
        self.macros[name.lower()] = _Macro(name, tuple(found), tuple(body))

    def _use(self, macro: _Macro, rest: str) -> None:
        if self.now.depth >= DEEPEST:
            raise Unclear(f"a recursion without an end: more than {DEEPEST} macros within each other")
        self._spend(len(macro.body) + 1)
        values = self._arguments(macro, rest)
        values["@"] = str(self.calls)
        self.calls += 1
        used = self.now
        via = used.via or f" (in macro {macro.name}, used in line {used.line})"
        self.waiting.extendleft(
            Statement(_put(s.text, values), used.line, s.written, via, self.calls, used.depth + 1)
            for s in reversed(macro.body)
        )

    def _arguments(self, macro: _Macro, rest: str) -> dict[str, str]:
        names = [name for name, _, _ in macro.parameters]
        values: dict[str, str] = {}
        text, position = _tight(rest), 0
        while text:
            match = re.match(r"([A-Za-z_.$@][\w.$@]*)=(?!=)", text)
            if match and match[1] in names:
                name = match[1]
                values[name], text = _argument(text[match.end() :])
            elif position >= len(names):
                raise Unclear(f"macro {macro.name} takes {counted(len(names), 'argument')}")
            elif macro.parameters[position][2] == "vararg":
                values[names[position]], text = text, ""
            else:
                argument, text = _argument(text)
                if argument:
                    values[names[position]] = argument
                position += 1
            if text and text[0] not in ", ":
                raise Unclear("a comma is needed between arguments")
            text = text[1:]
        for name, default, kind in macro.parameters:
            if name not in values and kind == "req":
                raise Unclear(f"macro {macro.name} needs its argument {name}")
            values.setdefault(name, default)
        return values

    def _for_each(self, word: str, rest: str, body: list[Statement]) -> None:
        name, _, text = _tight(rest.strip()).replace(" ", ",", 1).partition(",")
        if not _NAME.match(name):
            raise Unclear("a name is needed")
        values = []
        if word == ".irpc":
            values = [c for c in text.strip() if c != '"']
        else:
            while text:
                value, text = _argument(text)
                values.append(value)
                text = text[1:]
        self._spend(len(values) * (len(body) + 1))
        for value in reversed(values or [""]):
            self.waiting.extendleft(
                replace(s, text=_put(s.text, {name: value})) for s in reversed(body)
            )


def _head(text: str) -> tuple[str, str, str]:
    """The labels, the first word and the rest of a statement."""
    match = _HEAD.match(text)
    assert match is not None
    return match[1].strip(), match[2] or "", match[3]


def _tight(text: str) -> str:
    """The text without blanks beside operators, so that the remaining blanks separate arguments."""
    return outside_quotes(lambda part: _BESIDE_OPERATORS.sub(r"\1", part), text.strip())


def _argument(text: str) -> tuple[str, str]:
    """The argument at the beginning, up to a comma or a blank outside brackets; and the rest."""
    depth, at = 0, 0
    while at < len(text):
        if match := re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\\])\'').match(text, at):
            at = match.end()
            continue
        if text[at] == "," or (text[at] == " " and not depth):
            break
        depth += (text[at] in "([") - (text[at] in ")]")
        at += 1
    return text[:at], text[at:]


def _put(text: str, values: dict[str, str]) -> str:
    """A statement of a body with the arguments substituted. Quotation marks around an argument keep it
    together, and are no part of it; but `.ascii \\text` includes them."""
    if "\\" not in text:
        return text
    whole = _TEXT.match(text) is not None

    def put(match: re.Match[str]) -> str:
        name = match[1]
        if name == "()":
            return ""
        value = values.get(name)
        if value is None:
            return match[0]
        quoted = len(value) > 1 and value[0] == value[-1] == '"'
        outside = text[: match.start()].replace('\\"', "").count('"') % 2 == 0
        return value[1:-1] if quoted and not (whole and outside) else value

    return _ARGUMENT.sub(put, text)
