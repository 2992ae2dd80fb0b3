"""The assembler's output, and its refusals."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cores.errors import InputError
from cores.programs import shipped
from cores.programs.assembler import dialect, keystone
from cores.programs.assembler.keystone import assemble, installed

pytestmark = pytest.mark.skipif(not installed(), reason="Keystone has no package for this machine")

BASE = 0x100000


def code(source: str) -> str:
    return assemble(source, "x.s", BASE).code.hex()


def refusal(source: str) -> str:
    with pytest.raises(InputError) as caught:
        assemble(source, "x.s", BASE)
    return str(caught.value)


@pytest.mark.skipif(keystone.OUT_OF_TIME is None, reason="this host limits no CPU time")
def test_keystone_is_ended_by_its_cpu_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source at which Keystone never returns is refused after a time of computing, not of waiting."""
    monkeypatch.setattr(keystone, "CPU_LIMIT", 1)
    with pytest.raises(InputError, match=r"x\.s: Keystone, .* found no end in 1 s of CPU time"):
        keystone.run_once("x.s", BASE, ['.ascii "'])


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("cli; hlt", "faf4"),
        ("in al, 0x60;test al,1;jz done;done: hlt", "e460a8017400f4"),
        ("nop ; a comment", "90"),
        ("nop ; doesn't end a quotation", "90"),
        ("cli ; in the beginning there were no interrupts", "fa"),
        ("; nop\nhlt", "f4"),
        ("nop # it's \"\n// x\nhlt /* a\nb */", "90f4"),
        ('.ascii "a;b#c//d" ; hlt', "613b6223632f2f64f4"),
        ("mov al, ';'; mov ah, '#'", "b03bb423"),
    ],
)
def test_comments_and_separators(source: str, expected: str) -> None:
    """A `;` separates statements, and begins a comment where none follows."""
    assert code(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("1: nop\njmp 1b\njmp 1f\n1: hlt", "90ebfdeb00f4"),
        ("jmp $", "ebfe"),
        ("jmp .+2", "eb00"),
        ("jmp $+2\nhlt", "eb00f4"),
        ("a: jmp a+2", "eb00"),
        ('a: .ascii "abc"\nL = .-a\nmov ecx, L', "616263b903000000"),
        ("a: nop\n.fill 16-(.-a), 1, 0\nhlt", "90" + "00" * 15 + "f4"),
        ("mov rax, offset a\na: nop", "48c7c00700100090"),
        ("jmp short a\na: nop", "eb0090"),
        ("mov rax, a[rip]\na:", "488b0500000000"),
        ("mov rax, [rel a]\na:", "488b0500000000"),
        ("cmp byte [rsi], 'A'", "803e41"),
        ("sysretq\nsysretl", "480f070f07"),
        ("endbr64", "f30f1efa"),
        ("rdpid r9", "f3410fc7f9"),
        ("rep movsd", "f3a5"),
        ("movsd xmm0, xmm1", "f20f10c1"),
        ("jmp fword ptr [rax]", "ff28"),
        ("call tbyte ptr [rax]", "48ff18"),
        (".org 4\nhlt", "00000000f4"),
        (".text\n.section .rodata\n.global a\n.intel_syntax noprefix\nnop", "90"),
        (".rept 3\nnop\n.endr", "909090"),
        (".macro put x\nmov al, \\x\n.endm\nput 3\nput 4 ; twice", "b003b004"),
        (".byte 20, 0x20\nmov al, 20\n.space 10", "1420b014" + "00" * 10),
    ],
)
def test_what_keystone_lacks(source: str, expected: str) -> None:
    """Labels, operands, mnemonics and directives that Keystone refuses or misreads are assembled."""
    assert code(source) == expected


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nop\nmov rax, cr9", "x.s:2: invalid operand: mov rax, cr9"),
        ("nop\nmov eax, rbx\nhlt", "x.s:2: invalid operand: mov eax, rbx"),
        ("mov [rax], 5",
         "x.s:1: invalid operand (without a size, as in dword ptr [rax]): mov [rax], 5"),
        ("mov [rax], [rbx]", "x.s:1: invalid operand (only one can lie in memory): mov [rax], [rbx]"),
        ("a: lgdt a", "x.s:1: invalid operand (memory stands in brackets): a: lgdt a"),
        ("int 0x80h", "x.s:1: a hexadecimal number is written 0x80, not 0x80h: int 0x80h"),
        ("nop\n\nbogus rax", "x.s:3: unknown instruction: bogus rax"),
        ("nop\njmp nowhere", "x.s:2: unknown symbol: nowhere: jmp nowhere"),
        ("nop\nloop far\n.space 300\nfar: nop", "x.s:2: target or value out of reach: loop far"),
        ("a: nop\na: nop", "x.s:2: this name is defined twice: a: nop"),
        ("nop\nnop\n.org 1", "x.s:3: the place lies behind what is already assembled: .org 1"),
        ("jmp 2b", "x.s:1: there is no label 2b: jmp 2b"),
        (".word 0x1ffff", "x.s:1: value out of range of 16 bits: .word 0x1ffff"),
        (".quad 1+", "x.s:1: the statement ends too early: .quad 1+"),
        ("call [", "x.s:1: unbalanced brackets: call ["),
        ("%rax", "x.s:1: not a statement: %rax"),
        ("mov ah, r8b", "x.s:1: Keystone, the assembler, broke down over this: mov ah, r8b"),
        ('nop\n.ascii "abc', 'x.s:2: quotation without an end: "abc'),
        ("/* x", "x.s:1: comment without an end"),
        (".rept 3\nnop", "x.s:1: block without an end: .rept 3"),
        (".incbin \"/etc/passwd\"", 'x.s:1: unknown directive: .incbin "/etc/passwd"'),
        (".align 3", "x.s:1: an alignment is a number, a power of two: .align 3"),
        (".space 0x100000000", "x.s:1: size out of range: .space 0x100000000"),
        ("push 0x1234567890", "x.s:1: a pushed number has 32 bits, with its sign: push 0x1234567890"),
        ("nop\x00", "x.s:1: unexpected character: '\\x00'"),
        (".att_syntax", "x.s:1: only Intel syntax is understood: .att_syntax"),
        ("nop\nx: .space 1000\nloop x", "x.s:3: target or value out of reach: loop x"),
        (".rept 2000\nnop\n.rept 2000\n.endr\n.endr",
         "x.s:3: the blocks come to more than 131072 statements: .rept 2000"),
        (".rept 1000000\nnop\n.endr", "x.s:1: number out of range: .rept 1000000"),
        (f"nop\n.byte {'1,' * 50_000}1",
         f"x.s:2: more than 65536 characters in a line: .byte {'1,' * 47} ..."),
        *((f"mov rax, {number}", f"x.s:1: number out of range: mov rax, {number[:91]} ...")
          for number in ("9" * 5000, "0b" + "1" * 5000)),
    ],
)  # fmt: skip
def test_mistakes_have_a_line(source: str, message: str) -> None:
    """A mistake is one sentence that names file, line and statement."""
    assert refusal(source) == message


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("movq %rax, %rbx", "AT&T syntax; only Intel syntax is understood"),
        ("mov $1, %eax", "AT&T syntax; only Intel syntax is understood"),
        ("mov rax, rbx:", "unexpected character ':'"),
        ("mov rax, @1", "unexpected character '@'"),
        (".align 4, @", "unexpected character '@'"),
        (".ascii abc", "a text stands in quotation marks"),
        (".set x", "a name, a comma and its value are needed"),
        (".org", "place out of range"),
        (".org 0x40000000", "place out of range"),
        (".else", "an alternative without its .if"),
        (".ifdef", "the statement ends too early"),
        (".space -5", "size out of range"),
        (".fill 0x1000000, 0x1000", "size out of range"),
        (".space nowhere", "unknown symbol: nowhere"),
        (".rept nowhere", "unknown symbol: nowhere"),
        (".rept b - a", "this must be a number, and not depend on where labels lie"),
        (".if nowhere", "unknown symbol: nowhere"),
        (".if b - a", "this must be a number, and not depend on where labels lie"),
        (".byte", "the statement ends too early"),
        (".byte 1,, 2", "the statement ends too early"),
        ("mov eax,, 5", "an operand is missing"),
        ("mov eax, 5,", "an operand is missing"),
        (".quad nowhere", "unknown symbol: nowhere"),
        ('.ascii "\\q"', "unknown escape: \\q"),
        (".bytes 1", "unknown directive (is .byte meant?)"),
        ("sysret", "write sysretq (to 64-bit code) or sysretl (to 32-bit code)"),
    ],
)
def test_nothing_is_dropped_in_silence(statement: str, reason: str) -> None:
    """A statement that Keystone would leave out silently is refused with its line."""
    assert refusal(f"a: nop\nb: nop\n{statement}\nnop\n") == f"x.s:3: {reason}: {statement}"


