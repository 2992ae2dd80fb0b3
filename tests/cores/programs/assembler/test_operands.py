"""Sums in operands, assembled, decoded again, and compared with Python's arithmetic."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from random import Random

import pytest

from cores.errors import InputError
from cores.programs.assembler.image import Image
from cores.programs.assembler.keystone import assemble, installed
from cores.x86.isa.decoder import decode
from cores.x86.isa.instruction import Immediate, Instruction, MemoryOperand

pytestmark = pytest.mark.skipif(not installed(), reason="Keystone has no package for this machine")

BASE = 0x100000
CONSTANTS = {"A": 0x10, "B": 0x123, "N": -0x30, "ABSOLUTE": 0x5000}
HEAD = "".join(f".equ {name}, {value}\n" for name, value in CONSTANTS.items()) + "before: nop\n"
TAIL = "\nafter: nop\nLENGTH = after - before\n"


def assembled(form: str, expressions: list[str]) -> Iterator[tuple[str, Instruction, int, Image]]:
    """The instructions of one source with their addresses, decoded in order."""
    image = assemble(HEAD + "\n".join(map(form.format, expressions)) + TAIL, "x.s", BASE)
    at = 1
    for expression in expressions:
        insn = decode(image.code[at : at + 15])
        yield expression, insn, BASE + at, image
        at += insn.length
    assert BASE + at == image.symbols["after"]


def meant(expression: str, image: Image) -> int:
    """The value by Python's arithmetic, which is independent of assemblers."""
    names = {**CONSTANTS, **image.symbols}
    names["LENGTH"] = names["after"] - names["before"]
    return int(eval(expression.replace("/", "//"), {}, names))


def address(insn: Instruction, at: int) -> int:
    """The displacement, plus RIP's part."""
    (operand,) = (o for o in insn.operands if isinstance(o, MemoryOperand))
    return operand.displacement + (at + insn.length if operand.relative else 0)


SUMS = [
    "A", "A + B", "B + A + 4", "4 + A", "A - B", "-A", "N", "N - A", "A*4 + 2", "2 + 4*A", "(A + B)",
    "-(A + B)", "(A + B) * 2 - 1", "A << 2", "1 << 4", "~A", "8 - A", "A - 8 + B", "(A | 3) + 1",
    "LENGTH", "LENGTH + 1", "1 + LENGTH", "after - before", "(after - before)", "after - before + A",
    "A + after - before", "B % 16", "B / 3",
]  # fmt: skip
PLACES = [
    "after", "after + 8", "8 + after", "after - 8", "after + A", "A + after", "after + A + B",
    "after - A", "after - A + 4", "before + LENGTH", "LENGTH + before", "after + (A - 4)",
    "before + 2*(after - before)",
]  # fmt: skip


@pytest.mark.parametrize(
    "form", ["mov eax, [r8 + {}]", "mov rbx, [{} + r8*4]", "lea rcx, [rdi + {} + rsi*2]"]
)
def test_displacements(form: str) -> None:
    """Beside registers, every term of a sum is added to the displacement, with its sign."""
    for expression, insn, _, image in assembled(form, SUMS + PLACES):
        assert address(insn, 0) == meant(expression, image), expression


@pytest.mark.parametrize(
    "form", ["mov rax, [rip + {}]", "lea rbx, [{} + rip]", "add dword ptr [rip + {}], 0x1234"]
)
def test_addresses_relative_to_rip(form: str) -> None:
    """Relative to RIP, the label keeps its address, whatever is added to it."""
    for expression, insn, at, image in assembled(form, PLACES):
        assert address(insn, at) == meant(expression, image), expression


@pytest.mark.parametrize(
    "form",
    ["mov rbx, [{}]", "mov rax, [{}]", "mov r12d, [{}]", "mov [{}], rbx", "mov r9, gs:[{}]",
     "add rbx, [{}]", "cmp word ptr [{}], 0x1234", "inc qword ptr [{}]", "movaps xmm1, [{}]",
     "mov qword ptr fs:[{}], 5"],
)  # fmt: skip
def test_absolute_addresses(form: str) -> None:
    """Without registers the operand is the address itself, in every encoding."""
    absolute = ["0x5000", "ABSOLUTE", "ABSOLUTE + A", "8 + ABSOLUTE"]
    for expression, insn, at, image in assembled(form, absolute + PLACES):
        assert address(insn, at) == meant(expression, image), expression


@pytest.mark.parametrize(
    "form", ["mov eax, {}", "mov rcx, {}", "add rbx, {}", "cmp dword ptr [rax], {}", "push {}"]
)
def test_immediates(form: str) -> None:
    """A number made of names is an immediate, never memory."""
    for expression, insn, _, image in assembled(form, ["0x14000 + A + B", *SUMS, *PLACES]):
        value = next(o.value for o in insn.operands if isinstance(o, Immediate))
        assert (value - meant(expression, image)) % (1 << 32) == 0, expression


