"""The CRT controller: registers that are kept, and the protected ones."""

from __future__ import annotations

from cores.pc.devices.board import Board

INDEX, DATA = 0x3D4, 0x3D5


def test_cursor(board: Board) -> None:
    """The cursor's place is written and read back, by bytes and by one store of a word."""
    board.write(INDEX, 1, 14)
    board.write(DATA, 1, 0x03)
    board.write(INDEX, 2, 0x540F)
    assert (board.read(INDEX, 1), board.read(DATA, 1)) == (15, 0x54)
    assert board.read(INDEX, 2) == 0x540F
    shown = {device.title: device.facts(0) for device in board.devices}
    assert shown["CRT controller"] == (("cursor", "row 10, column 52"),)


def test_where_a_screen_marks_it(board: Board) -> None:
    """The cursor is told by row and column once a guest has moved it, and not while it is off."""
    assert board.cursor is None
    board.write(INDEX, 2, 0x000E)
    board.write(INDEX, 2, 0xA20F)
    assert board.cursor == (2, 2)
    board.write(INDEX, 2, 0x200A)
    assert board.cursor is None


def test_protected_registers(board: Board) -> None:
    """Registers 0 to 7 hold text mode's values while bit 7 of register 0x11 is set."""
    board.write(INDEX, 2, 0x1200)
    board.write(INDEX, 2, 0xFF07)
    assert board.read(DATA, 1) == 0x1F
    board.write(INDEX, 1, 0)
    assert board.read(DATA, 1) == 0x5F
    board.write(INDEX, 2, 0x0E11)
    board.write(INDEX, 2, 0x1200)
    assert board.read(DATA, 1) == 0x12


def test_beyond_its_registers(board: Board) -> None:
    """An index without a register reads zero and keeps nothing."""
    board.write(INDEX, 2, 0xAA30)
    assert board.read(DATA, 1) == 0
    assert board.is_lawful()
