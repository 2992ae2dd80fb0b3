"""Addresses of the guest's code in words: the function, and the line of its source."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping

from cores.machine.report import SessionSnapshot
from cores.programs.sources import file_of

FURTHEST = 1 << 16
"""Bytes behind a symbol that may still be called after it."""

_sorted: list[tuple[object, list[int], list[str]]] = []


def _order(values: Mapping[str, int] | Mapping[int, int]) -> tuple[list[int], list[str]]:
    """Addresses in ascending order, with their names; made once for each dictionary."""
    for known, addresses, names in _sorted:
        if known is values:
            return addresses, names
    pairs = sorted((at, name) if isinstance(name, str) else (name, "") for name, at in values.items())
    made = [at for at, _ in pairs], [name for _, name in pairs]
    _sorted[:] = [(values, *made), *_sorted[:7]]
    return made


def line_of(s: SessionSnapshot, address: int) -> int:
    """The number of the line in ``s.source`` that an address belongs to, 0 for none."""
    if not s.files:
        return s.lines.get(address, 0)
    starts, _ = _order(s.lines)
    at = bisect_right(starts, address) - 1
    return s.lines[starts[at]] if at >= 0 else 0


def function(s: SessionSnapshot, address: int) -> str:
    """The nearest symbol before an address, with the distance: "main+1c", "" where there is none."""
    addresses, names = _order(s.symbols)
    at = bisect_right(addresses, address) - 1
    if at < 0 or address - addresses[at] >= FURTHEST:
        return ""
    offset = address - addresses[at]
    return names[at] + (f"+{offset:x}" if offset else "")


def line(s: SessionSnapshot, address: int) -> str:
    """ "file.c:12" for an address of a compiled program, "" where it is not known."""
    number = line_of(s, address) if s.files else 0
    if not number:
        return ""
    first, _ = file_of(s.files, number)
    return f"{s.source[first - 1]}:{number - first}"


def both(s: SessionSnapshot, address: int) -> str:
    """Function and line, as far as they are known."""
    return "  ".join(part for part in (function(s, address), line(s, address)) if part)


def named(s: SessionSnapshot) -> dict[str, int]:
    """All names for addresses that a user may type: symbols, and "file.c:12" for the first address of a
    line."""
    lines = {line(s, at): at for at in sorted(s.lines, reverse=True) if s.lines[at]} if s.files else {}
    return {**lines, **s.symbols}
