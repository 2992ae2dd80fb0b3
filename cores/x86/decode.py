"""From bytes to ``Instruction``, as the platform's CPU would decode them.

Three witnesses are heard. encoding.py takes the bytes apart: length, ModRM, immediates. opcodes.py
says from the opcode maps whether there is such an instruction and what it does to memory. Capstone
gives the name, the registers and the text. This is the only file that knows Capstone.
"""

from __future__ import annotations

from typing import NamedTuple

import capstone
from capstone import x86_const

from . import opcodes, sensitive, undefined
from .encoding import MAP_3A, MAP_38, ONE_BYTE, TWO_BYTE, VECTOR, Encoding, Truncated, parse
from .faults import undefined_opcode
from .instruction import Immediate, Instruction, MemoryOperand, Operand, Register, Sensitivity
from .registers import DS, ES, MASK64, RBX, RDI, RSI

__all__ = ["Truncated", "decode", "text"]

CACHE_SIZE = 1 << 16
"""Windows of bytes remembered; some 25 MiB when full of different instructions."""

_windows: dict[bytes, Instruction] = {}
_instructions: dict[bytes, Instruction] = {}


def decode(code: bytes) -> Instruction:
    """Decode the instruction at the start of ``code``: the up to 15 bytes at RIP in 64-bit mode.

    Raises GuestFault(#UD) for what is no instruction, GuestFault(#GP) for more than 15 bytes, and
    Truncated when ``code`` ends before the instruction does. A known window costs a dict look-up."""
    known = _windows.get(code)
    if known is not None:
        return known
    insn = _decode(code)
    if len(_windows) >= CACHE_SIZE:
        _windows.clear()
        _instructions.clear()
    insn = _instructions.setdefault(insn.code, insn)
    _windows[code] = insn
    return insn


def text(insn: Instruction, rip: int) -> str:
    """Intel syntax, with branch targets absolute as seen from ``rip``."""
    mnemonic, operands = insn.text_parts
    if operands.startswith("$"):
        target = insn.operands[-1]
        assert isinstance(target, Immediate)
        operands = f"{(rip + insn.length + target.value) & MASK64:#x}"
    return f"{mnemonic} {operands}" if operands else mnemonic


# --- Capstone -----------------------------------------------------------------------------------


class Named(NamedTuple):
    """What Capstone says of an instruction. operands: (register name or "" or None for an
    immediate, size) of each: "" for memory."""

    mnemonic: str
    operand_text: str
    length: int
    operands: tuple[tuple[str | None, int], ...]


_capstone = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
_capstone.detail = True


def _ask_capstone(code: bytes) -> Named | None:
    for insn in _capstone.disasm(code, 0, 1):
        operands = tuple(
            (
                insn.reg_name(operand.reg) if operand.type == x86_const.X86_OP_REG
                else "" if operand.type == x86_const.X86_OP_MEM
                else None,
                int(operand.size),
            )
            for operand in insn.operands
        )  # fmt: skip
        return Named(str(insn.mnemonic), str(insn.op_str), int(insn.size), operands)
    return None


def _disguise(code: bytes, e: Encoding) -> bytes:
    """Encodings that Capstone misnames, by one that means the same on the platform's CPU."""
    body = bytearray(code[: e.length])
    at = e.opcode_at
    if e.map == TWO_BYTE:
        if 0x20 <= e.opcode <= 0x23:
            body[at + 1] |= 0xC0  # mod is ignored
        elif e.opcode in _HINTS or (e.opcode == 0x18 and e.reg >= 4):
            body[at] = 0x1F  # hint NOPs; MPX and CET live here on CPUs that have them
            return _without(body, at, (0xF2, 0xF3, 0x66))
        elif e.opcode in (0xBC, 0xBD, 0x09) and e.rep:
            return _without(body, at, (0xF2, 0xF3))
    elif e.map == ONE_BYTE:
        if e.opcode in (0xF6, 0xF7) and e.reg == 1:
            body[at + 1] &= ~0x08  # TEST has a twin
        elif e.opcode in _X87_TWINS and e.register_form:
            for first, low, twin in _X87_TWINS[e.opcode]:
                if first <= e.modrm < first + 8:
                    body[at : at + 2] = bytes((twin, low + (e.modrm & 7)))
    return bytes(body)