def test_sizes_may_have_names() -> None:
    """A size may be any sum of known value, also one defined later, and a distance of two labels."""
    for size in ("A * 2 + 1", "b - a", "B"):
        source = f"a: nop\nnop\nnop\nb:\n.space {size}\nhlt\nA = 1\nB = b - a"
        assert assemble(source, "x.s", BASE).code.hex() == "909090000000f4"
    counted = "i = 1\n.rept 2\n.space i\nnop\ni = i + 1\n.endr"
    assert assemble(counted, "x.s", BASE).code.hex() == "0090000090"
    assert assemble(".type a, @function\n.type b, %function\nhlt", "x.s", BASE).code == b"\xf4"
    assert assemble(f"mov rax, {'(' * 2000}1{')' * 2000}", "x.s", BASE).code


def test_the_page_for_users() -> None:
    """The example of docs/assembly.md assembles, and the page has every directive except a linker's."""
    page = (Path(__file__).parents[4] / "docs" / "assembly.md").read_text()
    image = assemble(page.split("```")[1], "x.s", BASE)
    assert image.code.endswith(b"hello\n\0")
    named = set(re.findall(r"\.[a-z0-9]+", page))
    synonyms = {
        ".value",
        ".2byte",
        ".hword",
        ".4byte",
        ".8byte",
        ".single",
        ".set",
        ".equiv",
        ".purgem",
    }
    assert dialect.DIRECTIVES - dialect.IGNORED - named == synonyms


