"""The other assemblers, which write ELF objects: GNU as, and LLVM as llvm-mc, clang or Zig's clang.

They know addresses only as distances, where Keystone lays the image out at its place. So a label stands
for two names: ``__ks_N`` is the place, for branches and operands relative to RIP, and ``__at_N`` the
number, defined as the base plus a distance, for all else: no relocation could say `label >> 16`. The
section begins at the base's offset within 16 MiB, the largest alignment.
"""

from __future__ import annotations

import re
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cores.errors import InputError
from cores.programs.assembler import expressions, object_file, outcome
from cores.programs.assembler.data import Bytes, Gap
from cores.programs.assembler.expressions import Binary, Number, Place
from cores.programs.assembler.image import Image
from cores.programs.assembler.instructions import BRANCH, Asked
from cores.programs.assembler.mnemonics import is_mnemonic
from cores.programs.assembler.operands import GENERAL, Immediate, Memory, Register, sized
from cores.programs.assembler.parser import Assembly, Unit, parse

PATIENCE = 300
"""Seconds that may pass, however busy the computer is: 10,000 lines take 0.2 s."""
LARGEST_ALIGNMENT = 1 << 24

_PLACE = re.compile(r"__ks_(\d+)")
_NUMBER = re.compile(r"__at_(\d+)")
_TERM = re.compile(r"(?<=[ ,])(__(?:at|ks)_[st]?\d+)(?=,|$)")
"""A whole operand: an address as a number, which Intel syntax takes for memory without `offset`."""
_DEFINITION = re.compile(r"(__ks_[st]\d+) = ")
_RELATIVE = re.compile(r"\[[re]ip [^\]]*\]")
_RENAMED = {"sysret": "sysretq"}
"""Keystone's names that mean something else to these assemblers."""
_MESSAGE = re.compile(
    r"^source\.s:(\d+):(?:\d+:)? *(?:fatal )?error: *(.*)$", re.IGNORECASE | re.MULTILINE
)
_UNKNOWN = re.compile(r"no such instruction|invalid instruction mnemonic", re.IGNORECASE)
_ELSEWHERE = re.compile(r"not (?:supported|valid) in \d+-bit|Not 64-bit mode", re.IGNORECASE)
_BACKWARDS = re.compile(r"move .*backwards|invalid \.org offset", re.IGNORECASE)


def assemble(source: str, path: str, base: int, command: Sequence[str]) -> Image:
    """The image of ``source`` for address ``base``, by the assembler that ``command`` starts. Raises
    InputError with the line of a mistake."""
    assembly = parse(source, path, is_mnemonic, base)
    units = assembly.units
    text, owners = written(units, base)
    answer = _run(command, text, path)
    if isinstance(answer, str):
        raise _refusal(answer, assembly, owners, path)
    start = base % LARGEST_ALIGNMENT
    try:
        section = object_file.read(answer)
        places = [section.symbols[f"__ks_{i}"] for i in range(len(units) + 1)]
    except object_file.Incomplete as found:
        behind = (i for i in range(len(units)) if found.symbols[f"__ks_{i + 1}"] > found.offset)
        raise outcome.refusal(assembly, outcome.OPERAND, next(behind, None), path) from None
    except (struct.error, LookupError, ValueError):
        raise InputError(f"{command[0]} makes no object of it that can be read", path) from None
    addresses = [base - start + place for place in places]
    return outcome.image(assembly, section.content[start:], addresses, path, base)


def _run(command: Sequence[str], text: str, path: str) -> bytes | str:
    """The object, or the assembler's messages."""
    with tempfile.TemporaryDirectory(prefix="ringscope-", ignore_cleanup_errors=True) as folder:
        Path(folder, "source.s").write_text(text, encoding="ascii")
        try:
            done = subprocess.run(
                [*command, "-o", "image.o", "source.s"], cwd=folder, stdin=subprocess.DEVNULL,
                capture_output=True, timeout=PATIENCE, check=False,
            )  # fmt: skip
            return Path(folder, "image.o").read_bytes() if not done.returncode else _words(done.stderr)
        except subprocess.TimeoutExpired:
            raise InputError(f"{command[0]} found no end in {PATIENCE} s", path) from None
        except OSError as error:
            raise InputError(f"{command[0]} gave no answer: {error.strerror}", path) from None


def _words(errors: bytes) -> str:
    return errors.decode("utf-8", "replace")


