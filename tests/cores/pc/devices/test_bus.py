"""The port bus, and the small devices that only have a port."""

from __future__ import annotations

import pytest

from cores.pc.devices.board import Board
from cores.pc.stop import Stop


@pytest.mark.parametrize(("size", "ones"), [(1, 0xFF), (2, 0xFFFF), (4, 0xFFFFFFFF)])
def test_port_without_device(board: Board, size: int, ones: int) -> None:
    """A port without a device reads all ones, ignores writes, and is noted once."""
    assert board.read(0x1234, size) == ones
    board.write(0x1234, size, 0)
    assert board.read(0x1234, size) == ones
    assert board.notes() == ["port 0x1234 has no device: reads give all ones, writes are lost"]
    assert board.accesses == 3


def test_notes_are_bounded(board: Board) -> None:
    """A guest that tries every port causes a few notes, not thousands."""
    for port in range(0x1000, 0x2000):
        board.read(port, 1)
    for port in range(0x8000, 0x9000, 2):
        board.read(port, 1)
    notes = board.notes()
    assert notes[0].startswith("ports 0x1000 to 0x1fff have no device")
    assert len(notes) == 17


def test_wide_access_is_cut_into_bytes(board: Board) -> None:
    """A 16-bit access of byte devices is two accesses in port order."""
    board.write(0x3FA, 2, 0x83_00)  # FCR, LCR
    board.write(0x3F8, 2, 0x1234)  # the divisor, DLAB being set
    assert board.read(0x3F8, 2) == 0x1234
    assert board.read(0xE9, 2) == 0xFFE9
    board.write(0xE8, 4, 0x44434241)
    assert board.console == b"B"


def test_ports_end_at_64k(board: Board) -> None:
    """An access at the last port wraps instead of failing."""
    assert board.read(0xFFFF, 4) == 0xFFFFFFFF
    board.write(0xFFFF, 4, 0)


def test_debug_console(board: Board) -> None:
    """0xE9 reads 0xE9, and its bytes appear in order with the UART's."""
    assert board.read(0xE9, 1) == 0xE9
    board.write_string(0xE9, 1, b"Hel")
    board.write(0x3F8, 1, ord("l"))
    board.write(0xE9, 1, ord("o"))
    assert board.console == b"Hello"
    assert board.accesses == 6


@pytest.mark.parametrize(("size", "value"), [(1, 0xFF), (2, 0xFFFF), (4, 0xFFFFFFFF), (4, 0)])
def test_exit_status(board: Board, size: int, value: int) -> None:
    """The exit status is the unsigned value of any width; the first write counts."""
    board.write(0xF4, size, value)
    board.write(0xF4, 1, 77)
    assert board.stop is not None
    assert (board.stop.stop, board.stop.status) == (Stop.EXIT, value)


def test_power_off(board: Board) -> None:
    """Only a 16-bit write of 0x2000 switches off."""
    for size, value in ((1, 0x00), (2, 0x0000), (2, 0x2001), (1, 0x20)):
        board.write(0x604, size, value)
    board.write(0x605, 1, 0x20)
    assert board.stop is None
    board.write(0x604, 2, 0x2000)
    assert board.stop is not None
    assert (board.stop.stop, board.stop.status) == (Stop.POWEROFF, None)


def owner(board: Board, port: int) -> str:
    device = board.bus.owners.get(port)
    return "no device" if device is None else device.name


def test_names(board: Board) -> None:
    """The log names the device of every port of the platform, and none for other ports."""
    names = {
        0x20: "PIC", 0xA1: "PIC", 0x43: "PIT", 0x64: "keyboard", 0x71: "CMOS", 0x1F7: "ATA disk",
        0x3F6: "ATA disk", 0x3FF: "UART", 0x5E4: "paravirtual", 0xE9: "console", 0xF4: "exit port",
        0x604: "power", 0x61: "no device",
    }  # fmt: skip
    assert {port: owner(board, port) for port in names} == names
    assert board.describe(0xE9, 1, 0x48, True) == "console 'H'"
    assert board.describe(0x3F8, 1, 0x0A, True) == "UART 0x0a"
    assert board.describe(0xF4, 1, 3, True) == "exit with 3"
    assert board.describe(0x61, 1, 3, True) == "no device"
