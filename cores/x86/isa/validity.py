"""Valid encodings: the instructions of the platform's CPU; every other encoding is #UD.

An allow-list from the opcode maps (SDM vol. 2, appendix A), compared with a real CPU for some 700,000
encodings. A disassembler is not enough: Capstone accepts LOCK on a register, MOV to CS or CR1, and SSE
opcodes with prefixes that no CPU takes. Instructions of extensions that the platform lacks are not
here; those with a name are ABSENT in sensitive.py, and raise #UD as well.
"""

from __future__ import annotations

from cores.x86.isa.encoding import MAP_38, ONE_BYTE, TWO_BYTE, Encoding


def _set(*ranges: int | range) -> frozenset[int]:
    return frozenset(b for r in ranges for b in ([r] if isinstance(r, int) else r))


def exists(e: Encoding) -> bool:
    """Whether the platform's CPU has this instruction (SDM vol. 2, appendix A)."""
    if e.lock and not _lockable(e):
        return False
    if e.map == ONE_BYTE:
        return _one_byte(e)
    if e.map == TWO_BYTE:
        return _two_byte(e)
    wanted = _MAP_38 if e.map == MAP_38 else _MAP_3A
    if (e.map, e.opcode) == (MAP_38, 0x2A) and e.register_form:  # movntdqa
        return False
    return e.mandatory in wanted.get(e.opcode, "").split()


# --- LOCK ---------------------------------------------------------------------------------------

_LOCKABLE = _set(0x00, 0x01, 0x08, 0x09, 0x10, 0x11, 0x18, 0x19, 0x20, 0x21, 0x28, 0x29, 0x30, 0x31,
                 0x86, 0x87)  # fmt: skip
_LOCKABLE_0F = _set(0xAB, 0xB3, 0xBB, 0xB0, 0xB1, 0xC0, 0xC1)
_LOCKABLE_GROUPS = {
    (ONE_BYTE, 0x80): range(7), (ONE_BYTE, 0x81): range(7), (ONE_BYTE, 0x82): range(7),
    (ONE_BYTE, 0x83): range(7),
    (ONE_BYTE, 0xF6): range(2, 4), (ONE_BYTE, 0xF7): range(2, 4),
    (ONE_BYTE, 0xFE): range(2), (ONE_BYTE, 0xFF): range(2),
    (TWO_BYTE, 0xBA): range(5, 8), (TWO_BYTE, 0xC7): range(1, 2),
}  # fmt: skip


def _lockable(e: Encoding) -> bool:
    """Whether LOCK is valid: on these instructions only, and only with a memory destination (SDM vol.
    2, LOCK)."""
    if e.address is None:
        return False
    group = _LOCKABLE_GROUPS.get((e.map, e.opcode))
    if group is not None:
        return e.reg in group
    return e.opcode in {ONE_BYTE: _LOCKABLE, TWO_BYTE: _LOCKABLE_0F}.get(e.map, ())


# --- one-byte opcodes -----------------------------------------------------------------------------

_LEGACY = _set(0x06, 0x07, 0x0E, 0x16, 0x17, 0x1E, 0x1F, 0x27, 0x2F, 0x37, 0x3F, 0x60, 0x61, 0x82,
             0x9A, 0xCE, 0xD4, 0xD5, 0xD6, 0xEA)  # fmt: skip
"""Not in 64-bit code: push es ... pusha, aam, into, far calls and jumps with an immediate."""

_GROUPS = {
    0xC6: _set(0), 0xC7: _set(0), 0x8F: _set(0), 0x8C: _set(range(6)), 0x8E: _set(0, 2, 3, 4, 5),
    0xFE: _set(0, 1), 0xFF: _set(range(7)),
}  # fmt: skip
"""Valid values of ModRM.reg, where not all are."""

_X87_MEMORY_GAPS = {(0xD9, 1), (0xDB, 4), (0xDB, 6), (0xDD, 5)}
_X87_REGISTER = {
    0xD8: _set(range(0xC0, 0x100)),
    0xD9: _set(range(0xC0, 0xD1), range(0xD8, 0xE2), 0xE4, 0xE5, range(0xE8, 0xEF),
               range(0xF0, 0x100)),
    0xDA: _set(range(0xC0, 0xE0), 0xE9),
    0xDB: _set(range(0xC0, 0xE5), range(0xE8, 0xF8)),
    0xDC: _set(range(0xC0, 0x100)),
    0xDD: _set(range(0xC0, 0xF0)),
    0xDE: _set(range(0xC0, 0xD8), 0xD9, range(0xE0, 0x100)),
    0xDF: _set(range(0xC0, 0xE1), range(0xE8, 0xF8)),
}  # fmt: skip
"""x87 with a register operand: the ModRM bytes that are instructions, undocumented aliases included
(APM vol. 3, table A-16)."""


def _one_byte(e: Encoding) -> bool:
    if e.opcode in _LEGACY and e.bits == 64:
        return False
    if 0xD8 <= e.opcode <= 0xDF:
        if e.register_form:
            return e.modrm in _X87_REGISTER[e.opcode]
        return (e.opcode, e.reg) not in _X87_MEMORY_GAPS
    if e.opcode in _GROUPS and e.reg not in _GROUPS[e.opcode]:
        return False
    if e.register_form:
        return e.opcode != 0x8D and not (e.opcode == 0xFF and e.reg in (3, 5))
    return True


# --- 0F -------------------------------------------------------------------------------------------

