"""Statement forms for comparison with the GNU assembler, and the call of the GNU assembler.

``python -m tests.cores.programs.assembler.forms`` records a sample with its bytes in gnu_bytes.txt, for
hosts without binutils.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

from cores.x86.isa import sensitive

RECORDED = Path(__file__).with_name("gnu_bytes.txt")
SAMPLE = 400

_SMALL = ("bl", "cx", "edx", "rsi")
_MEMORY = ("[rdi]", *(f"{size} ptr [rdi]" for size in ("byte", "word", "dword", "qword", "xmmword")))
_FIRST = (*_SMALL, *_MEMORY, "tbyte ptr [rdi]", "5", "-3", "300", "ax", "al", "rax", "eax", "fs",
          "st(3)", "xmm1", "dx")  # fmt: skip
_SECOND = ("bh", "ax", "ecx", "rbx", *_MEMORY, "5", "300", "0x12345", "cl", "dx", "cr0", "cr3", "cr8",
           "dr7", "fs", "ds", "xmm3", "al", "eax")  # fmt: skip
BORDERS = sorted(
    {sign * (1 << n) + d for n in (7, 8, 15, 16, 31, 32, 63) for d in (-1, 0, 1) for sign in (1, -1)}
    | {0, 1, -1, 5}
)


def every_operand(mnemonic: str) -> Iterator[str]:
    """The mnemonic alone, with each operand, and with each pair."""
    yield mnemonic
    yield from (f"{mnemonic} {a}" for a in _FIRST)
    yield from (
        f"{mnemonic} {a}, {b}" for a, b in itertools.product((*_FIRST, "cr3", "cr0", "dr6"), _SECOND)
    )


def sensitive_forms() -> Iterator[str]:
    """All forms in the table of sensitive instructions, with every operand."""
    names = {
        word for entry in sensitive.TABLE for text in (entry.name, *entry.forms, *entry.aliases)
        for word in re.findall(r"[a-z][a-z0-9]+", text.lower())
    }  # fmt: skip
    for name in sorted(names):
        yield from every_operand(name)
    for prefix, size in itertools.product(("rep ", "repne ", ""), "bwd"):
        yield from (
            f"{prefix}{s}{size}" for s in ("ins", "outs", "movs", "stos", "lods", "scas", "cmps")
        )


def addresses() -> Iterator[str]:
    """Base, index, scale, displacement, width and segment in every combination that matters."""
    wide = ("rax", "rbx", "rsp", "rbp", "r12", "r13")
    for base, offset in itertools.product(
        ("", *wide), ("", "+5", "-128", "+128", "-0x80000000", "+0x7fffffff")
    ):
        for index, scale in itertools.product(("", "rcx", "rsp", "rbp", "r12"), ("", "*1", "*2", "*8")):
            if (base or index) and (index or not scale):
                for narrow in (False, True):
                    text = "+".join(filter(None, (base, index + scale))) + offset
                    text = re.sub(r"\br(\w\w)\b", r"e\1", text) if narrow else text
                    text = re.sub(r"\be(1\d)", r"r\1d", text) if narrow else text
                    yield f"mov ecx, [{text}]"
    for segment in ("", "fs:", "gs:", "ds:", "ss:", "cs:", "es:"):
        for inner in (
            "rax",
            "rsp+8",
            "rbp",
            "0x5000",
            "rip+0x10",
            "eip+0x10",
            "rbp+rax",
            "-8",
            "0x80000000",
        ):
            yield f"add qword ptr {segment}[{inner}], 0x1234"
            yield f"mov eax, {segment}[{inner}]"
            yield f"mov {segment}[{inner}], r9"
            yield f"movaps xmm9, {segment}[{inner}]"
    for text in ("rip+rax", "rax+rip", "rip*2", "rax*3", "rax*5", "ebx+rcx", "rax+rbx+rcx", "al",
                 "bx+si", "rax-rbx", "cs", "2*rax", "rax+4+rbx", "4+rax*2", "rbx+0x80000000",
                 "rbx-0x80000001", "rbx+0x100000000", "0x123456789a"):  # fmt: skip
        yield from (
            f"{start}[{text}]" for start in ("mov edx, ", "lea rax, ", "movabs rax, ", "inc byte ptr ")
        )


def immediates() -> Iterator[str]:
    """Each limit of each width, in every operand that takes a number."""
    places = ("al", "bh", "cx", "edx", "rsi", "byte ptr [rdi]", "word ptr [rdi]", "dword ptr [rdi]",
              "qword ptr [rdi]")  # fmt: skip
    for n in BORDERS:
        words = ("mov", "add", "sbb", "and", "cmp", "test")
        yield from (f"{word} {place}, {n}" for word, place in itertools.product(words, places))
        yield from (
            f"{word} {p}, {n}" for word, p in itertools.product(("shl", "rcr", "bt"), places[:5])
        )
        yield from (f"imul {pair}, {n}" for pair in ("cx, dx", "ecx, edx", "rcx, [rdi]"))
        yield from (
            f"{word} {n}" for word in ("push", "ret", "int", "in al,", "enter 5,", "movabs rcx,")
        )
        yield from (f"enter {n}, 0", f"out {n}, eax", f"shld eax, ebx, {n}", f"pshufd xmm1, xmm2, {n}")
        yield from (f"{directive} {n}" for directive in (".byte", ".word", ".long", ".quad"))
        yield f"mov ecx, [rdi+{n}]".replace("+-", "-")


def floating() -> Iterator[str]:
    """x87 and SSE, with every operand."""
    arithmetic = ("add", "mul", "sub", "subr", "div", "divr", "com", "comp")
    stacked = [f"f{a}{p}" for a in arithmetic for p in ("", "p")] + [f"fi{a}" for a in arithmetic]
    moves = (
        "fld fst fstp fild fist fistp fbld fbstp fxch fucomi fcomip fcmovbe fcmovnu ffree fldcw fnstcw"
    )
    others = "fnstsw fstsw fnsave frstor fldenv fnstenv fninit finit fldpi f2xm1 fprem fsincos emms"
    sse = ("addps mulsd sqrtss andpd ucomisd comiss cvtsi2sd cvttss2si movd movq movss movsd movups"
           " movntps pshufd paddq psrldq pmovmskb movmskps ldmxcsr maskmovdqu cmpsd")  # fmt: skip
    stack = ("st", "st(1)", "st(7)")
    for name in (*stacked, *moves.split(), *others.split(), *sse.split()):
        yield from every_operand(name)
        yield from (f"{name} {a}, {b}" for a, b in itertools.product(stack, stack))
        yield from (
            f"{name} {a}, {b}" for a, b in itertools.product(("xmm1", "mm1"), ("mm2", "xmm9", "edx"))
        )
        yield from (f"{name} xmm1, {b}, 3" for b in ("xmm2", "[rdi]", "qword ptr [rdi]"))


def strings(mode: int) -> list[str]:
    """String instructions and XLAT: prefixes, sizes, and operands of both widths of address."""
    names = ("ins", "outs", "movs", "stos", "lods", "scas", "cmps")
    found = [
        f"{prefix}{name}{size}"
        for prefix, name, size in itertools.product(("", "rep ", "repne "), names, "bwdq")
    ]
    widths = {16: ("{}", "e{}"), 32: ("e{}", "{}"), 64: ("r{}", "e{}")}[mode]
    sizes = (("byte", "al"), ("word", "ax"), ("dword", "eax"), ("qword", "rax"))
    for width, (size, a), segment in itertools.product(widths, sizes, ("", "es:", "ds:", "fs:")):
        to, of = (f"{size} ptr {segment}[{width.format(name)}]" for name in ("di", "si"))
        in_es = to.replace(segment, "es:") if segment else to
        found += [
            f"ins {to}, dx", f"outs dx, {of}", f"movs {to}, {of}", f"rep movs {in_es}, {of}",
            f"stos {to}", f"stos {to}, {a}", f"lods {of}", f"lods {a}, {of}", f"scas {to}",
            f"scas {a}, {to}", f"cmps {of}, {in_es}", f"lods al, {of}", f"outs {of}, dx",
            f"xlat byte ptr {segment}[{width.format('bx')}]",
        ]  # fmt: skip
    return list(dict.fromkeys(found))


def all_forms() -> list[str]:
    return list(dict.fromkeys((*sensitive_forms(), *addresses(), *immediates(), *floating())))


def gnu(statements: list[str], mode: int = 64) -> list[tuple[bytes | None, str]]:
    """The bytes of each statement in 16-, 32- or 64-bit code, None for an error; and GNU as's
    messages."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "a.s")
        source.write_text("\n".join((f".intel_syntax noprefix; .code{mode}", *statements, "")))
        command = [
            "as",
            "--64",
            "-Z",
            "-al",
            "--listing-lhs-width=8",
            "-o",
            f"{folder}/a.o",
            str(source),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    said: dict[int, str] = {}
    for line, message in re.findall(
        r"^[^\n]*?:(\d+): ((?:Error|Warning): .*)$", done.stderr, re.MULTILINE
    ):
        said[int(line)] = f"{said.get(int(line), '')}{message} "
    listed = re.findall(r"^ *(\d+) [0-9a-f?]{4} ([0-9A-F ]+)\t", done.stdout, re.MULTILINE)
    code = {int(line): bytes.fromhex(digits) for line, digits in listed}
    return [
        (None if "Error" in said.get(n, "") else code.get(n, b""), said.get(n, ""))
        for n in range(2, len(statements) + 2)
    ]


def main() -> None:
    """Record a sample: bytes, or "-" for what GNU as refuses or warns of."""
    forms = all_forms()
    answers = [(f, None if said else code) for f, (code, said) in zip(forms, gnu(forms), strict=True)]
    random = Random(1)
    taken = random.sample([a for a in answers if a[1]], SAMPLE)
    refused = random.sample([a for a in answers if a[1] is None], SAMPLE // 10)
    lines = [f"{code.hex() if code else '-':32} {form}" for form, code in (*taken, *refused)]
    RECORDED.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
