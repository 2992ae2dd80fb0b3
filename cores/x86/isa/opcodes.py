"""Properties that opcode and ModRM alone determine: operand size, memory access, implicit operands.

Written from the opcode maps (SDM vol. 2, appendix A), because Capstone's access to the operands is
wrong for stores of x87 and SSE, cmpxchg, movnti, fxsave, rotates and more.
"""

from __future__ import annotations

from cores.x86.isa.encoding import MAP_3A, MAP_38, ONE_BYTE, TWO_BYTE, Encoding


def _set(*ranges: int | range) -> frozenset[int]:
    return frozenset(b for r in ranges for b in ([r] if isinstance(r, int) else r))


# --- operand size -----------------------------------------------------------------------------

_BYTE = _set(*(row + c for row in range(0, 0x40, 8) for c in (0, 2, 4)), 0x6C, 0x6E, 0x80, 0x84, 0x86,
             0x88, 0x8A, 0xA0, 0xA2, 0xA4, 0xA6, 0xA8, 0xAA, 0xAC, 0xAE, range(0xB0, 0xB8), 0xC0, 0xC6,
             0x82, 0xD0, 0xD2, 0xD7, 0xE4, 0xE6, 0xEC, 0xEE, 0xF6, 0xFE)  # fmt: skip
_BYTE_0F = _set(range(0x90, 0xA0), 0xB0, 0xC0)
_BYTE_LEGACY = _set(0xD4, 0xD5, 0xD6)
_STACK = _set(range(0x50, 0x60), 0x68, 0x6A, 0x8F, 0x9C, 0x9D, 0xC8, 0xC9)
_STACK_0F = _set(0xA0, 0xA1, 0xA8, 0xA9)
NEAR = _set(range(0x70, 0x80), 0xC2, 0xC3, range(0xE0, 0xE4), 0xE8, 0xE9, 0xEB)
_PORT = _set(0x6D, 0x6F, 0xE5, 0xE7, 0xED, 0xEF)


def operand_size(e: Encoding) -> int:
    """Operand size: 1, 2, 4 or 8 bytes (SDM vol. 1, 3.6.1; vol. 2, 2.2.1.7 for the 64-bit defaults)."""
    if e.bits != 64:
        return _legacy_operand_size(e)
    usual = 8 if e.wide else 2 if e.operand_prefix else 4
    if e.map == ONE_BYTE:
        if e.opcode in _BYTE:
            return 1
        if e.opcode in _PORT:
            return 2 if e.operand_prefix else 4
        if e.opcode in NEAR or (e.opcode == 0xFF and e.reg in (2, 4)):
            return 8
        if e.opcode in _STACK or (e.opcode == 0xFF and e.reg == 6):
            return 2 if e.short else 8
    elif e.map == TWO_BYTE:
        if e.opcode in _BYTE_0F:
            return 1
        if 0x20 <= e.opcode <= 0x23 or 0x80 <= e.opcode <= 0x8F:
            return 8
        if e.opcode in _STACK_0F:
            return 2 if e.short else 8
        if _is_table_register(e):
            return 8
    return usual


def _legacy_operand_size(e: Encoding) -> int:
    """Operand size outside 64-bit code: no exceptions for branches and the stack."""
    usual = 2 if e.short else 4
    if e.map == ONE_BYTE:
        return 1 if e.opcode in _BYTE or e.opcode in _BYTE_LEGACY else 2 if e.opcode == 0x63 else usual
    if e.map == TWO_BYTE:
        if e.opcode in _BYTE_0F:
            return 1
        if 0x20 <= e.opcode <= 0x23:
            return 4
    return usual


def _is_table_register(e: Encoding) -> bool:
    """SGDT, SIDT, LGDT and LIDT."""
    return e.map == TWO_BYTE and e.opcode == 0x01 and e.reg < 4 and e.address is not None


# --- access to the memory operand --------------------------------------------------------------

_NO_ACCESS = {(ONE_BYTE, 0x8D)} | {
    (TWO_BYTE, opcode) for opcode in (0x0D, *range(0x18, 0x20), 0xB9, 0xFF)
}
"""LEA, prefetches, hint NOPs, ud0 and ud1 have a memory operand that they do not access."""

_STORE = _set(0x88, 0x89, 0x8C, 0x8F, 0xA2, 0xA3, 0xC6, 0xC7)
_MODIFY = _set(0x00, 0x01, 0x08, 0x09, 0x10, 0x11, 0x18, 0x19, 0x20, 0x21, 0x28, 0x29, 0x30, 0x31,
               0x86, 0x87, 0xC0, 0xC1, range(0xD0, 0xD4), 0xFE)  # fmt: skip
