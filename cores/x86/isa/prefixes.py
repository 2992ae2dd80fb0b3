"""Overruled prefixes, replaced in an instruction without changing its length.

Of F2 and F3 a CPU obeys the last one; on the SSE part of the 0F map either overrules 66 (SDM vol. 2,
2.1.1 and 2.1.2; the order is measured on CPUs). FS and GS overrides hold whatever CS, DS, ES and SS
overrides follow, which 64-bit code ignores (vol. 1, 3.3.7.1). REX.R means nothing to MOV r/m, imm, in
which ModRM.reg is part of the opcode. Unicorn reads all of these otherwise.
"""

from __future__ import annotations

from functools import lru_cache

from cores.x86.isa.encoding import ONE_BYTE, VECTOR, Encoding, parse
from cores.x86.isa.validity import is_sse

_REX_R = 4
_MOV_IMMEDIATE = (0xC6, 0xC7)
_NULL_SEGMENTS = (0x26, 0x2E, 0x36, 0x3E)
_OBEYING = frozenset((0x90, *range(0x6C, 0x70), *range(0xA4, 0xA8), *range(0xAA, 0xB0)))
"""One-byte opcodes on which F2 or F3 has an effect: PAUSE and string instructions."""
_PREFIXES = frozenset(
    (0x66, 0xF2, 0xF3, 0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x67, 0xF0, *range(0x40, 0x50))
)
_OVERRULED = _PREFIXES | {*_MOV_IMMEDIATE}
"""Bytes behind a first prefix that may overrule it."""


def normalized(code: bytes, bits: int = 64) -> bytes | None:
    """The same instruction, of the same length, with overruled prefixes replaced by those that hold;
    None if Unicorn reads this one rightly, which costs 0.1 us for most. bits: the code's width."""
    if code[0] not in _PREFIXES:
        return None
    if bits == 64 and len(code) > 1 and code[1] not in _OVERRULED:
        return None  # nothing overrules a single prefix
    return _normalized(code, bits)


@lru_cache(maxsize=1 << 12)
def _normalized(code: bytes, bits: int) -> bytes | None:
    e = parse(code, bits)
    if e.map == VECTOR:
        return None
    result = bytearray(code)
    if e.rep and (e.map != ONE_BYTE or e.opcode in _OBEYING):
        _replace_overruled(e, result)
    if bits != 64:
        return bytes(result) if result != code else None
    prefixes = result[: e.opcode_at]
    segment = max(prefixes.rfind(b"\x64"), prefixes.rfind(b"\x65"))
    behind = max(prefixes.rfind(bytes([null])) for null in _NULL_SEGMENTS)
    if 0 <= segment < behind:
        result[segment], result[behind] = result[behind], result[segment]
    rex = e.opcode_at - 1
    if e.map == ONE_BYTE and e.opcode in _MOV_IMMEDIATE and rex >= 0 and code[rex] & 0xF0 == 0x40:
        result[rex] &= ~_REX_R
    return bytes(result) if result != code else None


def _replace_overruled(e: Encoding, result: bytearray) -> None:
    for at in range(e.opcode_at):
        byte = result[at]
        if byte in (0xF2, 0xF3) or (byte == 0x66 and is_sse(e)):
            result[at] = e.rep
