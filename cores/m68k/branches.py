"""Jumps: BRA, BSR, Bcc, DBcc, JMP, JSR and RTS (M68000PM/AD, 4)."""

from __future__ import annotations

from .bus import Bus
from .decode import M68kInstruction
from .registers import MASK24, MASK32, C, M68kCpu, N, V, Z

Stored = tuple[tuple[int, int], ...]
"""Ranges of RAM that were written: (address, bytes)."""

_BRANCH_TO_SUBROUTINE = 1


def jump(cpu: M68kCpu, bus: Bus, insn: M68kInstruction) -> Stored:
    """Complete a jump and set PC to its target. Raises M68kException, with nothing changed."""
    opcode = insn.opcode
    after = cpu.pc + insn.length
    if insn.mnemonic == "rts":
        cpu.pc, cpu.a[7] = bus.read(cpu.a[7], 4) & MASK24, (cpu.a[7] + 4) & MASK32
        return ()
    if opcode >> 12 == 6:
        return _branch(cpu, bus, insn, after)
    if opcode >> 12 == 5:
        _decrement_and_branch(cpu, insn, after)
        return ()
    target = _effective_address(cpu, insn)
    stored = _push_return(cpu, bus, after) if insn.mnemonic == "jsr" else ()
    cpu.pc = target & MASK24
    return stored


def _branch(cpu: M68kCpu, bus: Bus, insn: M68kInstruction, after: int) -> Stored:
    number = insn.opcode >> 8 & 0xF
    distance = _extension(insn) if insn.length > 2 else _signed(insn.opcode, 8)
    target = (cpu.pc + 2 + distance) & MASK24
    if number == _BRANCH_TO_SUBROUTINE:  # BSR has the number of the condition "false"
        stored = _push_return(cpu, bus, after)
        cpu.pc = target
        return stored
    cpu.pc = target if condition(number, cpu.sr) else after & MASK24
    return ()


def _decrement_and_branch(cpu: M68kCpu, insn: M68kInstruction, after: int) -> None:
    """DBcc: branch unless the condition is true, or the counter, a word, goes below zero."""
    target, cpu.pc = cpu.pc + 2 + _extension(insn), after & MASK24
    if condition(insn.opcode >> 8 & 0xF, cpu.sr):
        return
    register = insn.opcode & 7
    count = (cpu.d[register] - 1) & 0xFFFF
    cpu.d[register] = cpu.d[register] & 0xFFFF_0000 | count
    if count != 0xFFFF:
        cpu.pc = target & MASK24


def _push_return(cpu: M68kCpu, bus: Bus, after: int) -> Stored:
    stack = (cpu.a[7] - 4) & MASK32
    bus.write(stack, 4, after & MASK24)
    cpu.a[7] = stack
    return ((stack & MASK24, 4),)


def condition(number: int, sr: int) -> bool:
    """Is condition ``number`` true? (M68000PM/AD, table 3-19.) Odd numbers negate the even ones."""
    c, v, z, n = bool(sr & C), bool(sr & V), bool(sr & Z), bool(sr & N)
    holds = (True, not (c or z), not c, not z, not v, not n, n == v, n == v and not z)
    return holds[number >> 1] is not bool(number & 1)


def _effective_address(cpu: M68kCpu, insn: M68kInstruction) -> int:
    """The target of JMP or JSR, which have control addressing modes only (M68000PM/AD, 2.2)."""
    mode, register = insn.opcode >> 3 & 7, insn.opcode & 7
    if mode == 2:
        return cpu.a[register]
    if mode in (5, 6):
        base = cpu.a[register]
    elif register == 0:
        return _extension(insn)
    elif register == 1:
        return int.from_bytes(insn.code[2:6], "big")
    else:
        base = cpu.pc + 2
    if mode == 6 or (mode == 7 and register == 3):
        return base + _indexed(cpu, _extension(insn))
    return base + _extension(insn)


def _indexed(cpu: M68kCpu, extension: int) -> int:
    """Displacement and index of a brief extension word (M68000PM/AD, figure 2-2)."""
    file = cpu.a if extension & 0x8000 else cpu.d
    index = file[extension >> 12 & 7]
    return _signed(extension, 8) + (index if extension & 0x800 else _signed(index, 16))


def _extension(insn: M68kInstruction) -> int:
    return _signed(int.from_bytes(insn.code[2:4], "big"), 16)


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (value >> (bits - 1) << bits)