@pytest.mark.parametrize("branch", ["jmp", "jnz", "call"])
def test_branches(branch: str) -> None:
    """A target may be any sum."""
    for expression, insn, at, image in assembled(branch + " {}", PLACES):
        target = insn.operands[-1]
        assert isinstance(target, Immediate)
        assert (at + insn.length + target.value) % (1 << 64) == meant(expression, image), expression


def test_random_sums() -> None:
    """Random sums of up to five terms decode to Python's result."""
    random = Random(1)
    names = [*CONSTANTS, "7", "0x21"]
    expressions = []
    for _ in range(1000):
        terms = [random.choice(names) for _ in range(random.randint(1, 5))]
        terms.insert(random.randrange(len(terms) + 1), random.choice(["after", "before", "7"]))
        expressions.append(terms[0] + "".join(random.choice(["+", " + "]) + t for t in terms[1:]))
    for expression, insn, _, image in assembled("mov edx, [rcx + {}]", expressions):
        assert address(insn, 0) == meant(expression, image), expression


@pytest.mark.parametrize("word", ["byte", "word", "dword", "qword"])
@pytest.mark.parametrize("statement", ["loop {}", "jmp {}", "call {}", "mov eax, {}"])
def test_labels_named_like_sizes(word: str, statement: str) -> None:
    """A label may have the name of an operand's size."""
    usual = assemble("label: " + statement.format("label"), "x.s", BASE)
    assert assemble(f"{word}: " + statement.format(word), "x.s", BASE).code == usual.code


@pytest.mark.parametrize(
    ("source", "displacements"),
    [
        ("A = 5\nlea eax, [rbx + A + A]\nA = 6\nlea eax, [rbx + A + A]", [10, 12]),
        (".if 1\nA = 5\n.else\nA = 6\n.endif\nlea eax, [rbx + A + A]", [10]),
        (".equ X, (1|2)&4\nlea eax, [rbx + X + X]", [0]),
        ("lea eax, [rbx + A + B]\nA = 1\nB = A + A", [3]),
        (".equ S, 8\nmov eax, [rbx + rcx*S]\nmov eax, [rbx + S*rcx - S]", [0, -8]),
        (".macro m r\nmov eax, [\\r + A + A]\n.endm\nA = 2\nm rbx", [4]),
        (".macro m x\nlea eax, [rbx - \\x]\n.endm\nA = 2\nm 1+A\nm (1+A)", [1, -3]),
        ("a: nop\nb: .rept 2\nmov eax, [rbx + b - a]\n.endr", [1, 1]),
    ],
)
def test_definitions(source: str, displacements: list[int]) -> None:
    """A name has its value before and after its definition, after a new one, in blocks and in
    macros."""
    code = assemble(source, "x.s", BASE).code.removeprefix(b"\x90")
    for displacement in displacements:
        insn = decode(code[:15])
        assert address(insn, 0) == displacement
        code = code[insn.length :]
    assert not code


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("lea rax, [rip + after - before]", "an address relative to RIP takes one label"),
        ("lea rax, [rip + after + before]", "an address relative to RIP takes one label"),
        ("mov eax, [rbx - rcx]", "a register cannot be subtracted"),
        ("mov eax, A + A[rbx]", "a sum belongs inside the brackets"),
        ("mov eax, rbx + A", "a register is no part of an expression"),
        ("mov ebx, [rcx + 0x123456789]", "an address or displacement here has 32 bits, with its sign"),
        ("mov ebx, [0xfee00000]", "an address or displacement here has 32 bits, with its sign"),
        ("push 0x80000000", "a pushed number has 32 bits, with its sign"),
        ("rax: nop", "a register's name cannot be given to anything else"),
        ("CS = 0x10", "a register's name cannot be given to anything else"),
        (".equ di, 5", "a register's name cannot be given to anything else"),
    ],
)  # fmt: skip
def test_refusals(statement: str, reason: str) -> None:
    """An operand that cannot be encoded as written is refused, with line and reason."""
    with pytest.raises(InputError) as caught:
        assemble(HEAD + statement + TAIL, "x.s", BASE)
    assert str(caught.value) == f"x.s:{len(CONSTANTS) + 2}: {reason}: {statement}"


def test_lines_stay() -> None:
    """Prefixes before an instruction change neither its line nor its label."""
    statements = itertools.chain.from_iterable(
        (f"l{i}: mov eax, {i} + l0 - l1 + A", "lea rax, [rip + l0 + A]") for i in range(2, 5)
    )
    source = "A = 4\nl0: nop\nl1: nop\n" + "\n".join(statements)
    image = assemble(source, "x.s", BASE)
    assert list(image.lines.values()) == list(range(2, 10))
    assert [image.symbols[f"l{i}"] for i in range(2, 5)] == [BASE + 2, BASE + 14, BASE + 26]
