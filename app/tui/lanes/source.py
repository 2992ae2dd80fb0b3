"""The program's lines, and which addresses belong to each.

A line of assembly is one instruction; one of C may have several stretches of them. Where there is no
source, or the guest executes what is not in it, lines are disassembly.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache

from app.tui.rows import places
from cores.machine.report import CodeLine, SessionSnapshot
from cores.programs.sources import file_of
from cores.vmm.trace import Site

_LABEL = re.compile(r"\s*([.\w$]+):\s*(.*)$")
_SIZES = re.compile(r"\b(?:qword|dword|word|byte|xmmword) ptr ")
_COMMENT = re.compile(r"^(?:#+|//+|;+)\s*")
NONE = Site(0, 0, 0, 0)
LONGEST = 15
"""Bytes of an instruction at most: a line with no more than these has one, unless it is of C."""
_RANK = {"data": 0, "direct": 1, "silent": 2, "absent": 3, "privileged": 4}


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the program. address: of its first instruction, None where it has none. number: in the
    source, 0 in disassembly. kind: see ``CodeLine``, of its most sensitive instruction. asm: of its
    first instruction."""

    address: int | None
    label: str = ""
    text: str = ""
    comment: str = ""
    number: int = 0
    kind: str = "direct"
    asm: str = ""


class Listing:
    """The lines in order. ``row_of`` gives the row to which an address belongs."""

    def __init__(self, lines: list[Line], starts: list[int], rows: list[int], end: int) -> None:
        """starts: addresses in ascending order, from each of which code belongs to the row in ``rows``,
        -1: to none. end: behind the last."""
        self.lines = lines
        self._starts, self._rows, self._end = starts, rows, end
        self._stretches: dict[int, list[range]] = {}
        for start, stop, at in zip(starts, [*starts[1:], end], rows, strict=True):
            if at >= 0:
                self._stretches.setdefault(at, []).append(range(start, stop))

    def row_of(self, address: int) -> int | None:
        at = bisect_right(self._starts, address) - 1
        if at < 0 or address >= self._end or self._rows[at] < 0:
            return None
        return self._rows[at]

    def site(self, at: int, sites: dict[int, Site]) -> Site:
        """The exits of a row: those of all its instructions."""
        stretches = self._stretches.get(at, ())
        if len(stretches) == 1 and len(stretches[0]) <= LONGEST:
            return sites.get(stretches[0].start, NONE)
        found = [site for address, site in sites.items() if any(address in s for s in stretches)]
        return Site(*map(sum, zip(*found, strict=True))) if found else NONE


def split(source: str) -> tuple[str, str, str]:
    """Label, statement and comment of a line of assembly. '#' begins a comment, but for in quotes."""
    quote, at = "", len(source)
    for i, char in enumerate(source):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == "#":
            at = i
            break
    code, comment = source[:at].rstrip(), _COMMENT.sub("", source[at:].strip())
    found = _LABEL.match(code)
    label = ""
    if found:
        label, code = found[1], found[2]
    return label, columns(code.strip()), comment


def columns(statement: str) -> str:
    """Mnemonic and operands at their places."""
    parts = statement.split(None, 1)
    return f"{parts[0]:<7} {parts[1]}" if len(parts) > 1 else statement


def brief(asm: str) -> str:
    """Disassembly without the operands' sizes."""
    return _SIZES.sub("", asm)


def instruction(s: SessionSnapshot, line: CodeLine) -> str:
    """An instruction as its source has it, else as disassembly; blanks single."""
    number = s.lines.get(line.address)
    if number is not None and number <= len(s.source) and _assembly(s):
        text = split(s.source[number - 1])[1]
        if text:
            return " ".join(text.split())
    return brief(line.text)


def comment(s: SessionSnapshot, line: CodeLine) -> str:
    """The comment of an instruction's line of assembly, "" without one."""
    number = s.lines.get(line.address)
    if number is None or number > len(s.source) or not _assembly(s):
        return ""
    return split(s.source[number - 1])[2]


def _assembly(s: SessionSnapshot) -> bool:
    """Is the source one file of assembly, which is split into columns?"""
    return bool(s.source) and not s.files


_made: list[tuple[tuple[str, ...], dict[int, CodeLine], int, Listing]] = []


def of_source(s: SessionSnapshot, anchor: int | None = None) -> Listing | None:
    """The listing of a session's source, of compiled code that of the file with the line of ``anchor``,
    made once; None without source."""
    if not s.source or not s.listing:
        return None
    first, end = file_of(s.files, 0 if anchor is None else places.line_of(s, anchor))
    for source, code, file, made in _made:
        if source is s.source and code is s.listing and file == first:
            return made
    made = _listing(s, first, end or len(s.source) + 1)
    _made[:] = [(s.source, s.listing, first, made), *_made[:7]]
    return made


def _listing(s: SessionSnapshot, begin: int, end: int) -> Listing:
    """The lines from number ``begin`` up to ``end``."""
    assembly = _assembly(s)
    by_line: dict[int, list[int]] = {}
    for address in sorted(s.listing):
        if begin <= s.lines[address] < end:
            by_line.setdefault(s.lines[address], []).append(address)
    lines: list[Line] = []
    row_of_line: dict[int, int] = {}
    for number in range(max(begin + bool(s.files), 1), end):
        text = s.source[number - 1]
        label, statement, note = split(text) if assembly else ("", text.rstrip(), "")
        addresses = by_line.get(number, [])
        if not addresses:
            lines.append(Line(None, label, statement, note, number))
            continue
        first = s.listing[addresses[0]]
        worst = max((s.listing[at] for at in addresses), key=lambda line: _RANK.get(line.kind, 1))
        if label and statement:
            lines.append(Line(None, label, "", "", number))
            label = ""
        row_of_line[number] = len(lines)
        lines.append(Line(first.address, label, statement, note, number, worst.kind, worst.text))
    starts = sorted(s.lines if s.files else s.listing)
    rows = [row_of_line.get(s.lines[at], -1) for at in starts]
    last = s.listing.get(starts[-1])
    return Listing(lines, starts, rows, starts[-1] + (1 if last is None else max(1, len(last.code))))


@lru_cache(maxsize=8)
def of_code(code: tuple[CodeLine, ...]) -> Listing:
    """The listing of a disassembly."""
    lines = [
        Line(line.address, "", columns(brief(line.text)), "", 0, line.kind, line.text) for line in code
    ]
    starts = [line.address for line in code]
    end = code[-1].address + max(1, len(code[-1].code)) if code else 0
    return Listing(lines, starts, list(range(len(lines))), end)
