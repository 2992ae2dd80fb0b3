"""What becomes of units that an assembler has laid out or refused: an image, or an error with its line.

The same for each assembler, so that a mistake has the same words whichever is installed.
"""

from __future__ import annotations

from collections.abc import Sequence

from cores.errors import InputError
from cores.programs.assembler import readback
from cores.programs.assembler.image import Image
from cores.programs.assembler.instructions import Asked
from cores.programs.assembler.mnemonics import is_mnemonic
from cores.programs.assembler.operands import Immediate, Memory, Register
from cores.programs.assembler.parser import Assembly, mistake, unknown

FIXUP, FRAGMENT, OPERAND, ELSEWHERE, UNKNOWN = 161, 163, 512, 513, 514
"""Keystone's error numbers for a target out of reach; a backward origin; operands that do not match any
form of the instruction; an instruction of other modes; an unknown instruction."""
MESSAGES = {
    128: "unknown token in an expression", 129: "value out of range", 130: "bad directive",
    131: "unexpected token in a directive", 134: "bad expression", 139: "bad directive",
    143: "this name is defined twice", 144: "unknown symbol", 146: "not a statement",
    159: "unexpected character", FIXUP: "target or value out of reach", 162: "bad label",
    FRAGMENT: "the place lies behind what is already assembled", OPERAND: "invalid operand",
    ELSEWHERE: "not an instruction in 64-bit mode", UNKNOWN: "unknown instruction",
}  # fmt: skip
"""Messages for Keystone's error numbers (keystone.h, ks_err and KS_ERR_ASM_*)."""

_TAKE_MEMORY = frozenset({"lea", "lgdt", "lidt", "sgdt", "sidt", "invlpg", "fxsave", "fxrstor"})


def image(assembly: Assembly, code: bytes, addresses: Sequence[int], path: str, base: int) -> Image:
    """The image, checked against the source. addresses: of each unit, and of the end. Raises InputError
    with the line of the first unit that is not what was written."""
    units = assembly.units
    code = readback.mended(units, code, addresses)
    try:
        readback.check(units, code, addresses)
    except readback.Misread as found:
        raise mistake(str(found), found.unit.statement, path) from None
    lines: dict[int, int] = {}
    for i, unit in enumerate(units):
        if addresses[i + 1] > addresses[i]:
            lines[addresses[i]] = unit.line
    symbols = {name: addresses[index] for name, index in assembly.labels.items()}
    entry = symbols.get("_start", symbols.get("start", base))
    return Image(code, entry, symbols, lines)


def refusal(assembly: Assembly, number: int, index: int | None, path: str) -> InputError:
    """The error for a unit that an assembler refuses, by one of the numbers. index: None where the unit
    is not known."""
    reason = MESSAGES.get(number, f"the assembler refuses it (error {number})")
    if index is None:
        return InputError(reason, path)
    unit = assembly.units[index]
    if isinstance(unit.content, Asked):
        if not is_mnemonic(unit.content.word):
            reason = unknown(unit.content.word)
        elif number == OPERAND:
            reason += _hint(unit.content)
    return mistake(reason, unit.statement, path)


def _hint(asked: Asked) -> str:
    """The probable mistake in operands that an assembler refuses."""
    memory = [operand for operand in asked.operands if isinstance(operand, Memory)]
    if len(memory) > 1:
        return " (only one can lie in memory)"
    if memory and not memory[0].size and not any(isinstance(o, Register) for o in asked.operands):
        return " (without a size, as in dword ptr [rax])"
    if asked.word in _TAKE_MEMORY and any(isinstance(o, Immediate) for o in asked.operands):
        return " (memory stands in brackets)"
    return ""
