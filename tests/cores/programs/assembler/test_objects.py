"""The other assemblers, GNU as and LLVM, behind the same front end."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from assets.build import lesson_guests
from cores.api import Program, compare
from cores.errors import InputError
from cores.programs import shipped
from cores.programs.assembler import choice, keystone, objects
from cores.programs.assembler.image import Image

BASE = 0x100000
Assemble = Callable[[str], Image]
GUESTS = [*shipped.guests(), *lesson_guests()]
NEEDED = {"tinyos": "ls\rcat readme\rrun\rexit\r"}
"""What a guest has to be typed so that it ends."""


@pytest.fixture(params=[choice.GNU, choice.LLVM])
def name(request: pytest.FixtureRequest) -> str:
    if choice.find(request.param) is None:
        pytest.skip(f"no {request.param} assembler is installed")
    return str(request.param)


@pytest.fixture
def assemble(name: str) -> Assemble:
    found = choice.find(name)
    assert found is not None
    return lambda source: objects.assemble(source, "x.s", BASE, found.command)


@pytest.mark.parametrize("guest", GUESTS, ids=lambda path: path.stem)
def test_a_guest_has_the_same_listing(assemble: Assemble, guest: Path) -> None:
    """Each shipped guest assembles to the same lines and names in the same order as with Keystone."""
    source = guest.read_bytes()
    image, expected = assemble(source.decode()), shipped.image_of(source)
    assert expected is not None
    assert list(image.lines.values()) == list(expected.lines.values())
    assert sorted(image.symbols, key=image.symbols.get) == sorted(  # type: ignore[arg-type]
        expected.symbols,
        key=expected.symbols.get,  # type: ignore[arg-type]
    )
    assert image.entry - BASE == expected.entry - BASE


@pytest.mark.parametrize(
    "guest",
    [
        "fibonacci", "tasks",
        *(pytest.param(each, marks=pytest.mark.full) for each in ("holes", "rights", "swap", "tinyos")),
    ],
)  # fmt: skip
def test_a_guest_behaves_the_same(name: str, guest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest of which one of them chooses other encodings does the same with them."""
    path = next(path for path in GUESTS if path.stem == guest)
    disks = [d.disk for d in shipped.descriptions() if d.name == guest and d.disk]
    monkeypatch.setenv(choice.VARIABLE, name)
    other = Program(path)
    monkeypatch.setenv(choice.VARIABLE, choice.KEYSTONE)
    if not keystone.installed():
        monkeypatch.delenv(choice.VARIABLE)  # the shipped image
    runs = [
        compare(program, cores=["interpreter"], disks=disks, input=NEEDED.get(guest, ""))["interpreter"]
        for program in (Program(path), other)
    ]
    first, second = (
        (run.stop, run.exit_status, run.console, run.screen, run.instructions, run.device_accesses)
        for run in runs
    )
    assert first == second
    assert first[0] != "budget"


@pytest.mark.parametrize(
    ("source", "code"),
    [
        (".byte a >> 16, (b - a) * 2\na: nop\nb:", "100290"),
        ("jmp 0x100010\n.org 16\nnop", "eb0e" + "00" * 14 + "90"),
        ("nop\n.balign 0x1000000\nb: mov eax, offset b", None),
        ("mov ax, cs; mov ds, cx", "668cc8668ed9"),
        ("lea rax, [rip + a + 4]\na: mov dword ptr [rip + a], offset a",
            "488d0504000000c705f6ffffff07001000"),
        ("mov rbx, [a + 2*(b - a) + rcx*4]\na: nop\nb:", "488b1c8d0a001000" + "90"),
        ("sysretq; lar rax, bx; jmp fword ptr [rax]", "480f07480f02c3ff28"),
        ("bits 16\nmov ax, offset a - 0x100000\na: push es; jmp dword 8:a", "b803000666ea030010000800"),
        (".quad a + 1\na = 5", "0600000000000000"),
    ],
)  # fmt: skip
def test_what_they_know_otherwise(assemble: Assemble, source: str, code: str | None) -> None:
    """Numbers made of addresses, alignment beyond the image's base, and forms with another name."""
    image = assemble(source)
    if code is None:
        assert image.symbols["b"] == 0x1000000
        assert image.code[-5:].hex() == "b800000001"
    else:
        assert image.code.hex() == code


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("nop\nmov eax, [rax + rax*3]", "x.s:2: a scale is 1, 2, 4 or 8: mov eax, [rax + rax*3]"),
        ("nop\nhitl", "x.s:2: unknown instruction: hitl"),
        ("nop\n\nmov ah, r8b", "x.s:3: invalid operand: mov ah, r8b"),
        ("mov [rax], 5", "x.s:1: invalid operand (without a size, as in dword ptr [rax]): "
            "mov [rax], 5"),
        ("loop far\n.space 300\nfar: hlt", "x.s:1: target or value out of reach: loop far"),
        ("into", "x.s:1: not an instruction in 64-bit mode: into"),
        ("nop\nnop\n.org 1", "x.s:3: the place lies behind what is already assembled: .org 1"),
        (".code32\npush rax", "x.s:2: invalid operand: push rax"),
        ("call 0x7fffffffffff", "x.s:1: target or value out of reach: call 0x7fffffffffff"),
        ("jmp nowhere", "x.s:1: unknown symbol: nowhere: jmp nowhere"),
        (".macro m\nmov ah, r8b\n.endm\nm",
            "x.s:2: invalid operand: mov ah, r8b (in macro m, used in line 4)"),
    ],
)  # fmt: skip
def test_a_mistake_has_its_line(assemble: Assemble, source: str, reason: str) -> None:
    """A refused statement is named with its line, in the words that Keystone's refusals have."""
    with pytest.raises(InputError) as caught:
        assemble(source)
    assert str(caught.value) == reason


def test_an_assembler_that_answers_nothing(tmp_path: Path) -> None:
    """A program that writes no object, or anything else, gives one line."""
    for script in (
        "pass",
        "import sys; open(sys.argv[2], 'wb').write(b'no object')",
        "raise SystemExit(1)",
    ):
        (tmp_path / "as.py").write_text(script)
        with pytest.raises(InputError) as caught:
            objects.assemble("nop", "x.s", BASE, (sys.executable, str(tmp_path / "as.py")))
        assert "\n" not in str(caught.value)


def test_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keystone comes first; the environment names another; what is not here is said."""
    found = {each: choice.Assembler(each, (each,), each) for each in choice.NAMES}
    monkeypatch.setattr(choice, "find", found.get)
    monkeypatch.delenv(choice.VARIABLE, raising=False)
    assert choice.chosen() == found["keystone"]
    del found["keystone"]
    assert choice.chosen() == found["gnu"]
    monkeypatch.setenv(choice.VARIABLE, "LLVM")
    named = choice.chosen()
    assert named is not None
    assert (named.name, named.named) == ("llvm", True)
    monkeypatch.setenv(choice.VARIABLE, "keystone")
    with pytest.raises(InputError, match="asks for keystone, which is not installed here"):
        choice.chosen()
    monkeypatch.setenv(choice.VARIABLE, "nasm")
    with pytest.raises(InputError, match="is keystone, gnu or llvm, not 'nasm'"):
        choice.chosen()
    found.clear()
    monkeypatch.delenv(choice.VARIABLE)
    assert choice.chosen() is None
    with pytest.raises(InputError, match="there is no assembler here: install GNU as"):
        choice.assemble("nop", "x.s", BASE)
