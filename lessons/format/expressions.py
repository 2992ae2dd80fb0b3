"""The small language of lessons: what is compared, asked and quoted.

    trap.exits == 37                 a machine's value (lessons/play/values.py lists them)
    new.trap.exits.io                how much it grew by the last move
    each.console == "303\\n"          holds on each machine that is here
    kvm.qword[0x40001000]            guest memory, by address or "symbol"
    answer > n * 2                   a learner's answer, and a number that a seed chose

Python's syntax, and of it only names, attributes, subscripts, numbers, strings, arithmetic,
comparisons, ``and``, ``or`` and ``not``: parsed by ``ast``, never executed by Python.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

from cores.x86.isa.instruction import Reason
from lessons.format import syntax_tree

Value = int | float | str | bool | None

CORE_NAMES = ("interpreter", "trap", "kvm")
EACH = "each"
REASONS = frozenset(reason.value for reason in Reason)
"""Names of exit reasons, as in ``trap.exits.io``."""

_ARITHMETIC: dict[type[ast.operator], Callable[[int | float, int | float], int | float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[object, object], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.In: lambda a, b: isinstance(a, str) and isinstance(b, str) and a in b,
    ast.NotIn: lambda a, b: isinstance(a, str) and isinstance(b, str) and a not in b,
}
_ORDERS: dict[type[ast.cmpop], Callable[[int | float, int | float], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


LONGEST = 2000
"""Characters of an expression."""
MOST_PARTS = 200
"""Nodes of its tree: a deeper one could not be walked."""
LARGEST = 1 << 256
_LITERAL = re.compile(r"""'[^']*'|"[^"]*\"""")
_ASSIGNS = re.compile(r"(?<![=!<>])=(?!=)")
MACHINES = frozenset(
    {*CORE_NAMES, EACH, "new", "here", "compared", "diverged", "divergence", "speed", "simulation"}
)
"""First words of the names whose values the machines decide."""


class ExpressionError(Exception):
    """An expression that cannot be parsed or names something unknown. The text is for the author."""


Lookup = Callable[[tuple[str, ...]], Value]
"""Value of a dotted name; a subscript is the last part, as text."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed expression. text: as written. names: every dotted name in it."""

    text: str
    tree: ast.expr
    names: tuple[tuple[str, ...], ...]

    @property
    def cores(self) -> frozenset[str]:
        """The cores that it speaks of by name."""
        told = (name[:2] for name in self.names if name[0] != "here")
        return frozenset(part for parts in told for part in parts if part in CORE_NAMES)

    @property
    def is_about_machines(self) -> bool:
        """May its value depend on what the machines do? Else it is known beforehand."""
        return any(name[0] in MACHINES for name in self.names)

    @property
    def for_each(self) -> bool:
        """Does the expression hold for each machine (``each.``)?"""
        return any(EACH in name[:2] for name in self.names)

    def value(self, lookup: Lookup) -> Value:
        """Raises ExpressionError."""
        return _evaluate(self.tree, lookup)


def parse(text: str) -> Expression:
    """Raises ExpressionError with what is wrong."""
    if len(text) > LONGEST:
        raise ExpressionError(f"not an expression: it has {len(text)} characters, {LONGEST} at most")
    try:
        tree = syntax_tree.expression(text.strip().replace("\n", "\\n"))
    except (RecursionError, MemoryError):
        raise ExpressionError("not an expression: nested too deeply") from None
    except (SyntaxError, ValueError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        if _ASSIGNS.search(_LITERAL.sub("", text)):
            reason = "write == to compare"
        raise ExpressionError(f"not an expression: {text.strip()!r} ({reason})") from None
    if sum(1 for _ in ast.walk(tree)) > MOST_PARTS:
        raise ExpressionError(f"not an expression: it has more than {MOST_PARTS} parts")
    names: list[tuple[str, ...]] = []
    _check(tree, names)
    return Expression(text.strip(), tree, tuple(names))


def _check(node: ast.expr, names: list[tuple[str, ...]]) -> None:
    """Only what ``_evaluate`` knows."""
    match node:
        case ast.Constant(value=int() | float() as number) if abs(number) > LARGEST:
            raise ExpressionError("too large a number")
        case ast.Constant(value=int() | float() | str() | None):
            return
        case ast.Name() | ast.Attribute() | ast.Subscript():
            names.append(_dotted(node))
        case ast.BoolOp(values=values):
            for value in values:
                _check(value, names)
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            _check(operand, names)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            _check(left, names)
            _check(right, names)
        case ast.Compare(left=left, ops=ops, comparators=rights) if all(
            type(op) in _COMPARISONS or type(op) in _ORDERS for op in ops
        ):
            for part in (left, *rights):
                _check(part, names)
        case _:
            raise ExpressionError(f"not part of the lessons' language: {ast.unparse(node)!r}")


def _dotted(node: ast.expr) -> tuple[str, ...]:
    match node:
        case ast.Name(id=name):
            return (name,)
        case ast.Attribute(value=value, attr=attr):
            return (*_dotted(value), attr)
        case ast.Subscript(value=value, slice=ast.Constant(value=int() | str() as key)):
            return (*_dotted(value), str(key))
    raise ExpressionError(f"not a name: {ast.unparse(node)!r}")


def _evaluate(node: ast.expr, lookup: Lookup) -> Value:
    match node:
        case ast.Constant(value=value):
            assert isinstance(value, int | float | str | None)
            return value
        case ast.BoolOp(op=ast.And(), values=values):
            return all(_evaluate(value, lookup) for value in values)
        case ast.BoolOp(values=values):
            return any(_evaluate(value, lookup) for value in values)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _evaluate(operand, lookup)
        case ast.UnaryOp(operand=operand):
            return -_number(operand, lookup)
        case ast.BinOp(left=left, op=op, right=right):
            a, b = _number(left, lookup), _number(right, lookup)
            if not b and isinstance(op, ast.Div | ast.FloorDiv | ast.Mod):
                raise ExpressionError(f"division by zero: {ast.unparse(node)}")
            result = _ARITHMETIC[type(op)](a, b)
            if abs(result) > LARGEST:
                raise ExpressionError(f"too large a number: {ast.unparse(node)}")
            return result
        case ast.Compare(left=left, ops=ops, comparators=rights):
            return _compare(left, ops, rights, lookup)
        case _:
            return lookup(_dotted(node))


def _number(node: ast.expr, lookup: Lookup) -> int | float:
    value = _evaluate(node, lookup)
    if isinstance(value, int | float):
        return value
    kind = "text" if isinstance(value, str) else "none here"
    raise ExpressionError(f"{ast.unparse(node)} is {kind}; a number is needed")


def _compare(left: ast.expr, ops: list[ast.cmpop], rights: list[ast.expr], lookup: Lookup) -> bool:
    for op, right in zip(ops, rights, strict=True):
        if type(op) in _ORDERS:
            if not _ORDERS[type(op)](_number(left, lookup), _number(right, lookup)):
                return False
        elif not _COMPARISONS[type(op)](_evaluate(left, lookup), _evaluate(right, lookup)):
            return False
        left = right
    return True
