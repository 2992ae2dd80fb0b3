"""The byte layout of an instruction in 64-bit mode: its length and its fields.

Prefixes, REX, opcode, ModRM, SIB, displacement, immediates (SDM vol. 2, 2.1 and 2.2, appendix A).
Capstone knows names and operands, but cannot tell an invalid encoding from the beginning of a longer
instruction; the CPU can, and raises #UD or the page fault of the next page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from cores.x86.faults import general_protection
from cores.x86.registers import DS, FS, GS, RBP, RSP, SS

LONGEST = 15
"""Bytes in the longest legal instruction (SDM vol. 2, 2.3.11)."""

ONE_BYTE, TWO_BYTE, MAP_38, MAP_3A, VECTOR = range(5)
"""Opcode maps: none, 0F, 0F 38, 0F 3A; VECTOR for VEX, EVEX and XOP, which the platform lacks."""


class Truncated(Exception):
    """The bytes end before the instruction does: the fetch of the byte after them faulted."""


@dataclass(frozen=True, slots=True)
class Address:
    """The memory operand that ModRM describes, as in ``instruction.MemoryOperand``."""

    segment: int
    base: int | None
    index: int | None
    scale: int
    displacement: int
    relative: bool


class Encoding(NamedTuple):
    """An instruction taken apart.

    segment: FS or GS when overridden, else 0. rep: 0xF3, 0xF2 or 0, the last one given.
    rex: 0 when absent. modrm: -1 when absent.
    address: the memory operand, None for none. immediates: (offset, size) of each, in order.
    opcode_at: offset of the opcode byte itself, behind its escape bytes.
    length: 0 for VECTOR, whose length is not worked out.
    """

    operand_prefix: bool
    segment: int
    address_size: int
    rep: int
    lock: bool
    rex: int
    map: int
    opcode: int
    opcode_at: int
    modrm: int
    address: Address | None
    immediates: tuple[tuple[int, int], ...]
    length: int

    @property
    def wide(self) -> bool:
        """REX.W."""
        return bool(self.rex & 8)

    @property
    def mandatory(self) -> str:
        """The prefix that selects among the instructions of an SSE opcode: "np" for none, "66", or "f3"
        or "f2", which overrule 66 (SDM vol. 2, 2.1.2)."""
        return f"{self.rep:x}" if self.rep else "66" if self.operand_prefix else "np"

    @property
    def reg(self) -> int:
        """ModRM.reg without REX.R: the opcode extension of groups."""
        return (self.modrm >> 3) & 7

    @property
    def register_form(self) -> bool:
        """Whether ModRM names a register where memory could stand."""
        return self.modrm >= 0xC0


def _set(*ranges: int | range) -> frozenset[int]:
    return frozenset(b for r in ranges for b in ([r] if isinstance(r, int) else r))


_ALU = [row + column for row in range(0, 0x40, 8) for column in range(4)]
_MODRM = _set(*_ALU, 0x63, 0x69, 0x6B, range(0x80, 0x90), 0xC0, 0xC1, 0xC6, 0xC7,
              range(0xD0, 0xD4), range(0xD8, 0xE0), 0xF6, 0xF7, 0xFE, 0xFF)  # fmt: skip
_MODRM_0F_WITHOUT = _set(range(0x04, 0x0D), 0x0E, range(0x30, 0x38), 0x77, range(0x80, 0x90),
                         0xA0, 0xA1, 0xA2, 0xA8, 0xA9, 0xAA, range(0xC8, 0xD0))  # fmt: skip
_IMM8 = _set(*range(0x04, 0x40, 8), 0x6A, 0x6B, range(0x70, 0x81), 0x83, 0xA8, range(0xB0, 0xB8),
             0xC0, 0xC1, 0xC6, 0xCD, range(0xE0, 0xE8), 0xEB)  # fmt: skip
_IMMZ = _set(*range(0x05, 0x40, 8), 0x68, 0x69, 0x81, 0xA9, 0xC7)
_IMM8_0F = _set(range(0x70, 0x74), 0xA4, 0xAC, 0xBA, 0xC2, 0xC4, 0xC5, 0xC6, 0x0F)
_SEGMENTS = {0x26: 0, 0x2E: 0, 0x36: 0, 0x3E: 0, 0x64: FS, 0x65: GS}
"""The effective segment of each override; only FS and GS have one in 64-bit mode (SDM vol. 1,
3.4.2.1)."""


class _Reader:
    """Reads the bytes one after the other."""

    def __init__(self, code: bytes) -> None:
        self.code = code
        self.at = 0

    def byte(self) -> int:
        at = self.at
        if at >= len(self.code):
            self.end()
        self.at = at + 1
        return self.code[at]

    def skip(self, count: int) -> int:
        """Pass over ``count`` bytes and return the offset where they began."""
        begin = self.at
        self.at += count
        if self.at > len(self.code):
            self.end()
        return begin

    def signed(self, size: int) -> int:
        begin = self.skip(size)
        return int.from_bytes(self.code[begin : begin + size], "little", signed=True)

    def end(self) -> None:
        if len(self.code) >= LONGEST:
            raise general_protection()
        raise Truncated


def parse(code: bytes) -> Encoding:
    """Take apart the instruction at the start of ``code``, at most 15 bytes.

    Raises Truncated when ``code`` ends too early, GuestFault(#GP) when 15 bytes are not enough."""
    reader = _Reader(code[:LONGEST])
    operand_prefix = lock = False
    address_size, rep, rex, segment = 8, 0, 0, 0
    while True:
        byte = reader.byte()
        if byte & 0xF0 == 0x40:
            rex = byte
            continue
        if byte == 0x66:
            operand_prefix = True
        elif byte == 0x67:
            address_size = 4
        elif byte in (0xF2, 0xF3):
            rep = byte
        elif byte == 0xF0:
            lock = True
        elif byte in _SEGMENTS:
            segment = _SEGMENTS[byte] or segment
        else:
            break
        rex = 0  # REX counts only directly before the opcode (SDM vol. 2, 2.2.1)

    table, opcode = _opcode(reader, byte)
    opcode_at = reader.at - 1
    if table == VECTOR:
        return Encoding(
            operand_prefix,
            segment,
            address_size,
            rep,
            lock,
            rex,
            table,
            opcode,
            opcode_at,
            -1,
            None,
            (),
            0,
        )
    modrm, address = -1, None
    if _has_modrm(table, opcode):
        modrm = reader.byte()
        if modrm < 0xC0 and not (table == TWO_BYTE and 0x20 <= opcode <= 0x23):
            address = _address(reader, modrm, rex, segment)
    sizes = _immediate_sizes(table, opcode, modrm, operand_prefix, rex, address_size)
    immediates = tuple((reader.skip(size), size) for size in sizes)
    if table == ONE_BYTE and 0xA0 <= opcode <= 0xA3:
        begin, size = immediates[0]
        offset = int.from_bytes(code[begin : begin + size], "little")
        address, immediates = Address(segment or DS, None, None, 1, offset, False), ()
    return Encoding(
        operand_prefix, segment, address_size, rep, lock, rex, table, opcode, opcode_at, modrm,
        address, immediates, reader.at,
    )  # fmt: skip


def _opcode(reader: _Reader, byte: int) -> tuple[int, int]:
    """Read escape bytes and opcode: (map, opcode)."""
    if byte in (0x62, 0xC4, 0xC5):
        return VECTOR, byte
    if byte == 0x8F and reader.at < len(reader.code) and reader.code[reader.at] & 0x38:
        return VECTOR, byte  # XOP; as POP it would have reg = 0
    if byte != 0x0F:
        return ONE_BYTE, byte
    byte = reader.byte()
    if byte == 0x38:
        return MAP_38, reader.byte()
    if byte == 0x3A:
        return MAP_3A, reader.byte()
    return TWO_BYTE, byte


def _has_modrm(table: int, opcode: int) -> bool:
    if table == ONE_BYTE:
        return opcode in _MODRM
    return table != TWO_BYTE or opcode not in _MODRM_0F_WITHOUT


def _address(reader: _Reader, modrm: int, rex: int, segment: int) -> Address:
    """ModRM, SIB and displacement (SDM vol. 2, 2.1.5 and 2.2.1.6)."""
    mod, rm = modrm >> 6, modrm & 7
    base: int | None = rm | (rex & 1) << 3
    index: int | None = None
    scale, relative, wide_displacement = 1, False, mod == 2
    if rm == 4:
        sib = reader.byte()
        scale = 1 << (sib >> 6)
        index = (sib >> 3) & 7 | (rex & 2) << 2
        index = None if index == RSP else index
        base = sib & 7 | (rex & 1) << 3
        if sib & 7 == 5 and mod == 0:
            base, wide_displacement = None, True
    elif rm == 5 and mod == 0:
        base, relative, wide_displacement = None, True, True
    displacement = reader.signed(4) if wide_displacement else reader.signed(1) if mod == 1 else 0
    default = SS if base in (RSP, RBP) else DS
    return Address(segment or default, base, index, scale, displacement, relative)


def _immediate_sizes(
    table: int, opcode: int, modrm: int, operand_prefix: bool, rex: int, address_size: int
) -> tuple[int, ...]:
    """Sizes of the immediates, in order (SDM vol. 2, appendix A)."""
    short = 2 if operand_prefix and not rex & 8 else 4
    if table == MAP_3A:
        return (1,)
    if table == TWO_BYTE:
        if 0x80 <= opcode <= 0x8F:
            return (4,)
        return (1,) if opcode in _IMM8_0F else ()
    if table == MAP_38:
        return ()
    if opcode in _IMM8:
        return (1,)
    if opcode in _IMMZ:
        return (short,)
    if 0xB8 <= opcode <= 0xBF:
        return (8 if rex & 8 else short,)
    if opcode in (0xF6, 0xF7) and modrm & 0x30 == 0:
        return (1 if opcode == 0xF6 else short,)
    if 0xA0 <= opcode <= 0xA3:
        return (address_size,)
    # Near branches ignore the operand size prefix in 64-bit mode, as on Intel CPUs (SDM vol. 2, JMP).
    fixed = {0xE8: (4,), 0xE9: (4,), 0xC2: (2,), 0xCA: (2,), 0xC8: (2, 1)}
    return fixed.get(opcode, ())
