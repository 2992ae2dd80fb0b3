"""Macros, repetitions and conditions are unrolled as the GNU assembler does, and each mistake has its
line."""

from __future__ import annotations

import pytest

from cores.errors import InputError
from cores.programs.assembler.keystone import assemble, installed

pytestmark = pytest.mark.skipif(not installed(), reason="Keystone has no package for this machine")

BASE = 0x100000
SIMPLE = ".macro put x\nmov al, \\x\n.endm\n"


def refusal(source: str) -> str:
    with pytest.raises(InputError) as caught:
        assemble(source, "x.s", BASE)
    return str(caught.value)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (".macro m x\n\\x: nop\njmp \\x\n.endm\nm aa\nm bb\njmp aa", "90ebfd90ebfdebf8"),
        (".macro m\nskip\\@: jmp skip\\@\n.endm\nm\nm", "ebfeebfe"),
        (".macro m\n1: dec ecx\njnz 1b\n.endm\nm\nm", "ffc975fcffc975fc"),
        (".rept 2\n1: jmp 1b\n.endr", "ebfeebfe"),
        (".macro d a, b=5, c:vararg\n.byte \\a, \\b\n.byte \\c\n.endm\nd 1,,7,8\nd b=3, a=4, c=1",
         "01050708040301"),
        (".macro n x\n.byte \\x\n.if \\x\nn \"(\\x-1)\"\n.endif\n.endm\nn 3", "03020100"),
        (".macro ld r, v\nmov \\r, \\v\n.endm\n"
         "ld rax, [rbx + 8]\nld eax, 5 + 3\nld eax, \"dword ptr [rbx]\"",
         "488b4308b8080000008b03"),
        (".irp r, rax, rbx\npush \\r\n.endr", "5053"),
        (".irp r rax rbx\npush \\r\n.endr", "5053"),
        (".irpc c, abc\n.ascii \"\\c\"\n.endr", "616263"),
        ("i = 0\n.rept 3\n.byte i\ni = i + 1\n.endr", "000102"),
        ("N = 2\n.rept N * 2\nnop\n.endr", "90909090"),
        (".rept 0\nbogus\n.endr\nnop", "90"),
        (".rept 2\n.rept 2\nnop\n.endr\nhlt\n.endr", "9090f49090f4"),
        (".if 2 > 1 && 1\nnop\n.else\nhlt\n.endif", "90"),
        (".if 0\nbogus [\n.elseif 1\nnop\n.else\nhlt\n.endif", "90"),
        (".ifeq 0\nnop\n.endif\n.iflt 1\nhlt\n.endif\n.ifne 1\nnop\n.endif", "9090"),
        ("a: .ifdef a\nnop\n.endif\n.ifndef b\nhlt\n.endif\n.ifdef c\nhlt\n.endif\nc:", "90f4"),
        (".macro m x\n.ifb \\x\nnop\n.else\nhlt\n.endif\n.endm\nm\nm 1", "90f4"),
        (".macro m x\n.ascii \"<\\x>\"\n.asciz \\x\n.endm\nm \"hi\"", "3c68693e686900"),
        (".macro m x\nmov\\x eax, 1\n.endm\nm \"\"", "b801000000"),
        (".macro m x\n.byte \\x\\()1\n.endm\nm 2", "15"),
        (".macro m\nnop\n.endm\nm\n.purgem m\n.macro m\nhlt\n.endm\nm", "90f4"),
    ],
)  # fmt: skip
def test_unrolled(source: str, expected: str) -> None:
    """The bytes are those of GNU as; only `.asciz \\x` differs, which keeps quotation marks here."""
    assert assemble(source, "x.s", BASE).code.hex() == expected


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (".rept 2\nbogus\n.endr", "x.s:2: unknown instruction: bogus"),
        (".rept 2\nmov al, 300\n.endr", "x.s:2: 0x12c does not fit into 8 bits: mov al, 300"),
        (f"{SIMPLE}put 300",
         "x.s:2: 0x12c does not fit into 8 bits: mov al, 300 (in macro put, used in line 4)"),
        (f"{SIMPLE}put nowhere",
         "x.s:2: unknown symbol: nowhere: mov al, nowhere (in macro put, used in line 4)"),
        (f"{SIMPLE}put 1, 2", "x.s:4: macro put takes 1 argument: put 1, 2"),
        (".macro m x:req\nnop\n.endm\nm", "x.s:4: macro m needs its argument x: m"),
        (".macro m\n\\x: nop\n.endm\nm",
         "x.s:2: this is the argument of no macro: \\x: nop (in macro m, used in line 4)"),
        (".macro m\na: nop\n.endm\nm\nm",
         "x.s:2: this name is defined twice: a: nop (in macro m, used in line 5)"),
        (".macro m\nm\n.endm\nm",
         "x.s:2: a recursion without an end: more than 100 macros within each other: m"
         " (in macro m, used in line 4)"),
        (".macro a\nb\n.endm\n.macro b\na\nnop\n.endm\na",
         "x.s:5: a recursion without an end: more than 100 macros within each other: a"
         " (in macro a, used in line 8)"),
        (".if nowhere\nnop\n.endif", "x.s:1: unknown symbol: nowhere: .if nowhere"),
        (".if a\nnop\n.endif\na = 1", "x.s:1: unknown symbol: a: .if a"),
        (".if 1\nnop", "x.s:1: block without an end: .if 1"),
        (".macro m\n.if 1\nnop\n.endm\nm\n.endif", "x.s:4: an end without its block: .endm"),
        (".if 0\n.else\n.else\n.endif", "x.s:3: an alternative behind .else: .else"),
        (".rept 2\n.else\n.endr", "x.s:2: an alternative without its .if: .else"),
        (".endr", "x.s:1: an end without its block: .endr"),
        (".rept -1\n.endr", "x.s:1: number out of range: .rept -1"),
        (".rept\n.endr", "x.s:1: the statement ends too early: .rept"),
        (".macro\n.endm", "x.s:1: the statement ends too early: .macro"),
    ],
)  # fmt: skip
def test_mistakes_inside(source: str, message: str) -> None:
    """A mistake inside a block is reported with the statement's line and the macro's name."""
    assert refusal(source) == message


def test_lines_of_blocks() -> None:
    """A repeated statement has its own line; a macro's output has the line of its use."""
    image = assemble("nop\n.rept 2\nnop\nhlt\n.endr\n.macro m\nnop\nhlt\n.endm\nm\n", "x.s", BASE)
    assert list(image.lines.values()) == [1, 3, 4, 3, 4, 10, 10]