def test_symbols_lines_and_entry() -> None:
    """Addresses map back to names and source lines; `_start` is preferred to `start`."""
    image = assemble("nop\nstart: nop\n_start:\n  mov eax, 1 ; x\ndata: .byte 1,2\n", "x.s", BASE)
    assert image.symbols == {"start": BASE + 1, "_start": BASE + 2, "data": BASE + 7}
    assert image.entry == BASE + 2
    assert image.lines == {BASE: 1, BASE + 1: 2, BASE + 2: 4, BASE + 7: 5}
    assert assemble("nop\nstart: hlt", "x.s", BASE).entry == BASE + 1
    assert assemble("nop\nmain: hlt", "x.s", BASE).entry == BASE


def test_the_wrong_line_among_thousands() -> None:
    """The wrong line is found in a program of thousands of lines, wherever it is."""
    body = [f"l{i}: mov rax, [rbx+{i}]\n jnz l{i // 2}" for i in range(1000)]
    for at in (0, 500, 999):
        lines = "\n".join([*body[:at], "mov eax, rbx", *body[at:]])
        assert refusal(lines) == f"x.s:{2 * at + 1}: invalid operand: mov eax, rbx"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(alphabet="abmov rx19,[]+-.:;#'\"\\()\n\t%$@=*/", max_size=60))
def test_no_text_does_harm(source: str) -> None:
    """Any text gives an image or an InputError of one line."""
    try:
        assemble(source, "x.s", BASE)
    except InputError as error:
        refused = str(error)
    else:
        refused = ""
    assert "\n" not in refused


@pytest.mark.parametrize("guest", shipped.guests(), ids=lambda path: path.stem)
def test_shipped_images_equal_their_sources(guest: Path) -> None:
    """Every shipped guest's image is what its source assembles to (else: python -m assets.build)."""
    source = guest.read_bytes()
    image = assemble(source.decode(), guest.name, BASE)
    assert shipped.image_of(source) == image


@pytest.mark.skipif(shutil.which("as") is None, reason="GNU as is not installed")
@pytest.mark.parametrize("guest", shipped.guests(), ids=lambda path: path.stem)
def test_the_line_map_is_the_gnu_assemblers(guest: Path, tmp_path: Path) -> None:
    """The lines of a shipped guest that lay down bytes are those that the GNU assembler has.

    The addresses may differ: both choose among encodings of the same instruction."""
    (tmp_path / "guest.s").write_text(".intel_syntax noprefix\n.text\n" + guest.read_text())
    command = ["as", "--64", "-al", "-o", str(tmp_path / "guest.o"), str(tmp_path / "guest.s")]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    theirs = {int(n) - 2 for n in re.findall(r"^ *(\d+) [0-9a-f]{4} [0-9A-F]", listing, re.MULTILINE)}
    ours = set(assemble(guest.read_text(), guest.name, BASE).lines.values())
    assert theirs <= ours