_HINTS = frozenset(range(0x19, 0x20))
_X87_TWINS = {
    0xD9: ((0xD8, 0xD8, 0xDD),),
    0xDC: ((0xD0, 0xD0, 0xD8), (0xD8, 0xD8, 0xD8)),
    0xDD: ((0xC8, 0xC8, 0xD9),),
    0xDE: ((0xD0, 0xD8, 0xD8),),
    0xDF: ((0xC8, 0xC8, 0xD9), (0xD0, 0xD8, 0xDD), (0xD8, 0xD8, 0xDD)),
}
"""Undocumented twins in the x87 map: first ModRM, then ModRM and opcode of the documented form."""


def _without(body: bytearray, at: int, prefixes: tuple[int, ...]) -> bytes:
    escape = at - 1 if body[at - 1] == 0x0F else at
    kept = bytes(b for b in body[:escape] if b not in prefixes)
    return kept + bytes(body[escape:])


# --- putting it together --------------------------------------------------------------------------

_PREFIX_WORDS = frozenset(
    ("lock", "rep", "repe", "repz", "repne", "repnz", "bnd", "notrack", "xacquire", "xrelease")
)

_ALIASES = {
    "sal": "shl", "movabs": "mov", "iretd": "iret", "iretq": "iret", "retfq": "retf",
    "pushfq": "pushf", "popfq": "popf", "sysretq": "sysret", "sysexitq": "sysexit",
    "fxsave64": "fxsave", "fxrstor64": "fxrstor", "xlatb": "xlat",
}  # fmt: skip

_STRINGS = {
    **dict.fromkeys((0x6C, 0x6D), "ins"), **dict.fromkeys((0x6E, 0x6F), "outs"),
    **dict.fromkeys((0xA4, 0xA5), "movs"), **dict.fromkeys((0xA6, 0xA7), "cmps"),
    **dict.fromkeys((0xAA, 0xAB), "stos"), **dict.fromkeys((0xAC, 0xAD), "lods"),
    **dict.fromkeys((0xAE, 0xAF), "scas"),
}  # fmt: skip

_AES_SHA = frozenset((0xC8, 0xC9, 0xCA, 0xCB, 0xCC, 0xCD, 0xDB, 0xDC, 0xDD, 0xDE, 0xDF))


def _decode(code: bytes) -> Instruction:
    e = parse(code)
    if e.map == VECTOR:
        return _vector(code)
    if not opcodes.exists(e):
        raise undefined_opcode()
    own = code[: e.length]
    named = _ask_capstone(_disguise(own, e))
    if named is None:
        raise undefined_opcode()
    mnemonic = _mnemonic(named, e)
    operand_size = opcodes.operand_size(e)
    operands = _operands(own, e, named)
    entry = sensitive.find(_form(mnemonic, operands, e))
    flags, rule = undefined.classify(mnemonic, operands, operand_size)
    string = e.map == ONE_BYTE and e.opcode in _STRINGS
    repeat = {0: "", 0xF2: "repne", 0xF3: "rep"}[e.rep] if string else ""
    operand_text = "$" if opcodes.is_relative_branch(e) else _operand_text(named, mnemonic, operands)
    return Instruction(
        code=own,
        mnemonic=mnemonic,
        operands=operands,
        operand_size=operand_size,
        address_size=e.address_size,
        repeat=repeat,
        lock=e.lock,
        sensitivity=entry.sensitivity if entry else Sensitivity.ORDINARY,
        reason=entry.reason if entry else None,
        undefined=flags,
        undefined_rule=rule,
        implicit=opcodes.implicit(e),
        access=opcodes.access(e),
        floating=opcodes.floating(e),
        ends_block=opcodes.ends_block(e),
        text_parts=(named.mnemonic, operand_text),
    )


def _vector(code: bytes) -> Instruction:
    """VEX, EVEX and XOP: the platform has none of them, so only the text is of interest."""
    named = _ask_capstone(code)
    if named is None:
        raise undefined_opcode()
    entry = sensitive.find("vector")
    assert entry is not None
    return Instruction(
        code=code[: named.length], mnemonic=named.mnemonic, operands=(), operand_size=8,
        address_size=8, repeat="", lock=False, sensitivity=entry.sensitivity, reason=entry.reason,
        undefined=0, undefined_rule="", implicit="", access="", floating=True, ends_block=False,
        text_parts=(named.mnemonic, named.operand_text),
    )  # fmt: skip


def _mnemonic(named: Named, e: Encoding) -> str:
    if e.map == ONE_BYTE:
        if e.opcode in _STRINGS:
            return _STRINGS[e.opcode]
        if e.opcode == 0xFF and e.reg in (3, 5):
            return "lcall" if e.reg == 3 else "ljmp"
    words = [word for word in named.mnemonic.split() if word not in _PREFIX_WORDS]
    return _ALIASES.get(words[-1], words[-1])