_STORE_0F = _set(0x11, 0x13, 0x17, 0x29, 0x2B, 0x7F, range(0x90, 0xA0), 0xC3, 0xD6, 0xE7)
_MODIFY_0F = _set(0xA4, 0xA5, 0xAB, 0xAC, 0xAD, 0xB0, 0xB1, 0xB3, 0xBB, 0xC0, 0xC1)
_STORE_3A = _set(range(0x14, 0x18))

_X87: dict[int, str] = {
    0xD8: "r4 r4 r4 r4 r4 r4 r4 r4",
    0xD9: "r4 -- w4 w4 renv r2 wenv w2",
    0xDA: "r4 r4 r4 r4 r4 r4 r4 r4",
    0xDB: "r4 w4 w4 w4 -- r10 -- w10",
    0xDC: "r8 r8 r8 r8 r8 r8 r8 r8",
    0xDD: "r8 w8 w8 w8 rall -- wall w2",
    0xDE: "r2 r2 r2 r2 r2 r2 r2 r2",
    0xDF: "r2 w2 w2 w2 r10 r8 w10 w8",
}
"""x87 memory forms by opcode and ModRM.reg: access and bytes; env and all depend on the prefix 0x66;
-- is no instruction (SDM vol. 2, tables A-7 to A-22)."""


def x87_memory(e: Encoding) -> tuple[str, int]:
    """(access, bytes) of an x87 instruction's memory operand; ("", 0) where it has none."""
    code = _X87[e.opcode].split()[e.reg]
    short = e.short
    if code == "--":
        return "", 0
    if code[1:] == "env":
        return code[0], 14 if short else 28
    if code[1:] == "all":
        return code[0], 94 if short else 108
    return code[0], int(code[1:])


def memory_size(e: Encoding, told: int) -> int:
    """Bytes of the explicit memory operand. told: Capstone's size, which is right except for these."""
    if e.map == ONE_BYTE:
        if is_x87(e):
            return x87_memory(e)[1]
        if e.opcode == 0x63:  # movsxd reads 16 bits when it writes 16 (SDM vol. 2, MOVSXD); or arpl
            return 2 if operand_size(e) == 2 else 4
        if e.opcode == 0x62:  # bound: two limits
            return 2 * operand_size(e)
        far_pointer = e.opcode in (0xC4, 0xC5) or (e.opcode == 0xFF and e.reg in (3, 5))
    elif e.map == TWO_BYTE:
        if e.opcode == 0xAE and e.reg < 2:
            return 512
        if e.opcode == 0x2F and e.operand_prefix:  # comisd
            return 8
        if _is_table_register(e):
            return 10 if e.bits == 64 else 6
        far_pointer = e.opcode in (0xB2, 0xB4, 0xB5)
    else:
        far_pointer = False
    return operand_size(e) + 2 if far_pointer else told


def is_x87(e: Encoding) -> bool:
    return e.map == ONE_BYTE and 0xD8 <= e.opcode <= 0xDF


def access(e: Encoding) -> str:
    """Access to the explicit memory operand: "", "r", "w" or "rw"."""
    if e.address is None or (e.map, e.opcode) in _NO_ACCESS:
        return ""
    if e.map == ONE_BYTE:
        return _access_one_byte(e)
    if e.map == TWO_BYTE:
        return _access_two_byte(e)
    if e.map == MAP_38:
        return "w" if e.opcode == 0xF1 and e.rep != 0xF2 else "r"
    return "w" if e.map == MAP_3A and e.opcode in _STORE_3A else "r"


def _access_one_byte(e: Encoding) -> str:
    if is_x87(e):
        return x87_memory(e)[0]
    if e.opcode in _STORE:
        return "w"
    if e.opcode in _MODIFY:
        return "rw"
    if e.opcode == 0x63:
        return "r" if e.bits == 64 else "rw"  # movsxd, arpl
    if 0x80 <= e.opcode <= 0x83:
        return "r" if e.reg == 7 else "rw"
    if e.opcode in (0xF6, 0xF7):
        return "rw" if e.reg in (2, 3) else "r"
    if e.opcode == 0xFF:
        return "rw" if e.reg < 2 else "r"
    return "r"


def _access_two_byte(e: Encoding) -> str:
    if e.opcode in _STORE_0F:
        return "w"
    if e.opcode in _MODIFY_0F:
        return "rw"
    if e.opcode == 0x7E:
        return "r" if e.rep == 0xF3 else "w"
    if e.opcode == 0xBA:
        return "r" if e.reg == 4 else "rw"
    if e.opcode == 0xC7:
        return "rw" if e.reg == 1 else "r"
    if e.opcode == 0xAE:
        return ("w", "r", "r", "w", "w", "r", "w", "")[e.reg]
    if e.opcode == 0x00:
        return "w" if e.reg < 2 else "r"
    if e.opcode == 0x01:
        return ("w", "w", "r", "r", "w", "r", "r", "")[e.reg]
    return "r"


