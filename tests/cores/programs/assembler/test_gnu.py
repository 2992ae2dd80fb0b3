"""The front end against the GNU assembler, statement by statement."""

from __future__ import annotations

import re
import shutil
from random import Random

import pytest

from cores.errors import InputError
from cores.programs.assembler import operands
from cores.programs.assembler.keystone import assemble, installed
from cores.x86.faults import GuestFault
from cores.x86.isa.decoder import decode
from cores.x86.isa.instruction import Immediate, MemoryOperand, Register
from cores.x86.registers import SEGMENT_NAMES
from tests.cores.programs.assembler import forms

pytestmark = pytest.mark.skipif(not installed(), reason="Keystone has no package for this machine")

BASE = 0x100000
CHUNK = 50

NOT_HERE = {
    r"(call|jmp) (5|-3|300)$": "an address without a symbol, which GNU as leaves to the linker",
    r"(call|jmp) ([acd]x|d?word ptr .*)$": "a 16-bit target, or a far pointer without its name",
    r"l(call|jmp) -?\d+$": "an address without brackets",
    r"[c-gs]s( fs)?$": "a segment prefix alone",
    r"outs?[bwd]? edx, ": "DX by another name",
    r"invlpga .|vm(run|load|save) eax": "registers that are only spelled out",
    r"movd ": "a general register or a number behind an SSE mnemonic",
    r"movq .*(\bcr\d|\bdr\d|\b[df]s\b)|movq .*\[rdi\], \w+$": "the same",
}  # fmt: skip
"""Forms that GNU as takes, and the front end refuses."""
CUT = re.compile(r"does not fit|out of range|reach|has \d+ bits|have \d+ bits")
SHORT_NUMBERS = re.compile(r"(shl|rcr|bt|in|out|shld|pshufd|int|enter|ret)\b.*[ ,]-?\d+|enter -?\d+")
"""With a number that GNU as cuts without a warning, Keystone says "invalid operand"."""


def ours(statements: list[str], mode: int = 64) -> list[bytes | str]:
    """The bytes of each statement in 16-, 32- or 64-bit code, or the reason for its refusal. All
    statements of a source share a process."""
    found: list[bytes | str] = []
    while len(found) < len(statements):
        part = statements[len(found) : len(found) + CHUNK]
        try:
            source = "".join(f"{s}\n" for s in (f".code{mode}", *part))
            image = assemble(source, "x.s", BASE)
        except InputError as error:
            line = (error.line or 2) - 1
            found += [*ours(part[: line - 1], mode), error.reason]
            continue
        starts = {line: address - BASE for address, line in image.lines.items()}
        ends = [*sorted(starts.values())[1:], len(image.code)]
        code = {
            line: image.code[start:end] for (line, start), end in zip(starts.items(), ends, strict=True)
        }
        found += [code.get(n + 1, b"") for n in range(1, len(part) + 1)]
    return found


def meaning(code: bytes) -> object:
    """The instruction without an encoder's choices: width of a number or displacement, order of
    prefixes, moffs or disp32, prefixes without effect."""
    insn = decode(code)
    assert insn.length == len(code)
    names = [o.name for o in insn.operands if isinstance(o, Register)]
    selector = insn.mnemonic in ("sldt", "str") or any(name in SEGMENT_NAMES for name in names)
    found: list[object] = []
    for i, operand in enumerate(insn.operands):
        match operand:
            case Immediate(value):
                found.append(value % (1 << 8 * max(insn.operand_size, 1)))
            case MemoryOperand(segment, base, index, scale, displacement, relative, size, width):
                found.append(
                    (
                        segment if segment in (4, 5) else 0,
                        base,
                        index,
                        scale if index is not None else 1,
                    )
                )
                found.append(
                    (displacement % (1 << 8 * width), relative, width, 2 if selector else size)
                )
            case Register(name, size) if selector and name not in SEGMENT_NAMES:
                # written it is zero-extended from 32 bits or from 16; read, it is 16 bits of it
                found.append((operands.sized(name, 8), size > 2 or i > 0))
            case Register(name):
                found.append(name)
    return insn.mnemonic, selector or insn.operand_size, insn.repeat, tuple(found), 0xF0 in code[:4]


def same(mine: bytes, theirs: bytes) -> bool:
    if mine == theirs:
        return True
    try:
        return meaning(mine) == meaning(theirs)
    except GuestFault:
        return False  # what the platform's CPU lacks has to be equal