def _form(mnemonic: str, operands: tuple[Operand, ...], e: Encoding) -> str:
    """The name under which sensitive.py lists this instruction, if it does."""
    if e.map == TWO_BYTE and e.opcode in (0xBC, 0xBD) and e.rep == 0xF3:
        return "tzcnt" if e.opcode == 0xBC else "lzcnt"
    if e.map == MAP_38 and e.opcode in _AES_SHA:
        return "aes" if e.opcode > 0xCD else "sha"
    if e.map == MAP_3A and e.opcode in (0x44, 0xCC, 0xDF):
        return {0x44: "pclmulqdq", 0xCC: "sha", 0xDF: "aes"}[e.opcode]
    if mnemonic in ("mov", "push", "pop"):
        kinds = [_kind(operand) for operand in operands]
        if kinds != ["r"] * len(kinds):
            return f"{mnemonic} {', '.join(kinds)}"
    return mnemonic


def _kind(operand: Operand) -> str:
    if isinstance(operand, Register):
        if operand.name[1:] == "s" or operand.name in ("es", "cs", "ss", "ds", "fs", "gs"):
            return "sreg"
        if operand.name[:2] in ("cr", "dr") and operand.name[2:].isdigit():
            return operand.name[:2]
    return "r"


def _operands(code: bytes, e: Encoding, named: Named) -> tuple[Operand, ...]:
    """Registers from Capstone; memory and immediates from the encoding itself."""
    if opcodes.is_relative_branch(e):
        return (_immediate(code, e, 0),)
    result: list[Operand] = []
    immediates = 0
    for name, size in named.operands:
        if name:
            result.append(Register(name, size))
        elif name == "":
            result.append(_memory(e, size, len(result)))
        elif immediates < len(e.immediates):
            result.append(_immediate(code, e, immediates))
            immediates += 1
        else:
            result.append(Immediate(1, 1))  # shifts by one
    if e.map == ONE_BYTE and e.opcode == 0xD7:  # xlat: AL is added by touched.py
        result.append(MemoryOperand(e.segment or DS, RBX, None, 1, 0, False, 1, e.address_size))
    elif e.map == TWO_BYTE and e.opcode == 0xF7:  # maskmovq, maskmovdqu
        size = 16 if e.operand_prefix else 8
        result.append(MemoryOperand(e.segment or DS, RDI, None, 1, 0, False, size, e.address_size))
    return tuple(result)


def _immediate(code: bytes, e: Encoding, which: int) -> Immediate:
    begin, size = e.immediates[which]
    signed = not opcodes.unsigned_immediate(e)
    return Immediate(int.from_bytes(code[begin : begin + size], "little", signed=signed) & MASK64, size)


def _memory(e: Encoding, size: int, position: int) -> MemoryOperand:
    if e.address is None:
        return _string_operand(e, size, position)
    a = e.address
    if opcodes.is_x87(e):
        size = opcodes.x87_memory(e)[1] or size
    elif e.map == TWO_BYTE and e.opcode == 0xAE and e.reg < 2:
        size = 512
    elif opcodes.is_far_pointer(e):
        size = 10 if e.wide else 4 if e.operand_prefix else 6
    return MemoryOperand(
        a.segment, a.base, a.index, a.scale, a.displacement, a.relative, size, e.address_size
    )


def _string_operand(e: Encoding, size: int, position: int) -> MemoryOperand:
    """[rdi] is always in ES; [rsi] in DS unless overridden by FS or GS."""
    destination_first = e.opcode in (0x6C, 0x6D, 0xA4, 0xA5, 0xAA, 0xAB, 0xAE, 0xAF)
    is_rdi = (
        (position == 0 or e.opcode >= 0xAE)
        if destination_first
        else (e.opcode in (0xA6, 0xA7) and position == 1)
    )
    if is_rdi:
        return MemoryOperand(ES, RDI, None, 1, 0, False, size, e.address_size)
    return MemoryOperand(e.segment or DS, RSI, None, 1, 0, False, size, e.address_size)


def _operand_text(named: Named, mnemonic: str, operands: tuple[Operand, ...]) -> str:
    if mnemonic == "enter":  # Capstone signs the frame size
        return ", ".join(hex(o.value) for o in operands if isinstance(o, Immediate))
    return named.operand_text