def _refusal(messages: str, assembly: Assembly, owners: Sequence[int], path: str) -> InputError:
    """The first message's error, in the words that there are for all assemblers."""
    for match in _MESSAGE.finditer(messages):
        line = int(match[1]) - 1
        if not 0 <= line < len(owners) or owners[line] < 0:
            continue
        content = assembly.units[owners[line]].content
        number = outcome.OPERAND
        if _UNKNOWN.search(match[2]):
            number = outcome.UNKNOWN
        elif _ELSEWHERE.search(match[2]):
            number = outcome.ELSEWHERE
        elif _BACKWARDS.search(match[2]):
            number = outcome.FRAGMENT
        elif not isinstance(content, Asked) or BRANCH.match(content.word):
            number = outcome.FIXUP
        return outcome.refusal(assembly, number, owners[line], path)
    first = messages.strip().partition("\n")[0]
    return InputError(f"the assembler refuses it{f': {first}' if first else ''}", path)


def written(units: Sequence[Unit], base: int) -> tuple[str, list[int]]:
    """The units as source for the assembler, a label before each and one behind the last; and of each
    line the unit that it comes from, -1 for lines of ours."""
    lines, owners = [".intel_syntax noprefix", ".text"], [-1, -1]
    if offset := base % LARGEST_ALIGNMENT:
        lines.append(f".org {offset:#x}")
        owners.append(-1)
    definitions: list[tuple[str, int]] = []  # behind the code, as GNU as would expand them in it
    numbers: set[int] = set()
    for i, unit in enumerate(units):
        lines.append(f"__ks_{i}:")
        owners.append(i)
        for line in _statement(unit, base, i):
            numbers.update(int(n) for n in _NUMBER.findall(line))
            if _DEFINITION.match(line):
                definitions.append((line, i))
            else:
                lines.append(line)
                owners.append(i)
    definitions += [(f"__at_{i} = {base:#x} + (__ks_{i} - __ks_0)", -1) for i in sorted(numbers)]
    lines += [f"__ks_{len(units)}:", *(line for line, _ in definitions)]
    owners += [-1, *(owner for _, owner in definitions)]
    return "\n".join(lines) + "\n", owners


def _statement(unit: Unit, base: int, index: int) -> list[str]:
    match unit.content:
        case Gap(end):
            return [f".org {expressions.render(_place(end, base))}"]
        case Bytes(content, times) if len(content) == 1 and times > 1:
            return [f".fill {times}, 1, {content[0]}"]
        case Asked():
            return _instruction(unit, unit.content, base, index)
    return [_as_numbers(line) for line in unit.text.split("\n")]


def _place(address: expressions.Expression, base: int) -> expressions.Expression:
    """An address as a distance from the first label, where it is not one from a label already."""
    if expressions.labels(address) == 1:
        return address
    return Binary("+", Place(0), Binary("-", address, Number(base)))


def _instruction(unit: Unit, asked: Asked, base: int, index: int) -> list[str]:
    *lines, last = unit.text.split("\n")
    word, _, rest = last.partition(" ")
    match asked.operands:
        case [Immediate(target)] if BRANCH.match(asked.word) and not last.startswith("."):
            if expressions.labels(target) == 1:
                return [*lines, last]
            prefixes = [line for line in lines if not _DEFINITION.match(line)]
            place = f"__ks_t{index} = {expressions.render(_place(target, base))}"
            return [*prefixes, place, f"{word} __ks_t{index}"]
        case [Memory()] if asked.mode == 64 and word in ("ljmp", "lcall"):
            last = f"{word[1:]} fword ptr {rest}"  # without a size, LLVM's has a REX.W
        case [Register(to), Register(source)] if word in ("lar", "lsl") and GENERAL.get(to, 1) > 1:
            last = f"{word} {to}, {sized(source, GENERAL[to])}"
        case [Register(to), Register(source)] if word == "mov" and asked.mode != 16:
            # Some leave out the prefix 66, with which the upper half of the register is kept.
            if GENERAL.get(to) == 2 and source[1:] == "s":
                return [*lines, ".byte 0x66", f"mov {sized(to, 4)}, {source}"]
            if GENERAL.get(source) == 2 and to[1:] == "s":
                return [*lines, ".byte 0x66", f"mov {to}, {sized(source, 4)}"]
    places = {name for part in _RELATIVE.findall(unit.text) for name in re.findall(r"__ks_s\d+", part)}
    return [_line(line, places) for line in (*lines, last)]


def _line(line: str, places: set[str]) -> str:
    """One line of an instruction's. places: names whose definitions are places, not numbers."""
    if (match := _DEFINITION.match(line)) and match[1] in places:
        return line
    if relative := _RELATIVE.search(line):
        start, end = relative.span()
        line = _as_numbers(line[:start]) + relative[0] + _as_numbers(line[end:])
    else:
        line = _as_numbers(line)
    if match or line.startswith("."):
        return line
    word, blank, rest = line.partition(" ")
    return _RENAMED.get(word, word) + _TERM.sub(r"offset \1", f"{blank}{rest}")


def _as_numbers(text: str) -> str:
    return _PLACE.sub(r"__at_\1", text)
