"""Disassembly around PC, for the screen."""

from __future__ import annotations

from cores.m68k.bus import Bus
from cores.m68k.decode import LONGEST, M68kInstruction, decode, text
from cores.machine.report import CodeLine

LINES_BEFORE, LINES_AFTER = 12, 28
WHOLE, LOOK_BACK = 1024, 48
"""Bytes before PC. Decoding begins at the program's start if that is at most ``WHOLE`` before PC, else
at the first of the last ``LOOK_BACK`` bytes from which it arrives at PC."""


def code(bus: Bus, pc: int, start: int) -> tuple[CodeLine, ...]:
    """The instructions before and from ``pc`` on. start: the program's; no code lies before it."""
    return (*_before(bus, pc, start)[-LINES_BEFORE:], *_lines(bus, pc, bus.size, LINES_AFTER))


def _before(bus: Bus, pc: int, start: int) -> list[CodeLine]:
    near = [start] if start < pc <= start + WHOLE else []
    for at in (*near, *range(max(start, pc - LOOK_BACK) & ~1, pc, 2)):
        lines = _lines(bus, at, pc)
        if lines and lines[-1].address + len(lines[-1].code) == pc:
            return lines
    return []


def _lines(bus: Bus, at: int, end: int, most: int = WHOLE) -> list[CodeLine]:
    lines: list[CodeLine] = []
    while at < end and not at & 1 and len(lines) < most:
        insn = instruction_at(bus, at)
        if insn is None:
            break
        lines.append(line(insn, at))
        at += insn.length
    return lines


def line(insn: M68kInstruction, at: int) -> CodeLine:
    """The instruction at ``at`` as a line."""
    kind = "privileged" if insn.privileged else "direct" if insn.mnemonic else "absent"
    return CodeLine(at, insn.code, text(insn, at), "", kind, 0)


def instruction_at(bus: Bus, at: int) -> M68kInstruction | None:
    """The instruction at ``at``; None where no RAM is."""
    window = bus.peek(at, LONGEST)
    return decode(window) if len(window) > 1 else None
