"""The decoder: from bytes to ``Instruction``, as the platform's CPU decodes them.

encoding.py takes the bytes apart: length, ModRM, immediates. validity.py says whether the platform has
such an instruction, opcodes.py what it does to memory, sensitive.py and undefined_results.py what is
special about it. Capstone gives the name, the registers and the text; this is the only file that uses
Capstone.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, lru_cache
from typing import NamedTuple

import capstone
from capstone import x86_const

from cores.x86.faults import undefined_opcode
from cores.x86.isa import cpu_differences, opcodes, sensitive
from cores.x86.isa import undefined_results as undefined
from cores.x86.isa.encoding import (
    MAP_3A,
    MAP_38,
    ONE_BYTE,
    TWO_BYTE,
    VECTOR,
    Address,
    Encoding,
    Truncated,
    parse,
)
from cores.x86.isa.instruction import (
    Immediate,
    Instruction,
    MemoryOperand,
    Operand,
    Reason,
    Register,
    Sensitivity,
)
from cores.x86.isa.operand_checks import mistranslated
from cores.x86.isa.validity import exists, is_sse
from cores.x86.registers import CS, DS, ES, FS, GS, MASK64, RBX, RDI, RSI, SEGMENT_NAMES, SS

__all__ = ["Truncated", "decode", "text"]

CACHE_SIZE = 1 << 16
"""Number of remembered windows of bytes in code of one width; some 25 MiB when full of different
instructions."""

_windows: dict[int, dict[bytes, Instruction]] = {64: {}, 32: {}, 16: {}}
_instructions: dict[tuple[bytes, int], Instruction] = {}

known = _windows[64].get
"""The remembered result of ``decode`` for these bytes in 64-bit code, else None: a look-up without a
call, 0.1 us."""
KNOWN = {bits: windows.get for bits, windows in _windows.items()}
"""``known`` by the width of the code: 16, 32 or 64."""


def decode(code: bytes, bits: int = 64) -> Instruction:
    """Decode the instruction at the start of ``code``: the up to 15 bytes at RIP, in code of that many
    bits (``mode.code_bits``).

    Raises GuestFault(#UD) for an invalid encoding, GuestFault(#GP) for more than 15 bytes, and
    Truncated when ``code`` ends before the instruction does. A known window costs a dict look-up."""
    windows = _windows[bits]
    known = windows.get(code)
    if known is not None:
        return known
    insn = _known_head(code, bits) or _decode(code, bits)
    if len(windows) >= CACHE_SIZE:
        for each in _windows.values():
            each.clear()
        _instructions.clear()
        _shapes.clear()
        for heads in _heads.values():
            heads.clear()
    insn = _instructions.setdefault((insn.code, bits), insn)
    windows[code] = insn
    return insn


def text(insn: Instruction, rip: int) -> str:
    """The instruction in Intel syntax, with branch targets absolute as seen from ``rip``, which is an
    offset in the code segment."""
    mnemonic, operands = _text_parts(insn)
    if operands.startswith("$"):
        target = insn.operands[-1]
        assert isinstance(target, Immediate)
        operands = f"{branch_target(insn, rip, target.value):#x}"
    return f"{mnemonic} {operands}" if operands else mnemonic


def branch_target(insn: Instruction, rip: int, displacement: int) -> int:
    """The offset to which a relative branch at ``rip`` leads: truncated to the operand size, which with
    prefix 66 in 32-bit code is 16 bits (SDM vol. 2, JMP)."""
    return (rip + insn.length + displacement) & ((1 << 8 * insn.operand_size) - 1)


# --- Capstone -----------------------------------------------------------------------------------


class Named(NamedTuple):
    """Capstone's result for an instruction. operands: (register name, size) of each; the name is "" for
    memory and None for an immediate."""

    mnemonic: str
    operand_text: str
    length: int
    operands: tuple[tuple[str | None, int], ...]


_MODES = {64: capstone.CS_MODE_64, 32: capstone.CS_MODE_32, 16: capstone.CS_MODE_16}


@cache
def _capstone(bits: int) -> capstone.Cs:
    made = capstone.Cs(capstone.CS_ARCH_X86, _MODES[bits])
    made.detail = True
    return made


def _ask_capstone(code: bytes, bits: int) -> Named | None:
    for insn in _capstone(bits).disasm(code, 0, 1):
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


def _better_in_32_bits(e: Encoding) -> bool:
    """Whether Capstone shall read it as 32-bit code: in 16-bit code it does not know HADDPD, MOVQ and
    other SSE instructions with prefix 66, which there as everywhere selects the instruction."""
    return e.bits == 16 and (is_sse(e) or (e.map >= MAP_38 and e.opcode not in (0xF0, 0xF1)))


def _canonical(code: bytes, e: Encoding, bits: int) -> bytes:
    """The same instruction in the encoding that Capstone knows: without prefixes that have no effect
    here, and with undocumented aliases replaced by the documented encoding. bits: the width of code as
    which Capstone reads it."""
    body = bytearray(code[e.opcode_at - _ESCAPES[e.map] :])
    rep = e.rep
    selects = e.map >= MAP_38 or is_sse(e)
    operand_prefix = e.operand_prefix and (selects or not e.wide)
    long = e.bits == 64
    if e.map == ONE_BYTE:
        if e.opcode == 0x90 and rep == 0xF3:
            operand_prefix = False
        elif e.opcode not in _STRINGS:
            rep = 0
        if long and (e.opcode in opcodes.NEAR or (e.opcode == 0xFF and e.reg in (2, 4))):
            operand_prefix = False
        if e.opcode == 0x82:
            body[0] = 0x80
        if e.opcode in (0xF6, 0xF7) and e.reg == 1:
            body[1] &= ~0x08
        for first, modrm, opcode in _X87_TWINS.get(e.opcode, ()):
            if first <= e.modrm < first + 8:
                body[:2] = bytes((opcode, modrm + (e.modrm & 7)))
    elif e.map == TWO_BYTE:
        if 0x20 <= e.opcode <= 0x23:
            body[1 + 1] |= 0xC0  # mod is ignored
        elif e.opcode in _HINTS or (
            e.opcode in _PREFETCHES and (e.register_form or e.reg >= _PREFETCHES[e.opcode])
        ):
            body[1], rep = 0x1F, 0  # MPX and CET encodings, on CPUs that have them
        elif e.opcode == 0xAE and e.register_form and e.mandatory == "np":
            body[2] &= ~0x07  # fences ignore ModRM.rm
        elif e.opcode in (0xBC, 0xBD, 0x09):
            rep = 0  # tzcnt, lzcnt, wbnoinvd: bsf, bsr, wbinvd on CPUs without
        elif rep and (is_sse(e) or e.opcode in (0x01, 0xAE, 0xC7)):
            operand_prefix = False
        elif e.opcode != 0xB8:
            rep = 0
    address_prefix = e.address_size != bits // 8
    segment = _OVERRIDES.get(e.segment, 0) if long or _has_memory(e) else 0
    prefixes = 0xF0 * e.lock, rep, 0x66 * operand_prefix, 0x67 * address_prefix, segment, e.rex
    return bytes(prefix for prefix in prefixes if prefix) + bytes(body)


def _has_memory(e: Encoding) -> bool:
    """Whether a segment override concerns it: without memory it may be a hint for a branch."""
    if e.address is not None or (e.map == TWO_BYTE and e.opcode == 0xF7):
        return True
    return e.map == ONE_BYTE and (e.opcode == 0xD7 or e.opcode in _STRINGS)


_ESCAPES = (0, 1, 2, 2)
"""Escape bytes before the opcode, by its map."""
_OVERRIDES = {ES: 0x26, CS: 0x2E, SS: 0x36, DS: 0x3E, FS: 0x64, GS: 0x65}
_HINTS = range(0x19, 0x20)
_PREFETCHES = {0x0D: 2, 0x18: 4}
"""Opcode -> lowest ModRM.reg that is a hint NOP; with a register operand all are."""
_X87_TWINS = {
    0xD9: ((0xD8, 0xD8, 0xDD),),
    0xDC: ((0xD0, 0xD0, 0xD8), (0xD8, 0xD8, 0xD8)),
    0xDD: ((0xC8, 0xC8, 0xD9),),
    0xDE: ((0xD0, 0xD8, 0xD8),),
    0xDF: ((0xC8, 0xC8, 0xD9), (0xD0, 0xD8, 0xDD), (0xD8, 0xD8, 0xDD)),
}
"""Undocumented aliases in the x87 map: first ModRM, then ModRM and opcode of the documented form."""


# --- assembling the Instruction -------------------------------------------------------------------

_ALIASES = {
    "sal": "shl", "movabs": "mov", "iretd": "iret", "iretq": "iret", "retfq": "retf",
    "pushfq": "pushf", "popfq": "popf", "sysretq": "sysret", "sysexitq": "sysexit",
    "xlatb": "xlat", "pushal": "pusha", "pushaw": "pusha", "popal": "popa", "popaw": "popa",
    "pushfd": "pushf", "popfd": "popf",
}  # fmt: skip

_STRINGS = {
    **dict.fromkeys((0x6C, 0x6D), "ins"), **dict.fromkeys((0x6E, 0x6F), "outs"),
    **dict.fromkeys((0xA4, 0xA5), "movs"), **dict.fromkeys((0xA6, 0xA7), "cmps"),
    **dict.fromkeys((0xAA, 0xAB), "stos"), **dict.fromkeys((0xAC, 0xAD), "lods"),
    **dict.fromkeys((0xAE, 0xAF), "scas"),
}  # fmt: skip

_RDI_AT = {
    0x6C: 0, 0x6D: 0, 0xA4: 0, 0xA5: 0, 0xAA: 0, 0xAB: 0, 0xA6: 1, 0xA7: 1, 0xAE: 1, 0xAF: 1,
}  # fmt: skip
"""Index of the string instruction's operand that is [rdi]."""

_AES_SHA = frozenset((0xC8, 0xC9, 0xCA, 0xCB, 0xCC, 0xCD, 0xDB, 0xDC, 0xDD, 0xDE, 0xDF))


class Shape(NamedTuple):
    """What is the same of all instructions that differ in displacements and immediates alone. operands:
    as in ``Named``. The other names are those of ``Instruction``."""

    mnemonic: str
    operands: tuple[tuple[str | None, int], ...]
    operand_size: int
    repeat: str
    sensitivity: Sensitivity
    reason: Reason | None
    implicit: str
    access: str
    floating: bool
    ends_block: bool
    varies: bool
    undefined: int
    undefined_rule: str


_shapes: dict[tuple[bytes, int], Shape] = {}
"""By ``_shape_key``, and the width of the code. Of the instructions of a C++ program one in seven has a
shape of its own; asking Capstone takes as long as all the rest."""


def _shape(own: bytes, e: Encoding) -> Shape:
    """Raises GuestFault(#UD) where the platform has no such instruction."""
    key = _shape_key(own, e), e.bits
    shape = _shapes.get(key)
    if shape is None:
        shape = _shapes[key] = _shape_anew(own, e)
    return shape


def _shape_key(own: bytes, e: Encoding) -> bytes:
    """The bytes that determine the shape: those up to ModRM and SIB, and of these only ModRM.reg where
    there is a memory operand, since all of a shape but its addresses is the same then."""
    if (e.map, e.opcode) in _NAMED_BY_IMMEDIATE or e.map == MAP_3A:
        return own
    if e.modrm < 0 or e.address is None:
        return own[: e.head]
    key = bytearray(own[: e.opcode_at + 2])
    key[-1] &= _MODRM_REG
    if e.rex:
        key[e.opcode_at - _ESCAPES[e.map] - 1] &= ~_REX_XB
    return bytes(key)


_MODRM_REG = 0x38
_REX_XB = 0x03
_NAMED_BY_IMMEDIATE = frozenset(
    ((ONE_BYTE, 0xD4), (ONE_BYTE, 0xD5), (TWO_BYTE, 0x0F), (TWO_BYTE, 0xC2))
)
"""AAM and AAD, 3DNow!, and the comparisons of SSE: Capstone's name or operands depend on the
immediate."""


def _shape_anew(own: bytes, e: Encoding) -> Shape:
    named = _named(own, e)
    mnemonic = _mnemonic(named, e)
    operands = _operands(own, e, named.operands)
    entry = sensitive.find(_form(mnemonic, operands, e))
    if not exists(e) and not (entry and entry.sensitivity is Sensitivity.ABSENT):
        raise undefined_opcode()
    string = e.map == ONE_BYTE and e.opcode in _STRINGS
    operand_size = opcodes.operand_size(e)
    flags, rule = undefined.classify(mnemonic, operands, operand_size)
    return Shape(
        mnemonic=mnemonic,
        operands=named.operands,
        operand_size=operand_size,
        repeat={0: "", 0xF2: "repne", 0xF3: "rep"}[e.rep] if string else "",
        sensitivity=entry.sensitivity if entry else Sensitivity.ORDINARY,
        reason=entry.reason if entry else None,
        implicit=opcodes.implicit(e),
        access=opcodes.access(e),
        floating=opcodes.floating(e),
        ends_block=opcodes.ends_block(e),
        varies=cpu_differences.varies(e),
        undefined=flags,
        undefined_rule=rule,
    )


def _named(own: bytes, e: Encoding) -> Named:
    """Raises GuestFault(#UD) where Capstone knows no such instruction."""
    width = 32 if _better_in_32_bits(e) else e.bits
    named = _ask_capstone(_canonical(own, e, width), width)
    if named is None:
        raise undefined_opcode()
    return named


class Head(NamedTuple):
    """The instructions that begin with the same bytes up to ModRM and SIB: they differ in displacement
    and immediates alone. encoding: that of one of them."""

    encoding: Encoding
    shape: Shape


_heads: dict[int, dict[bytes, Head]] = {64: {}, 32: {}, 16: {}}
"""By the width of the code and by those bytes, of which none are the beginning of others."""
_HEAD_SIZES = (3, 2, 4, 1, 5, 6)
"""Sizes of heads that are kept, the most frequent first."""


def _known_head(code: bytes, bits: int) -> Instruction | None:
    """The decoded instruction, where one with the same head has been decoded before; else None."""
    heads = _heads[bits]
    for size in _HEAD_SIZES:
        head = heads.get(code[:size])
        if head is not None:
            break
    else:
        return None
    e, shape = head
    own = code[: e.length]
    if len(own) < e.length:
        return None
    known = _instructions.get((own, bits))
    return known if known is not None else _instruction(own, _displaced(own, e), shape)


def _keep_head(own: bytes, e: Encoding, shape: Shape) -> None:
    by_immediate = (e.map, e.opcode) in _NAMED_BY_IMMEDIATE or e.map == MAP_3A
    absolute = e.modrm < 0 and e.address is not None  # the address is an immediate
    if e.head in _HEAD_SIZES and not (by_immediate or absolute):
        _heads[e.bits][own[: e.head]] = Head(e, shape)


def _displaced(own: bytes, e: Encoding) -> Encoding:
    """The encoding of an instruction with the head of ``e``."""
    size = e.length - e.head - sum(size for _, size in e.immediates)
    if e.address is None or not size:
        return e
    a, displacement = e.address, int.from_bytes(own[e.head : e.head + size], "little", signed=True)
    return e._replace(address=Address(a.segment, a.base, a.index, a.scale, displacement, a.relative))


def _decode(code: bytes, bits: int) -> Instruction:
    e = parse(code, bits)
    if e.map == VECTOR:
        return _vector(code, bits)
    own = code[: e.length]
    shape = _shape(own, e)
    _keep_head(own, e, shape)
    return _instruction(own, e, shape)


def _instruction(own: bytes, e: Encoding, shape: Shape) -> Instruction:
    insn = Instruction(
        code=own,
        mnemonic=shape.mnemonic,
        operands=_operands(own, e, shape.operands),
        operand_size=shape.operand_size,
        address_size=e.address_size,
        repeat=shape.repeat,
        lock=e.lock,
        sensitivity=shape.sensitivity,
        reason=shape.reason,
        undefined=shape.undefined,
        undefined_rule=shape.undefined_rule,
        implicit=shape.implicit,
        access=shape.access,
        floating=shape.floating,
        ends_block=shape.ends_block,
        varies=shape.varies,
        bits=e.bits,
    )
    return replace(insn, mistranslated=True) if mistranslated(insn) else insn


def _vector(code: bytes, bits: int) -> Instruction:
    """VEX, EVEX and XOP: the platform has none of them."""
    named = _ask_capstone(code, bits)
    if named is None:
        raise undefined_opcode()
    entry = sensitive.find("vector")
    assert entry is not None
    return Instruction(
        code=code[: named.length], mnemonic=named.mnemonic, operands=(), operand_size=8,
        address_size=8, repeat="", lock=False, sensitivity=entry.sensitivity, reason=entry.reason,
        undefined=0, undefined_rule="", implicit="", access="", floating=True, ends_block=False,
        varies=False, bits=bits,
    )  # fmt: skip


@lru_cache(1 << 12)
def _text_parts(insn: Instruction) -> tuple[str, str]:
    """Mnemonic with prefixes, and the operands; "$" stands for a branch's target."""
    e = parse(insn.code, insn.bits)
    if e.map == VECTOR:
        named = _ask_capstone(insn.code, insn.bits)
        assert named is not None
        return named.mnemonic, named.operand_text
    named, mnemonic = _named(insn.code, e), insn.mnemonic
    first = mnemonic if mnemonic in ("lcall", "ljmp") else named.mnemonic
    if opcodes.is_relative_branch(e):
        return first, "$"
    return first, _operand_text(named, mnemonic, insn.operands)


def _mnemonic(named: Named, e: Encoding) -> str:
    if e.map == ONE_BYTE:
        if e.opcode in _STRINGS:
            return _STRINGS[e.opcode]
        if e.opcode == 0xFF and e.reg in (3, 5):
            return "lcall" if e.reg == 3 else "ljmp"
        if opcodes.is_far_pointer(e):
            return "lcall" if e.opcode == 0x9A else "ljmp"
    name = named.mnemonic.split()[-1]  # behind the prefixes
    return _ALIASES.get(name, name.removesuffix("64"))


def _form(mnemonic: str, operands: tuple[Operand, ...], e: Encoding) -> str:
    """The name under which sensitive.py lists this instruction, if it does."""
    if e.map == TWO_BYTE and e.opcode in (0xBC, 0xBD) and e.rep == 0xF3:
        return "tzcnt" if e.opcode == 0xBC else "lzcnt"
    if e.map == MAP_38 and e.opcode in _AES_SHA:
        return "aes" if e.opcode > 0xCD else "sha"
    if e.map == MAP_3A and e.opcode in (0x44, 0xCC, 0xDF):
        return {0x44: "pclmulqdq", 0xCC: "sha", 0xDF: "aes"}[e.opcode]
    if e.bits != 64 and mnemonic in ("syscall", "sysret"):
        return f"{mnemonic} in 32-bit code"
    if mnemonic in ("mov", "push", "pop"):
        kinds = [_kind(operand) for operand in operands]
        if kinds != ["r"] * len(kinds):
            return f"{mnemonic} {', '.join(kinds)}"
    return mnemonic


def _kind(operand: Operand) -> str:
    if isinstance(operand, Register):
        if operand.name in SEGMENT_NAMES:
            return "sreg"
        if operand.name[:2] in ("cr", "dr") and operand.name[2:].isdigit():
            return operand.name[:2]
    return "r"


def _operands(
    code: bytes, e: Encoding, named: tuple[tuple[str | None, int], ...]
) -> tuple[Operand, ...]:
    """Registers from Capstone; memory and immediates from the encoding itself. named: see ``Named``."""
    if opcodes.is_relative_branch(e):
        return (_immediate(code, e, 0),)
    if opcodes.is_far_pointer(e):
        return (_immediate(code, e, 1), _immediate(code, e, 0))
    result: list[Operand] = []
    immediates = 0
    for name, size in named:
        if name:
            result.append(Register(name, size))
        elif name == "":
            result.append(_memory(e, size, len(result)))
        elif immediates < len(e.immediates):
            result.append(_immediate(code, e, immediates))
            immediates += 1
        else:
            result.append(Immediate(1, 1))  # shifts by one
    if e.map == ONE_BYTE and e.opcode == 0xD7:  # xlat: accesses.py adds AL
        result.append(_based(e, e.data_segment, RBX, 1))
    elif e.map == TWO_BYTE and e.opcode == 0xF7:  # maskmovq, maskmovdqu
        result.append(_based(e, e.data_segment, RDI, 16 if e.operand_prefix else 8))
    return tuple(result)


def _based(e: Encoding, segment: int, base: int, size: int) -> MemoryOperand:
    """[base], which the opcode names without a ModRM byte."""
    return MemoryOperand(segment, base, None, 1, 0, False, size, e.address_size, e.bits)


def _immediate(code: bytes, e: Encoding, which: int) -> Immediate:
    begin, size = e.immediates[which]
    signed = not opcodes.unsigned_immediate(e)
    return Immediate(int.from_bytes(code[begin : begin + size], "little", signed=signed) & MASK64, size)


def _memory(e: Encoding, size: int, position: int) -> MemoryOperand:
    if e.address is None:
        return _string_operand(e, size, position)
    a = e.address
    size = opcodes.memory_size(e, size)
    return MemoryOperand(
        a.segment, a.base, a.index, a.scale, a.displacement, a.relative, size, e.address_size, e.bits
    )


def _string_operand(e: Encoding, size: int, position: int) -> MemoryOperand:
    """[rdi] is always in ES; [rsi] in DS unless overridden."""
    if _RDI_AT.get(e.opcode) == position:
        return _based(e, ES, RDI, size)
    return _based(e, e.data_segment, RSI, size)


def _operand_text(named: Named, mnemonic: str, operands: tuple[Operand, ...]) -> str:
    if mnemonic in ("lcall", "ljmp") and len(operands) == 2:  # Capstone has two spellings
        return ":".join(hex(o.value) for o in operands if isinstance(o, Immediate))
    if mnemonic == "enter":  # Capstone signs the frame size
        return ", ".join(hex(o.value) for o in operands if isinstance(o, Immediate))
    return named.operand_text
