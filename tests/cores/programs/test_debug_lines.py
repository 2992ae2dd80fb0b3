"""Line tables of compiled programs, against the compiler's own source; and damaged ones."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from cores.programs import debug_lines, sources
from cores.programs.debug_lines import LineTable
from cores.programs.loader import load_program
from cores.programs.shipped import ASSETS

CGUEST = ASSETS / "guests" / "cguest.elf"
SOURCE = """\
static inline void out(unsigned short port, char byte)
{
    __asm__ volatile("outb %0, %1" ::"a"(byte), "Nd"(port)); /* here */
}
void _start(void)
{
    for (int n = 0; n < 3; n++)
        out(0xe9, 'a' + n);
    out(0xf4, 0);
    for (;;)
        __asm__ volatile("cli; hlt");
}
"""
LINK = ["-O1", "-ffreestanding", "-nostdlib", "-static", "-no-pie", "-fcf-protection=none", "-fno-pic"]


def test_an_instruction_has_the_line_it_was_made_from() -> None:
    """The shipped C guest's OUT is of the line with the inline assembly, and each of its instructions
    of a line with code; its file is found beside it."""
    program = sources.with_sources(load_program(str(CGUEST)))
    assert [name for _, name in program.files] == ["cguest.c"]
    assert program.note == ""
    segment = next(s for s in program.segments if s.gpa == 0x401000)
    at = 0x401000 + segment.data.index(b"\xe6\xe9")  # out 0xe9, al
    assert "outb" in program.source[program.line_of(at) - 1]
    assert program.source_of(at) == "cguest.c:5"
    assert program.source_of(at + 1) == "cguest.c:5"
    assert sources.code_at(program, at)[:2] == b"\xe6\xe9"
    assert program.source_of(0x300000) is None
    assert all(program.source[number - 1].strip() for number in program.lines.values() if number)


@pytest.mark.parametrize("flags", ["-gdwarf-2", "-gdwarf-4", "-gdwarf-5", "-gdwarf-5 -m32", "-g -gz"])
def test_every_version_of_the_standard(flags: str, tmp_path: Path) -> None:
    """Each version, both widths and compressed sections give the same lines."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    (tmp_path / "three.c").write_text(SOURCE)
    subprocess.run(["gcc", *flags.split(), *LINK, "-o", "three", "three.c"], cwd=tmp_path, check=True)
    table = debug_lines.read((tmp_path / "three").read_bytes())
    assert table.note == ""
    assert [Path(name).name for name in table.files] == ["three.c"]
    assert {3, 11} <= {line for _, _, line in table.places}
    assert list(table.places) == sorted(table.places)
    assert table.places[-1][2] == 0  # the end of the code
    if "-m32" not in flags:
        program = sources.with_sources(load_program(str(tmp_path / "three")))
        assert "/* here */" in "\n".join(program.source)


def test_a_source_that_is_not_here(tmp_path: Path) -> None:
    """Without the file there is a note and disassembly; a file that is no source is never opened."""
    shutil.copy(CGUEST, tmp_path)
    program = sources.with_sources(load_program(str(tmp_path / "cguest.elf")))
    assert (program.note, program.lines) == ("its source is not here: cguest.c", {})
    image = CGUEST.read_bytes().replace(b"cguest.c\0", b"cguest.x\0")
    (tmp_path / "cguest.elf").write_bytes(image)
    (tmp_path / "cguest.x").write_text("secret\n" * 40)
    program = sources.with_sources(load_program(str(tmp_path / "cguest.elf")))
    assert program.source == ()


def test_damaged_tables_end_in_a_note() -> None:
    """Random bytes in the sections, and files cut anywhere, give a table and at most one note."""
    chance = random.Random(2)
    image = CGUEST.read_bytes()
    start = image.index(b"_start\0") - 3000
    for _ in range(300):
        damaged = bytearray(image)
        for _ in range(chance.randint(1, 6)):
            damaged[chance.randrange(start, len(image))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
        table = debug_lines.read(bytes(damaged))
        assert isinstance(table, LineTable)
        assert "\n" not in table.note
    for size in range(64, len(image), 97):
        debug_lines.read(image[:size])


def unit(program: bytes, files: bytes = b"\0a.c\0\0\0\0\0") -> bytes:
    """A unit of version 4 with that line number program."""
    fixed = struct.pack("<BBBbBB", 1, 1, 1, -5, 14, 13) + bytes((0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1))
    body = fixed + files
    inner = struct.pack("<HI", 4, len(body)) + body + program
    return struct.pack("<I", len(inner)) + inner


def read(section: bytes) -> LineTable:
    return debug_lines._Table(section, {}, [range(0x1000, 0x9000)]).read()


BEGIN = b"\0\x09\x02" + (0x1000).to_bytes(8, "little")
END = b"\0\x01\x01"


def test_the_state_machine() -> None:
    """Special opcodes, advances, files and the end of a sequence do what DWARF 5, 6.2.5 says; code that
    the linker has dropped is left out."""
    steps = b"\x03\x09\x01" + bytes((13 + 14 * 4 + 5 + 2,)) + b"\x02\x08\x01" + b"\x02\x04"
    table = read(unit(BEGIN + steps + END) + unit(b"\0\x09\x02" + bytes(8) + b"\x01" + END))
    assert table == LineTable(
        ((0x1000, 0, 10), (0x1004, 0, 12), (0x100C, 0, 12), (0x1010, 0, 0)), ("a.c",)
    )


@pytest.mark.parametrize(
    "section",
    [
        b"\xff\xff\xff\xff" + b"\xff" * 8 + b"\4\0",
        unit(b"\x02" + b"\xff" * 40),
        unit(b"\0\xff\xff\xff\xff\x0f\x02"),
        unit(b"", b"\0" + b"x\0\0\0\0" * (debug_lines.MOST_FILES + 1)),
        b"\x20\0\0\0\5\0\x08\0\x10\0\0\0\1\1\1\xfb\x0e\1\0" + b"\xff" * 9 + b"\1" + b"\0" * 30,
    ],
    ids=["size", "number", "extended", "names", "names-of-nothing"],
)
def test_hostile_tables(section: bytes) -> None:
    """Sizes beyond the file, endless numbers and billions of names end in one line, at once."""
    assert read(section).note.startswith("its debug information is damaged")


def test_too_many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of more steps than are executed keeps the lines that were found, and says so."""
    monkeypatch.setattr(debug_lines, "MOST_OPCODES", 100)
    table = read(unit(BEGIN + b"\x01" + END) + unit(BEGIN + b"\x06" * 1000 + END))
    assert table.note == "of its debug information only the first 100 steps were read"
    assert table.places[0] == (0x1000, 0, 1)
