"""String instructions and XLAT, written as bytes (SDM vol. 2, MOVS, CMPS, SCAS, LODS, STOS, INS, OUTS,
XLAT).

Keystone breaks down over some of them (`outsw`), depending on what stands before, and takes operands
that they do not have. Each has one form for a size of element, address and source segment.
"""

from __future__ import annotations

from collections.abc import Sequence

from cores.programs.assembler.expressions import Number, Unclear
from cores.programs.assembler.operands import GENERAL, Memory, Operand, Register

OPCODES = {
    "ins": 0x6C, "outs": 0x6E, "movs": 0xA4, "cmps": 0xA6, "stos": 0xAA, "lods": 0xAC, "scas": 0xAE,
}  # fmt: skip
"""The opcodes for bytes; that for wider elements follows."""
_OPERANDS = {
    "ins": "di dx", "outs": "dx si", "movs": "di si", "cmps": "si di", "stos": "di a", "lods": "a si",
    "scas": "a di",
}  # fmt: skip
"""The operands: source, destination, DX, and the accumulator, which may be left out."""
_SUFFIXES = {"b": 1, "w": 2, "d": 4, "q": 8}
_SIZE_NAMES = {1: "byte", 2: "word", 4: "dword", 8: "qword"}
_ACCUMULATORS = {"al": 1, "ax": 2, "eax": 4, "rax": 8}
_SEGMENTS = {"es": 0x26, "cs": 0x2E, "ss": 0x36, "fs": 0x64, "gs": 0x65}
"""The prefixes of source segments; DS is that of an instruction without one."""


def name_and_size(word: str, found: Sequence[Operand]) -> tuple[str, int]:
    """A string instruction's name without its size, and the size in bytes, 0 for none; ("", 0) for
    another instruction, such as SSE's MOVSD and CMPSD."""
    if any(isinstance(o, Register) and o.name not in GENERAL for o in found):
        return "", 0
    if word in OPCODES:
        return word, 0
    name, size = word[:-1], _SUFFIXES.get(word[-1:], 0)
    if name not in OPCODES or not size or (size == 8 and name in ("ins", "outs")):
        return "", 0
    return name, size


def encoded(word: str, found: Sequence[Operand], mode: int) -> str | None:
    """The statement for Keystone, or None for another instruction. mode: 16, 32 or 64. Raises
    Unclear."""
    if word in ("xlat", "xlatb"):
        return _xlat(found, mode)
    name, size = name_and_size(word, found)
    if not name or (not found and not size):
        return None
    wanted = _OPERANDS[name].split()
    given = [k for k in wanted if k != "a"] if len(found) == 1 and "a" in wanted else wanted
    size = size or next(filter(None, map(_operand_size, found)), 0)
    if not size:
        raise Unclear("invalid operand (without a size, as in byte ptr [rdi])")
    memory = {k: o for k, o in zip(given, found, strict=False) if isinstance(o, Memory)}
    whole = not found or (
        len(given) == len(found)
        and size in ((1, 2, 4, 8) if mode == 64 and name not in ("ins", "outs") else (1, 2, 4))
        and all(_fits(kind, o, size, mode) for kind, o in zip(given, found, strict=True))
        and len({o.width for o in memory.values()}) == 1
    )
    if not whole:
        raise Unclear(f"its operands can only be: {_text(name, size, mode)}")
    if "di" in memory and memory["di"].segment not in ("", "es"):
        raise Unclear("the destination of a string instruction lies in es")
    place = memory.get("si") or memory.get("di")
    segment = memory["si"].segment if "si" in memory else ""
    wide = place.width * 8 if place else mode
    return _line(OPCODES[name] + (size > 1), size, segment, wide, mode)


def _operand_size(operand: Operand) -> int:
    match operand:
        case Memory():
            return operand.size
        case Register(name):
            return _ACCUMULATORS.get(name, 0)
    return 0


def _fits(kind: str, operand: Operand, size: int, mode: int) -> bool:
    match operand:
        case Register(name):
            return name == "dx" if kind == "dx" else kind == "a" and _ACCUMULATORS.get(name) == size
        case Memory():
            bases = {f"r{kind}": 64, f"e{kind}": 32, kind: 16}
            plain = not operand.index and operand.displacement == Number(0) and not operand.decorations
            wide = bases.get(operand.base, 0)
            return (
                plain and operand.size in (0, size) and wide in ((32, 64) if mode == 64 else (16, 32))
            )
    return False


def _xlat(found: Sequence[Operand], mode: int) -> str:
    match found:
        case []:
            return _line(0xD7, 0, "", mode, mode)
        case [Memory(0 | 1, segment, base, "", _, Number(0)) as memory] if base in (
            ("rbx", "ebx") if mode == 64 else ("ebx", "bx")
        ):
            return _line(0xD7, 0, segment, memory.width * 8, mode)
    raise Unclear(f"its operand can only be: byte ptr [{_wide('bx', mode)}]")


def _line(opcode: int, size: int, segment: str, width: int, mode: int) -> str:
    """The bytes: segment, address size, operand size, opcode. width: of the address in bits."""
    code = [_SEGMENTS[segment]] if segment in _SEGMENTS else []
    if width != mode:
        code.append(0x67)
    if (size == 2 and mode != 16) or (size == 4 and mode == 16):
        code.append(0x66)
    if size == 8:
        code.append(0x48)
    return f".byte {', '.join(f'{byte:#x}' for byte in (*code, opcode))}"


def _wide(name: str, mode: int) -> str:
    return {16: name, 32: f"e{name}", 64: f"r{name}"}[mode]


def _text(name: str, size: int, mode: int) -> str:
    """The instruction with its operands, for a message."""
    size = size if size in _SIZE_NAMES else 1
    accumulator = next(r for r, wide in _ACCUMULATORS.items() if wide == size)
    texts = {
        "di": f"{_SIZE_NAMES[size]} ptr {'es:' * (mode != 64)}[{_wide('di', mode)}]",
        "si": f"{_SIZE_NAMES[size]} ptr [{_wide('si', mode)}]",
        "dx": "dx",
        "a": accumulator,
    }
    suffix = next(s for s, wide in _SUFFIXES.items() if wide == size)
    return f"{name}{suffix} {', '.join(texts[kind] for kind in _OPERANDS[name].split())}"
