"""The byte layout of an instruction in 16-, 32- and 64-bit code: its length and its fields.

Prefixes, REX, opcode, ModRM, SIB, displacement, immediates (SDM vol. 2, 2.1 and 2.2, appendix A).
Capstone knows names and operands, but cannot tell an invalid encoding from the beginning of a longer
instruction; the CPU can, and raises #UD or the page fault of the next page.

The width of the code ("bits") is that of the code segment's default operand and address size (SDM vol.
3, 3.4.5, D and L). The same bytes are other instructions in another width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from cores.x86.faults import general_protection
from cores.x86.registers import CS, DS, ES, FS, GS, RBP, RBX, RDI, RSI, RSP, SS

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

    segment: the segment of an override that has an effect, else NO_SEGMENT. rep: 0xF3, 0xF2 or 0, the
    last one given. rex: 0 when absent. modrm: -1 when absent.
    address: the memory operand, None for none. immediates: (offset, size) of each, in order.
    opcode_at: offset of the opcode byte itself, behind its escape bytes.
    length: 0 for VECTOR, whose length is not worked out. bits: 16, 32 or 64, the width of the code.
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
    bits: int

    @property
    def wide(self) -> bool:
        """REX.W."""
        return bool(self.rex & 8)

    @property
    def short(self) -> bool:
        """Whether operands have 16 bits, by prefix 66 and the width of the code."""
        return self.operand_prefix is not (self.bits == 16) and not self.rex & 8

    @property
    def data_segment(self) -> int:
        """The segment of an operand that is in DS unless overridden."""
        return DS if self.segment == NO_SEGMENT else self.segment

    @property
    def mandatory(self) -> str:
        """The prefix that selects among the instructions of an SSE opcode: "np" for none, "66", or "f3"
        or "f2", which overrule 66 (SDM vol. 2, 2.1.2)."""
        return f"{self.rep:x}" if self.rep else "66" if self.operand_prefix else "np"

    @property
    def head(self) -> int:
        """Bytes up to ModRM and SIB: behind them are displacement and immediates only."""
        end = self.opcode_at + (1 if self.modrm < 0 else 2)
        sib = self.modrm >= 0 and self.address is not None and self.modrm & 7 == 4
        return end + 1 if sib and self.address_size != 2 else end

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
_IMM8 = _set(*range(0x04, 0x40, 8), 0x6A, 0x6B, range(0x70, 0x81), 0x82, 0x83, 0xA8, range(0xB0, 0xB8),
             0xC0, 0xC1, 0xC6, 0xCD, range(0xE0, 0xE8), 0xEB)  # fmt: skip
_IMMZ = _set(*range(0x05, 0x40, 8), 0x68, 0x69, 0x81, 0xA9, 0xC7)
_IMM8_0F = _set(range(0x70, 0x74), 0xA4, 0xAC, 0xBA, 0xC2, 0xC4, 0xC5, 0xC6, 0x0F)
NO_SEGMENT = -1
"""``Encoding.segment`` without an override."""
_OVERRIDES = {0x26: ES, 0x2E: CS, 0x36: SS, 0x3E: DS, 0x64: FS, 0x65: GS}
_LONG_OVERRIDES = {**dict.fromkeys(_OVERRIDES, NO_SEGMENT), 0x64: FS, 0x65: GS}
"""The effective segment of each override; only FS and GS have one in 64-bit code (SDM vol. 1,
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


def parse(code: bytes, bits: int = 64) -> Encoding:
    """Take apart the instruction at the start of ``code``, at most 15 bytes.

    Raises Truncated when ``code`` ends too early, GuestFault(#GP) when 15 bytes are not enough."""
    reader = _Reader(code[:LONGEST])
    long = bits == 64
    overrides = _LONG_OVERRIDES if long else _OVERRIDES
    operand_prefix = lock = False
    rep, rex, segment = 0, 0, NO_SEGMENT
    address_size, other_address_size = {64: (8, 4), 32: (4, 2), 16: (2, 4)}[bits]
    while True:
        byte = reader.byte()
        if long and byte & 0xF0 == 0x40:
            rex = byte
            continue
        if byte == 0x66:
            operand_prefix = True
        elif byte == 0x67:
            address_size = other_address_size
        elif byte in (0xF2, 0xF3):
            rep = byte
        elif byte == 0xF0:
            lock = True
        elif byte in overrides:
            found = overrides[byte]
            segment = segment if found == NO_SEGMENT else found
        else:
            break
        rex = 0  # REX counts only directly before the opcode (SDM vol. 2, 2.2.1)

    table, opcode = _opcode(reader, byte, long)
    opcode_at = reader.at - 1
    head = operand_prefix, segment, address_size, rep, lock, rex, table, opcode, opcode_at
    if table == VECTOR:
        return Encoding(*head, -1, None, (), 0, bits)
    modrm, address = -1, None
    if _has_modrm(table, opcode, long):
        modrm = reader.byte()
        if modrm < 0xC0 and not (table == TWO_BYTE and 0x20 <= opcode <= 0x23):
            if address_size == 2:
                address = _address16(reader, modrm, segment)
            else:
                address = _address(reader, modrm, rex, segment, long)
    short = operand_prefix is not (bits == 16)
    sizes = _immediate_sizes(table, opcode, modrm, short, rex, address_size, long)
    immediates = tuple((reader.skip(size), size) for size in sizes)
    if table == ONE_BYTE and 0xA0 <= opcode <= 0xA3:
        begin, size = immediates[0]
        offset = int.from_bytes(code[begin : begin + size], "little")
        default = DS if segment == NO_SEGMENT else segment
        address, immediates = Address(default, None, None, 1, offset, False), ()
    return Encoding(*head, modrm, address, immediates, reader.at, bits)


def _opcode(reader: _Reader, byte: int, long: bool) -> tuple[int, int]:
    """Read escape bytes and opcode: (map, opcode)."""
    following = reader.code[reader.at] if reader.at < len(reader.code) else 0
    if byte in (0x62, 0xC4, 0xC5) and (long or following >= 0xC0):
        return VECTOR, byte  # else BOUND, LES and LDS, which have no register form
    if byte == 0x8F and following & 0x38:
        return VECTOR, byte  # XOP; as POP it would have reg = 0
    if byte != 0x0F:
        return ONE_BYTE, byte
    byte = reader.byte()
    if byte == 0x38:
        return MAP_38, reader.byte()
    if byte == 0x3A:
        return MAP_3A, reader.byte()
    return TWO_BYTE, byte


def _has_modrm(table: int, opcode: int, long: bool) -> bool:
    if table == ONE_BYTE:
        return opcode in _MODRM or (opcode in (0x62, 0xC4, 0xC5) and not long)
    return table != TWO_BYTE or opcode not in _MODRM_0F_WITHOUT


_BASES16 = ((RBX, RSI), (RBX, RDI), (RBP, RSI), (RBP, RDI),
            (RSI, None), (RDI, None), (RBP, None), (RBX, None))  # fmt: skip
"""(base, index) by ModRM.rm with 16-bit addresses (SDM vol. 2, table 2-1)."""


def _address16(reader: _Reader, modrm: int, segment: int) -> Address:
    """ModRM and displacement with 16-bit addresses (SDM vol. 2, 2.1.5)."""
    mod, rm = modrm >> 6, modrm & 7
    base: int | None
    base, index = _BASES16[rm]
    if rm == 6 and mod == 0:
        base, mod = None, 2
    displacement = 0 if mod == 0 else reader.signed(mod)
    default = SS if base == RBP else DS
    return Address(default if segment == NO_SEGMENT else segment, base, index, 1, displacement, False)


def _address(reader: _Reader, modrm: int, rex: int, segment: int, long: bool) -> Address:
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
        base, relative, wide_displacement = None, long, True
    displacement = reader.signed(4) if wide_displacement else reader.signed(1) if mod == 1 else 0
    default = SS if base in (RSP, RBP) else DS
    effective = default if segment == NO_SEGMENT else segment
    return Address(effective, base, index, scale, displacement, relative)


def _immediate_sizes(
    table: int, opcode: int, modrm: int, short: bool, rex: int, address_size: int, long: bool
) -> tuple[int, ...]:
    """Sizes of the immediates, in order (SDM vol. 2, appendix A). short: 16-bit operands."""
    usual = 2 if short and not rex & 8 else 4
    # Near branches ignore the operand size prefix in 64-bit code, as on Intel CPUs (SDM vol. 2, JMP).
    near = 4 if long else usual
    if table == MAP_3A:
        return (1,)
    if table == TWO_BYTE:
        if 0x80 <= opcode <= 0x8F:
            return (near,)
        return (1,) if opcode in _IMM8_0F else ()
    if table == MAP_38:
        return ()
    if opcode in _IMM8:
        return (1,)
    if opcode in _IMMZ:
        return (usual,)
    if 0xB8 <= opcode <= 0xBF:
        return (8 if rex & 8 else usual,)
    if opcode in (0xF6, 0xF7) and modrm & 0x30 == 0:
        return (1 if opcode == 0xF6 else usual,)
    if 0xA0 <= opcode <= 0xA3:
        return (address_size,)
    if opcode in (0x9A, 0xEA):  # offset and selector
        return () if long else (usual, 2)
    if opcode in (0xD4, 0xD5):
        return () if long else (1,)
    fixed = {0xE8: (near,), 0xE9: (near,), 0xC2: (2,), 0xCA: (2,), 0xC8: (2, 1)}
    return fixed.get(opcode, ())