_PLAIN_0F = _set(0x02, 0x03, range(0x05, 0x0A), 0x0B, 0x0D, range(0x18, 0x20), range(0x30, 0x34),
                 range(0x40, 0x50), range(0x80, 0xA6), range(0xA8, 0xAA), range(0xAB, 0xAE),
                 range(0xAF, 0xB2), range(0xB3, 0xB4), range(0xB6, 0xB8), 0xB9, range(0xBB, 0xC2),
                 range(0xC8, 0xD0), 0xFF)  # fmt: skip
"""Valid with any repeat and operand size prefixes."""

_MEMORY_0F = _set(0xB2, 0xB4, 0xB5)
"""Valid with any prefixes, in the memory form only: lss, lfs, lgs."""

_SSE: dict[int, str] = {}
"""MMX and SSE: mandatory prefixes with which an opcode is an instruction; "np" is none."""
for _prefixes, _opcodes in {
    "np 66 f3 f2": _set(0x10, 0x11, 0x2A, 0x2C, 0x2D, 0x51, range(0x58, 0x5B), range(0x5C, 0x60),
                        0x70, 0xC2),
    "np 66 f3": _set(0x16, 0x5B, 0x6F, 0x7E, 0x7F),
    "np 66": _set(0x13, 0x14, 0x15, 0x17, 0x28, 0x29, 0x2B, 0x2E, 0x2F, 0x50, range(0x54, 0x58),
                  range(0x60, 0x6C), 0x6E, range(0x71, 0x77), range(0xC4, 0xC7), range(0xD1, 0xD6),
                  range(0xD7, 0xE6), range(0xE7, 0xF0), range(0xF1, 0xFF)),
    "np f3": _set(0x52, 0x53),
    "np": _set(0x77, 0xC3),
    "66": _set(0x6C, 0x6D),
    "66 f2": _set(0x7C, 0x7D, 0xD0),
    "66 f3 f2": _set(0xD6, 0xE6),
    "f2": _set(0xF0),
}.items():  # fmt: skip
    _SSE |= dict.fromkeys(_opcodes, _prefixes)
_SSE[0x12] = "np 66 f3 f2"

_SSE_MEMORY = {(p, o) for o in (0x13, 0x17, 0x2B, 0xE7, 0xC3) for p in ("np", "66")} | {
    ("66", 0x12), ("66", 0x16), ("f2", 0xF0),
}  # fmt: skip
_SSE_REGISTER = {(p, o) for o in (0x50, 0xC5, 0xD7, 0xF7, 0x71, 0x72, 0x73) for p in ("np", "66")} | {
    ("f3", 0xD6), ("f2", 0xD6),
}  # fmt: skip
"""SSE forms that exist with memory only, and with a register only."""

_SHIFT_GROUPS = {0x71: (2, 4, 6), 0x72: (2, 4, 6), 0x73: (2, 6)}
_MAP_38 = {
    **dict.fromkeys((*range(0x0C), 0x1C, 0x1D, 0x1E), "np 66"),
    **dict.fromkeys((0x10, 0x14, 0x15, 0x17, *range(0x20, 0x26), *range(0x28, 0x2C),
                     *range(0x30, 0x36), *range(0x37, 0x42)), "66"),
    **dict.fromkeys((0xF0, 0xF1), "f2"),
}  # fmt: skip
_MAP_3A = {
    0x0F: "np 66",
    **dict.fromkeys((*range(0x08, 0x0F), *range(0x14, 0x18), *range(0x20, 0x23),
                     *range(0x40, 0x43), *range(0x60, 0x64)), "66"),
}  # fmt: skip
_SYSTEM_REGISTER_FORMS = _set(0xCA, 0xCB, 0xF8, 0xF9)
"""0F 01 with a register: clac, stac, swapgs (in 64-bit code alone), rdtscp."""


def _two_byte(e: Encoding) -> bool:
    opcode = e.opcode
    if opcode in _SSE:
        return _sse(e)
    if opcode in _PLAIN_0F:
        return True
    if opcode in _MEMORY_0F:
        return not e.register_form
    if 0x20 <= opcode <= 0x23:
        number = e.reg | (e.rex & 4) << 1
        return number < 8 if opcode & 1 else number in (0, 2, 3, 4, 8)
    if opcode == 0x00:
        return e.reg < 6
    if opcode == 0x01:
        if e.register_form:
            if e.modrm == 0xF8 and e.bits != 64:
                return False
            return e.reg in (4, 6) or e.modrm in _SYSTEM_REGISTER_FORMS
        return e.reg != 5
    if opcode == 0xAE:
        return e.mandatory == "np" and (e.reg >= 5 if e.register_form else e.reg < 4)
    if opcode == 0xB8:
        return e.rep == 0xF3
    if opcode == 0xBA:
        return e.reg >= 4
    return opcode == 0xC7 and e.reg == 1 and not e.register_form


def _sse(e: Encoding) -> bool:
    prefix = e.mandatory
    if prefix not in _SSE[e.opcode].split():
        return False
    if e.opcode in _SHIFT_GROUPS:
        quadword_lanes = e.opcode == 0x73 and prefix == "66" and e.reg in (3, 7)
        if e.reg not in _SHIFT_GROUPS[e.opcode] and not quadword_lanes:
            return False
    return (prefix, e.opcode) not in (_SSE_MEMORY if e.register_form else _SSE_REGISTER)


def is_sse(e: Encoding) -> bool:
    """Whether it is in the MMX and SSE part of the 0F map, where prefixes select the instruction."""
    return e.map == TWO_BYTE and e.opcode in _SSE
