"""The text screen as memory, and as text."""

from __future__ import annotations

from cores.pc.devices.board import Board
from cores.pc.devices.vga import GLYPHS
from cores.pc.physical_memory import PhysicalMemory

SCREEN = 0xB8000


def test_never_written(board: Board) -> None:
    """A screen that was never written is None, not empty."""
    assert board.screen() is None


def test_text(board: Board, memory: PhysicalMemory) -> None:
    """Lines are joined; trailing blanks and blank lines at the end are removed."""
    for at, byte in enumerate(b"Hi\0 there  "):
        memory.write(SCREEN + 160 + at * 2, bytes((byte, 0x07)))
    assert board.screen() == "\nHi  there"
    memory.write(SCREEN + 24 * 160 + 158, b"!")
    assert board.screen() == "\nHi  there" + "\n" * 23 + " " * 79 + "!"


def test_glyphs(board: Board, memory: PhysicalMemory) -> None:
    """Every code is one visible character of code page 437; none breaks a line."""
    assert len(GLYPHS) == 256
    assert len(GLYPHS.split()) == 2, "codes 0, 0x20 and 0xFF are blank, and only they"
    assert GLYPHS[0x01] + GLYPHS[0x7F] + GLYPHS[0xC9] == "☺⌂╔"
    for code in range(256):
        memory.write(SCREEN + code * 2, bytes((code,)))
    text = board.screen()
    assert text is not None
    assert len(text.split("\n")) == 4


def test_memory_of_the_screen(board: Board, memory: PhysicalMemory) -> None:
    """The screen's memory is read back in any width; the hole around it is all ones."""
    memory.write(SCREEN + 3998, b"ABCD")
    assert memory.read(SCREEN + 3996, 6) == b" \x07AB\xff\xff"
    assert memory.read(SCREEN - 2, 3) == b"\xff\xff "
    assert board.vga.cells[-2:] == b"AB"
    memory.write(SCREEN + 4000, b"lost")
    assert memory.read(SCREEN + 4000, 4) == b"\xff" * 4


def test_accesses_are_counted(board: Board, memory: PhysicalMemory) -> None:
    """Each access of the screen counts as a device access."""
    memory.write(SCREEN, b"A")
    memory.read(SCREEN, 2)
    assert board.accesses == 2