def judge(form: str, mine: bytes | str, theirs: bytes | None, said: str) -> str:
    """The error in words, or ""."""
    if any(re.match(pattern, form) for pattern in NOT_HERE):
        return ""
    if isinstance(mine, bytes):
        if theirs is None:
            return f"{form}: GNU as refuses it ({said}), and here it is {mine.hex(' ')}"
        return (
            "" if same(mine, theirs) else f"{form}: {mine.hex(' ')}, and GNU as has {theirs.hex(' ')}"
        )
    if theirs is None or said or CUT.search(mine):
        return ""
    if "invalid operand" in mine and SHORT_NUMBERS.match(form):
        return ""
    return f"{form}: refused ({mine}), and GNU as has {theirs.hex(' ')}"


def recorded() -> list[tuple[str, bytes | None]]:
    lines = [line.split(maxsplit=1) for line in forms.RECORDED.read_text().splitlines()]
    return [(form, None if code == "-" else bytes.fromhex(code)) for code, form in lines]


def test_a_recorded_sample(pytestconfig: pytest.Config) -> None:
    """A sixth of some 400 statements daily, all in the full run: they have GNU as's bytes or meaning;
    those that it refuses or warns of are refused, but for a few unambiguous forms."""
    sample = recorded()
    if not pytestconfig.getoption("--full"):
        sample = sample[::6]  # each refusal costs a process of Keystone's
    mine = ours([form for form, _ in sample])
    wrong = []
    for (form, theirs), code in zip(sample, mine, strict=True):
        if theirs is not None or isinstance(code, str):
            wrong.append(judge(form, code, theirs, ""))
    assert list(filter(None, wrong)) == []


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.skipif(shutil.which("as") is None, reason="GNU as is not installed")
def test_all_forms() -> None:
    """All forms (sensitive instructions, addresses, limits of numbers, x87 and SSE) have GNU as's bytes
    or meaning, and a sample of its refusals is refused."""
    statements = forms.all_forms()
    answers = dict(zip(statements, forms.gnu(statements), strict=True))
    refused = Random(1).sample([s for s, (code, _) in answers.items() if code is None], 300)
    taken = [s for s, (code, _) in answers.items() if code]
    asked = [*taken, *refused]
    assert len(taken) > 5000
    wrong = [judge(s, mine, *answers[s]) for s, mine in zip(asked, ours(asked), strict=True)]
    assert list(filter(None, wrong)) == []


@pytest.mark.parametrize("mode", [16, 32, 64])
@pytest.mark.full
@pytest.mark.skipif(shutil.which("as") is None, reason="GNU as is not installed")
def test_strings(mode: int) -> None:
    """String instructions have GNU as's bytes in each width of code, but for the order of prefixes, and
    are refused where it refuses them."""
    statements = forms.strings(mode)
    wrong = []
    for form, mine, (theirs, _) in zip(
        statements, ours(statements, mode), forms.gnu(statements, mode), strict=True
    ):
        same = isinstance(mine, bytes) and theirs is not None and sorted(mine) == sorted(theirs)
        if not same and (theirs is not None or isinstance(mine, bytes)):
            wrong.append((form, mine, theirs))
    assert wrong == []


def test_the_judge_is_strict() -> None:
    """Another register, number, size, segment or address counts as another meaning."""
    pairs = [
        ("b001", "b002"), ("89d8", "89d9"), ("8b03", "668b03"), ("8b03", "648b03"), ("8b03", "678b03"),
        ("8b4304", "8b4308"), ("8b0403", "8b0443"), ("f3a4", "a4"), ("f3a4", "f2a4"),
        ("f0ff03", "ff03"),
        ("8cc0", "668cc0"), ("8ce0", "8ce1"), ("8ed8", "8ec0"),
    ]  # fmt: skip
    assert not any(same(bytes.fromhex(a), bytes.fromhex(b)) for a, b in pairs)
    equal = [("83c005", "81c005000000"), ("8b4300", "8b03"), ("a100500000" + "0" * 8, "8b042500500000"),
             ("8ed8", "668ed8"), ("488ce6", "8ce6")]  # fmt: skip
    assert all(same(bytes.fromhex(a), bytes.fromhex(b)) for a, b in equal)
