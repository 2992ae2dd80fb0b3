"""The assembler: Keystone, run in a child process (cores/programs/assembler/keystone_child.py)."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cores.errors import InputError
from cores.programs.assembler import readback
from cores.programs.assembler.image import Image
from cores.programs.assembler.instructions import Asked
from cores.programs.assembler.operands import Immediate, Memory, Register
from cores.programs.assembler.parser import Assembly, mistake, parse, unknown

CPU_LIMIT = 10
"""Seconds of CPU time. 10,000 lines take 0.1 s; on some invalid sources Keystone never returns."""
PATIENCE = 300
"""Seconds that may pass, however busy the computer is; and on hosts that limit no CPU time."""

OUT_OF_TIME = -getattr(signal, "SIGXCPU", 0) or None
"""Exit code of a process that has met its limit of CPU time (setrlimit(2))."""

MESSAGES = {
    128: "unknown token in an expression", 129: "value out of range", 130: "bad directive",
    131: "unexpected token in a directive", 134: "bad expression", 139: "bad directive",
    143: "this name is defined twice", 144: "unknown symbol", 146: "not a statement",
    159: "unexpected character", 161: "target or value out of reach", 162: "bad label",
    163: "the place lies behind what is already assembled", 512: "invalid operand",
    513: "not an instruction in 64-bit mode", 514: "unknown instruction",
}  # fmt: skip
"""Messages for Keystone's error numbers (keystone.h, ks_err and KS_ERR_ASM_*)."""


OPERAND = 512
"""Keystone's error number for operands that do not match any form of the instruction."""
_TAKE_MEMORY = frozenset({"lea", "lgdt", "lidt", "sgdt", "sidt", "invlpg", "fxsave", "fxrstor"})


def installed() -> bool:
    """Whether Keystone is installed. It has no wheel for some machines."""
    return find_spec("keystone") is not None


def assemble(source: str, path: str, base: int) -> Image:
    """The image of ``source`` for address ``base``. Raises InputError with the line of a mistake."""
    assembly = parse(source, path, is_mnemonic, base)
    units = assembly.units
    try:
        answer, code = run_once(path, base, [u.text for u in units])
    except BrokenDown as failure:
        raise _culprit(failure, assembly, path) from None
    if "errno" in answer:
        raise _error(answer, assembly, path)
    addresses: list[int] = answer["addresses"]
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


class BrokenDown(InputError):
    """Keystone's process crashed, as on `mov ah, r8b`."""


def _culprit(failure: BrokenDown, assembly: Assembly, path: str) -> InputError:
    """The statement at which Keystone crashes, by bisection: the last of the shortest crashing
    prefix."""
    units = assembly.units
    good, bad = 0, len(units)
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            run_once(path, 0x100000, [u.text for u in units[:middle]])
            good = middle
        except BrokenDown:
            bad = middle
    return mistake(failure.reason, units[bad - 1].statement, path)


def run_once(path: str, base: int, units: list[str]) -> tuple[dict[str, Any], bytes]:
    """Run a new Keystone process once: its answer and the image."""
    question = json.dumps({"base": base, "units": units}).encode()
    child = Path(__file__).with_name("keystone_child.py")
    # -P: this file's folder has modules with the names of standard ones.
    command = [sys.executable, "-P", "-X", "utf8", str(child), str(CPU_LIMIT)]
    try:
        done = subprocess.run(
            command, input=question, capture_output=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"Keystone, the assembler, found no end in {PATIENCE} s", path) from None
    except OSError as error:
        raise InputError(f"the assembler cannot be started: {error.strerror}", path) from None
    if done.returncode == OUT_OF_TIME:
        raise InputError(f"Keystone, the assembler, found no end in {CPU_LIMIT} s of CPU time", path)
    head, newline, code = done.stdout.partition(b"\n")
    if done.returncode or not newline:
        raise BrokenDown("Keystone, the assembler, broke down over this", path)
    return json.loads(head), code


@cache
def mnemonics() -> frozenset[str]:
    """Every mnemonic that Capstone decodes, and the aliases that only assemblers accept."""
    import capstone

    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    names = (decoder.insn_name(i) for i in range(1, capstone.x86.X86_INS_ENDING))
    conditions = "c nc z nz na nae nb nbe ng nge nl nle pe po e ne a ae b be g ge l le o no p np s ns"
    aliases = [kind + c for kind in ("j", "set", "cmov") for c in conditions.split()]
    return frozenset(
        [*filter(None, names), *aliases, "repe", "repz", "fwait", "icebp", "pushf", "popf"]
    )


def is_mnemonic(word: str) -> bool:
    return word in mnemonics()


def _error(answer: dict[str, Any], assembly: Assembly, path: str) -> InputError:
    number = answer["errno"]
    reason = MESSAGES.get(number, f"Keystone refuses it (error {number})")
    if answer["unit"] is None:
        return InputError(reason, path)
    unit = assembly.units[answer["unit"]]
    if isinstance(unit.content, Asked):
        if not is_mnemonic(unit.content.word):
            reason = unknown(unit.content.word)
        elif number == OPERAND:
            reason += _hint(unit.content)
    return mistake(reason, unit.statement, path)


def _hint(asked: Asked) -> str:
    """The probable mistake in operands that Keystone refuses."""
    memory = [operand for operand in asked.operands if isinstance(operand, Memory)]
    if len(memory) > 1:
        return " (only one can lie in memory)"
    if memory and not memory[0].size and not any(isinstance(o, Register) for o in asked.operands):
        return " (without a size, as in dword ptr [rax])"
    if asked.word in _TAKE_MEMORY and any(isinstance(o, Immediate) for o in asked.operands):
        return " (memory stands in brackets)"
    return ""