_IMPLICIT = {
    **dict.fromkeys((0x06, 0x0E, 0x16, 0x1E), "push"),
    **dict.fromkeys((0x07, 0x17, 0x1F), "pop"),
    **dict.fromkeys(range(0x50, 0x58), "push"),
    **dict.fromkeys(range(0x58, 0x60), "pop"),
    **dict.fromkeys((0x68, 0x6A, 0x9C), "push"),
    **dict.fromkeys((0x8F, 0x9D), "pop"),
    **dict.fromkeys((0x6C, 0x6D, 0x6E, 0x6F, *range(0xA4, 0xA8), *range(0xAA, 0xB0)), "string"),
    0x60: "pusha", 0x61: "popa", 0x9A: "lcall",
    0xC2: "ret", 0xC3: "ret", 0xC8: "enter", 0xC9: "leave", 0xCA: "retf", 0xCB: "retf",
    0xCF: "iret", 0xD7: "xlat", 0xE8: "call",
}  # fmt: skip
_IMPLICIT_0F = {0xA0: "push", 0xA8: "push", 0xA1: "pop", 0xA9: "pop", 0xF7: "maskmov"}
_IMPLICIT_FF = {2: "call", 3: "lcall", 6: "push"}


def implicit(e: Encoding) -> str:
    """The rule of accesses.py for memory accessed besides the explicit operand, "" for none."""
    if e.map == ONE_BYTE:
        if e.opcode == 0xFF:
            return _IMPLICIT_FF.get(e.reg, "")
        return _IMPLICIT.get(e.opcode, "")
    if e.map == TWO_BYTE and e.address is not None and e.opcode in (0xA3, 0xAB, 0xB3, 0xBB):
        return "bits"
    return _IMPLICIT_0F.get(e.opcode, "") if e.map == TWO_BYTE else ""


# --- other properties -------------------------------------------------------------------------

_INTEGER_0F = _set(range(0x10), range(0x18, 0x28), range(0x30, 0x50), range(0x80, 0xC2),
                   0xC3, range(0xC7, 0xD0), 0xFF)  # fmt: skip


def floating(e: Encoding) -> bool:
    """Whether it uses x87, MMX or SSE state (and so depends on CR0.TS, CR0.EM, CR4.OSFXSR)."""
    if e.map == ONE_BYTE:
        return e.opcode == 0x9B or is_x87(e)
    if e.map == TWO_BYTE:
        if e.opcode == 0xAE:  # fxsave fxrstor ldmxcsr stmxcsr; the fences are integer instructions
            return e.reg < 4 and e.address is not None
        return e.opcode not in _INTEGER_0F
    if e.map == MAP_38:
        return e.opcode < 0xF0
    return e.map == MAP_3A


_BLOCK_ENDS = _set(range(0x70, 0x80), 0x9A, 0xC2, 0xC3, 0xCA, 0xCB, 0xCC, 0xCD, 0xCE, 0xCF,
                   range(0xE0, 0xE4), range(0xE8, 0xEC), 0xF1, 0xF4)  # fmt: skip
_BLOCK_ENDS_0F = _set(0x05, 0x07, 0x0B, 0x34, 0x35, range(0x80, 0x90), 0xAA, 0xB9, 0xFF)


def ends_block(e: Encoding) -> bool:
    """Whether control may go elsewhere than to the next instruction, faults apart."""
    if e.map == ONE_BYTE:
        return e.opcode in _BLOCK_ENDS or (e.opcode == 0xFF and 2 <= e.reg <= 5)
    return e.map == TWO_BYTE and e.opcode in _BLOCK_ENDS_0F


BRANCHES = _set(range(0x70, 0x80), range(0xE0, 0xE4), 0xE8, 0xE9, 0xEB)
"""One-byte opcodes whose immediate is a displacement from the end of the instruction."""


def is_relative_branch(e: Encoding) -> bool:
    if e.map == ONE_BYTE:
        return e.opcode in BRANCHES
    return e.map == TWO_BYTE and 0x80 <= e.opcode <= 0x8F


FAR_POINTERS = _set(0x9A, 0xEA)
"""CALL and JMP with an immediate far pointer: offset and selector."""


def is_far_pointer(e: Encoding) -> bool:
    return e.map == ONE_BYTE and e.opcode in FAR_POINTERS


_UNSIGNED = _set(0x9A, 0xC0, 0xC1, 0xC2, 0xC8, 0xCA, 0xCD, 0xD4, 0xD5, range(0xE4, 0xE8), 0xEA)


def unsigned_immediate(e: Encoding) -> bool:
    """Whether its immediate is not sign-extended: counts, ports, vectors, frame sizes, SSE
    selectors."""
    if e.map == ONE_BYTE:
        return e.opcode in _UNSIGNED
    return e.map != TWO_BYTE or not 0x80 <= e.opcode <= 0x8F
