"""The 68000's instruction decoder, on Capstone. No other file of this package uses Capstone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import capstone
from capstone import m68k_const

LONGEST = 10
"""Bytes: an opcode and two operands of a long word each."""

_capstone = capstone.Cs(capstone.CS_ARCH_M68K, capstone.CS_MODE_BIG_ENDIAN | capstone.CS_MODE_M68K_000)
_capstone.detail = True

_INDEXED = frozenset((
    m68k_const.M68K_AM_AREGI_INDEX_8_BIT_DISP, m68k_const.M68K_AM_AREGI_INDEX_BASE_DISP,
    m68k_const.M68K_AM_MEMI_POST_INDEX, m68k_const.M68K_AM_MEMI_PRE_INDEX,
    m68k_const.M68K_AM_PCI_INDEX_8_BIT_DISP, m68k_const.M68K_AM_PCI_INDEX_BASE_DISP,
    m68k_const.M68K_AM_PC_MEMI_POST_INDEX, m68k_const.M68K_AM_PC_MEMI_PRE_INDEX,
))  # fmt: skip
_NOT_BRIEF = 0x0700
"""Bits of an extension word that select a longer format, or a scale, from the 68020 on."""

PRIVILEGED = frozenset({"stop", "reset", "rte"})
JUMPS = frozenset({"jmp", "jsr", "rts"})


@dataclass(frozen=True, slots=True)
class M68kInstruction:
    """One instruction. code: its bytes. mnemonic: without the size, "move"; "" where the 68000 has no
    such instruction. privileged: it is not allowed in user mode. jumps: its successor may be another
    than the next instruction (exceptions and returns from them aside)."""

    code: bytes
    mnemonic: str
    privileged: bool
    jumps: bool

    @property
    def length(self) -> int:
        return len(self.code)

    @property
    def opcode(self) -> int:
        return int.from_bytes(self.code[:2], "big")


@lru_cache(maxsize=1 << 16)
def decode(code: bytes) -> M68kInstruction:
    """The instruction at the start of ``code``, which is at least one word. The instruction is longer
    than ``code`` where ``code`` ends before it does."""
    window = code.ljust(LONGEST, b"\0")
    found = _ask_capstone(window, 0)
    if found is None:
        return M68kInstruction(code[:2], "", False, False)
    name, operands, length = found
    mnemonic = name.partition(".")[0]
    privileged = mnemonic in PRIVILEGED or _touches_system(mnemonic, operands)
    jumps = window[0] >> 4 == 6 or mnemonic in JUMPS or mnemonic.startswith("db")
    return M68kInstruction(window[:length], mnemonic, privileged, jumps)


@lru_cache(maxsize=1 << 12)
def text(insn: M68kInstruction, address: int) -> str:
    """The instruction in Motorola's syntax; jump targets are absolute, for ``address``."""
    found = _ask_capstone(insn.code.ljust(LONGEST, b"\0"), address) if insn.mnemonic else None
    if found is None:
        return f"dc.w ${insn.code.hex()}"
    name, operands, _ = found
    return f"{name} {operands}" if operands and insn.mnemonic != "illegal" else name


def _ask_capstone(window: bytes, address: int) -> tuple[str, str, int] | None:
    """(name, operands, length in bytes); None where the 68000 has no such instruction."""
    found = next(_capstone.disasm(window, address, 1), None)
    if found is None or not found.id or _later_index(found, window):
        return None
    name, operands, length = str(found.mnemonic), str(found.op_str), int(found.size)
    if window[0] & 0xF1 == 0x01 and window[1] == 0x3C:  # BTST Dn, #byte: one word, not two
        name, length = "btst.b", 4
        operands = f"d{window[0] >> 1 & 7}, #${window[3]:x}"
    if window[0] & 0xF1 == 0x81 and window[1] & 0xF8 == 0x08:  # SBCD -(Ay), -(Ax): no immediate
        operands, length = operands.partition(", #")[0], 2
    return name, operands, length


def _later_index(found: capstone.CsInsn, window: bytes) -> bool:
    """Does it have an indexed operand in a form of the 68020? A real 68000 interprets that extension
    word as the old form; no assembler makes one for it, and here it is not an instruction."""
    indexed = [operand.address_mode in _INDEXED for operand in found.operands]
    if not any(indexed):
        return False
    if window[0] >> 4 in (1, 2, 3) and indexed[0]:  # MOVE: the source's words stand first
        places = [2, 4] if indexed[-1] else [2]
    else:
        places = [int(found.size) - 2]
    return any(int.from_bytes(window[at : at + 2], "big") & _NOT_BRIEF for at in places)


def _touches_system(mnemonic: str, operands: str) -> bool:
    """Does it write SR, or access USP? Reading SR is not privileged on a 68000 (M68000PM/AD, MOVE from
    SR)."""
    target = operands.rpartition(", ")[2]
    return target == "sr" or (mnemonic == "move" and "usp" in operands)
