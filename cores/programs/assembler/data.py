"""Data: the contents that directives emit, and the parsing of their arguments."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from cores.programs.assembler.expressions import Expression, Unclear

_TEXT = re.compile(r'"((?:\\.|[^"\\])*)"$')
_ESCAPE = re.compile(r"\\([0-7]{1,3}|x[0-9a-fA-F]+|.)", re.DOTALL)
_ESCAPES = {"b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "\\": 92, '"': 34}


@dataclass(frozen=True, slots=True)
class Data:
    """Integers of ``size`` bytes each."""

    size: int
    values: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Bytes:
    """``content``, ``times`` over."""

    content: bytes
    times: int = 1


@dataclass(frozen=True, slots=True)
class Gap:
    """Zeros up to an address."""

    end: Expression


@dataclass(frozen=True, slots=True)
class Padding:
    """Padding up to a multiple of ``alignment``, if that is at most ``most`` bytes away (0: any
    distance). fill: with this byte, or None for NOPs."""

    alignment: int
    fill: int | None = None
    most: int = 0


def render(content: bytes) -> str:
    """The bytes as directives, in lines short enough for Keystone."""
    return "\n".join(
        ".byte " + ",".join(map(str, content[i : i + 256])) for i in range(0, len(content), 256)
    )


def text(argument: str) -> bytes:
    """The bytes of a quoted string, with the GNU assembler's escapes. Raises Unclear."""
    match = _TEXT.match(argument)
    if match is None:
        raise Unclear("a text stands in quotation marks")
    found, at = bytearray(), 0
    for escape in _ESCAPE.finditer(match[1]):
        found += match[1][at : escape.start()].encode()
        at = escape.end()
        code = escape[1]
        if code[0] in "01234567":
            found.append(int(code, 8) & 0xFF)
        elif code[0] == "x" and len(code) > 1:
            found.append(int(code[1:], 16) & 0xFF)
        elif code in _ESCAPES:
            found.append(_ESCAPES[code])
        else:
            raise Unclear(f"unknown escape: \\{code}")
    return bytes(found + match[1][at:].encode())


def floating(argument: str, size: int) -> bytes:
    try:
        return struct.pack("<f" if size == 4 else "<d", float(argument))
    except ValueError:
        raise Unclear(f"not a number: {argument}") from None
    except OverflowError:
        raise Unclear("number out of range") from None


def octa(argument: str) -> int | None:
    """A plain number, which may have 128 bits."""
    try:
        return int(argument, 0)
    except ValueError:
        return None
