"""Programs from files are recognized by content and ending, or refused in one sentence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cores.errors import InputError
from cores.programs import shipped
from cores.programs.assembler import choice
from cores.programs.assembler import keystone as assembler
from cores.programs.loader import load_program
from cores.programs.program import LOAD_ADDRESS

needs_keystone = pytest.mark.skipif(
    not assembler.installed(), reason="Keystone has no package for this machine"
)


def refusal(path: str, **more: int) -> str:
    with pytest.raises(InputError) as caught:
        load_program(path, **more)
    return str(caught.value).removeprefix(f"{path}:").strip()


@needs_keystone
def test_assembly(tmp_path: Path) -> None:
    """Assembly comes with entry, symbols, lines and its source text."""
    path = tmp_path / "a.S"
    path.write_bytes(b"\xef\xbb\xbfnop\r\n_start: hlt\r\n")
    program = load_program(str(path))
    assert (program.format, program.entry, program.size) == ("asm", LOAD_ADDRESS + 1, 2)
    assert program.source[:2] == ("nop", "_start: hlt")
    assert program.lines == {LOAD_ADDRESS: 1, LOAD_ADDRESS + 1: 2}
    assert (program.start, program.end) == (LOAD_ADDRESS, LOAD_ADDRESS + 2)


@needs_keystone
def test_standard_input() -> None:
    """ "-" is assembly from standard input."""
    assert load_program("-", stdin=b"hlt").segments[0].data == b"\xf4"


def test_flat_and_m68k(tmp_path: Path) -> None:
    """A flat image is loaded and entered at 0x100000, a 68000 program at 0x1000."""
    for name, kind, entry in (("a.bin", "flat", 0x100000), ("a.m68k", "m68k", 0x1000)):
        (tmp_path / name).write_bytes(b"\xf4\x00")
        program = load_program(str(tmp_path / name))
        assert (program.format, program.entry, program.start) == (kind, entry, entry)
        assert program.segments[0].data == b"\xf4\x00"


def test_elf_whatever_its_name(tmp_path: Path) -> None:
    """An ELF file is recognized by its content, not its ending."""
    (tmp_path / "a.s").write_bytes(b"\x7fELF")
    assert refusal(str(tmp_path / "a.s")) == "truncated: shorter than an ELF header"


def test_refusals(tmp_path: Path) -> None:
    """A missing file, a directory, an empty file and one that is too large each give their own
    sentence."""
    path = tmp_path / "a.bin"
    assert refusal(str(path)) == "no such file"
    assert refusal(str(tmp_path)) == "this is a directory, not a program"
    path.write_bytes(b"")
    assert refusal(str(path)) == "empty"
    path.write_bytes(bytes(0x200000))
    assert refusal(str(path), ram=0x200000).startswith("too big: 0x200000 bytes do not fit into RAM")
    assert refusal("/dev/zero") == "this is a device, not a program"
    assert refusal("a\0b") == "no such file: there is a NUL in its name"
    (tmp_path / "b.s").write_bytes(b"nop\n\xff\xfe")
    assert refusal(str(tmp_path / "b.s")) == "2: not text: assembly source is UTF-8"
    (tmp_path / "c.s").write_bytes(b"# nothing\n")
    if assembler.installed():
        assert refusal(str(tmp_path / "c.s")) == "empty: no instruction in it"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    """An unreadable file gives its own sentence."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"\xf4")
    path.chmod(0)
    assert refusal(str(path)) == "no permission to read it"


def test_shipped_guests_without_an_assembler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without an assembler a shipped guest runs from its image, and other sources are refused."""
    monkeypatch.setattr(choice, "find", lambda _: None)
    guest = next(path for path in shipped.guests() if path.stem == "hello")
    program = load_program(str(guest))
    assert program.segments[0].data == (shipped.ASSETS / "images" / "hello.bin").read_bytes()
    assert program.symbols["message"] in range(program.start, program.end)
    assert program.source[program.lines[program.entry] - 1].strip().startswith("lea")
    (tmp_path / "own.s").write_text("hlt")
    assert "there is no assembler here" in refusal(str(tmp_path / "own.s"))
