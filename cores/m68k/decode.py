"""From words to instructions. Capstone knows the 68000's; this is the only file here that asks it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import capstone

LONGEST = 10
"""Bytes: an opcode and two operands of a long word each."""

_capstone = capstone.Cs(capstone.CS_ARCH_M68K, capstone.CS_MODE_BIG_ENDIAN | capstone.CS_MODE_M68K_000)

PRIVILEGED = frozenset({"stop", "reset", "rte"})


@dataclass(frozen=True, slots=True)
class M68kInstruction:
    """code: its bytes. mnemonic: without the size, "move"; "" for what is no instruction of a
    68000's. text: as assembly is written. privileged: a user's program may not."""

    code: bytes
    mnemonic: str
    text: str
    privileged: bool

    @property
    def length(self) -> int:
        return len(self.code)

    @property
    def opcode(self) -> int:
        return int.from_bytes(self.code[:2], "big")


@lru_cache(maxsize=1 << 16)
def decode(code: bytes, address: int) -> M68kInstruction:
    """The instruction at the start of ``code``, which stands at ``address``. code: at least one
    word; where it ends before the instruction does, the instruction is longer than it."""
    window = code.ljust(LONGEST, b"\0")
    found = next(_capstone.disasm(window, address, 1), None)
    if found is None or not found.id:
        return M68kInstruction(code[:2], "", f"dc.w ${code[:2].hex()}", False)
    name, operands = str(found.mnemonic), str(found.op_str)
    mnemonic = name.partition(".")[0]
    text = f"{name} {operands}" if operands and mnemonic != "illegal" else name
    privileged = mnemonic in PRIVILEGED or _touches_system(mnemonic, operands)
    return M68kInstruction(bytes(found.bytes), mnemonic, text, privileged)


def _touches_system(mnemonic: str, operands: str) -> bool:
    """To SR, and to and from USP. Reading SR is no privilege on a 68000 (M68000PM/AD, MOVE from SR)."""
    target = operands.rpartition(", ")[2]
    return target == "sr" or (mnemonic == "move" and "usp" in operands)
