"""The paravirtual device with valid and hostile descriptors."""

from __future__ import annotations

import os
from pathlib import Path
from struct import pack

import pytest

from cores.pc.devices.board import Board
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.ram import MIB

AT = 0x20003  # unaligned on purpose


def request(board: Board, memory: PhysicalMemory, *fields: int, at: int = AT) -> int:
    """Submit (operation, buffer, length, lba); gives the resulting status."""
    operation, buffer, length, lba = (*fields, 0, 0, 0)[:4]
    memory.write(at, pack("<IIQQQ", operation, 0xEEEE, buffer, length, lba))
    board.write(0x5E4, 4, at)
    return int.from_bytes(memory.read(at + 4, 4), "little")


def test_identity(board: Board) -> None:
    """A 32-bit read of 0x5E0 identifies it; other ports and widths of the range do not respond."""
    assert board.read(0x5E0, 4) == 0x31435052
    assert board.read(0x5E0, 1) == 0xFF
    assert board.read(0x5E4, 4) == 0xFFFFFFFF
    assert board.read(0x5E8, 2) == 0xFFFF
    board.write(0x5E4, 2, 0x1000)
    board.write(0x5E0, 4, 1)
    assert board.notes() == []


def test_console(board: Board, memory: PhysicalMemory) -> None:
    """A console write appears in order with the bytes of the other consoles."""
    memory.write(0x30000, b"hello")
    board.write(0xE9, 1, ord("<"))
    assert request(board, memory, 1, 0x30000, 5) == 0
    board.write(0xE9, 1, ord(">"))
    assert board.console == b"<hello>"
    assert request(board, memory, 1, 0x30000, 0) == 0
    assert board.describe(0x5E4, 4, AT, True) == "paravirtual: console write"


def test_disk(disk_board: Board, memory: PhysicalMemory) -> None:
    """Size, read and write work; written sectors are those that ATA reads."""
    assert request(disk_board, memory, 4) == 0
    assert memory.read_u64(AT + 16) == 40
    assert request(disk_board, memory, 2, 0x30001, 3, 7) == 0
    assert memory.read(0x30001, 1536) == b"\x07" * 512 + b"\x08" * 512 + b"\x09" * 512
    assert request(disk_board, memory, 3, 0x30001, 2, 30) == 0
    for port, value in ((0x1F6, 0xE0), (0x1F2, 1), (0x1F3, 31), (0x1F4, 0), (0x1F5, 0), (0x1F7, 0x20)):
        disk_board.write(port, 1, value)
    assert disk_board.read_string(0x1F0, 2, 256) == b"\x08" * 512


def test_one_access_a_request(disk_board: Board, memory: PhysicalMemory) -> None:
    """A whole request is one device access."""
    request(disk_board, memory, 2, 0x30000, 40, 0)
    assert disk_board.accesses == 1


def test_stores_are_recorded(disk_board: Board, memory: PhysicalMemory) -> None:
    """The device's stores, sectors and status, are recorded for the session."""
    memory.write(AT, pack("<IIQQQ", 2, 9, 0x30000, 1, 1))
    memory.writes = []
    disk_board.write(0x5E4, 4, AT)
    assert memory.writes == [(0x30000, 512), (AT + 4, 4)]


@pytest.mark.parametrize("operation", [0, 5, 0xFFFFFFFF])
def test_bad_requests(disk_board: Board, memory: PhysicalMemory, operation: int) -> None:
    """An unknown operation is a bad request."""
    assert request(disk_board, memory, operation) == 1


HUGE = (1 << 64) - 1


@pytest.mark.parametrize(
    ("operation", "buffer", "length", "lba"),
    [
        (1, 0x30000, 2 * MIB, 0),
        (1, 2 * MIB, 1, 0),
        (1, HUGE, HUGE, 0),
        (1, 0x9FFFF, 2, 0),
        (1, 0xB8000, 1, 0),
        (2, 2 * MIB - 511, 1, 0),
        (2, 0x30000, 1, 40),
        (2, 0x30000, 2, 39),
        (2, 0x30000, HUGE, 0),
        (3, 0x30000, 1, HUGE),
        (3, 0x9FE01, 1, 0),
    ],
)
def test_out_of_range(
    disk_board: Board, memory: PhysicalMemory, operation: int, buffer: int, length: int, lba: int
) -> None:
    """Buffers outside RAM and sectors beyond the disk give an error status and have no effect."""
    ram = bytes(memory.view[0x30000:])
    assert request(disk_board, memory, operation, buffer, length, lba) == 2
    assert bytes(memory.view[0x30000:]) == ram
    assert disk_board.console == b""


@pytest.mark.parametrize("address", [2 * MIB, 2 * MIB - 31, 0x9FFF0, 0xB8000, 0xFFFFFFFF])
def test_descriptor_outside_ram(board: Board, memory: PhysicalMemory, address: int) -> None:
    """A descriptor that is not all in RAM is ignored, and noted."""
    board.write(0x5E4, 4, address)
    assert board.screen() is None
    assert board.describe(0x5E4, 4, address, True) == "paravirtual"
    assert any("descriptor" in note for note in board.notes())


def test_no_disk(board: Board, memory: PhysicalMemory) -> None:
    """Without a disk its size is 0, and reading and writing are refused."""
    assert request(board, memory, 4) == 0
    assert memory.read_u64(AT + 16) == 0
    assert request(board, memory, 2, 0x30000, 1, 0) == 3
    assert request(board, memory, 3, 0x30000, 1, 0) == 3


def test_host_errors_are_refusals(disk_board: Board, memory: PhysicalMemory, image: Path) -> None:
    """A sector that the host cannot read is refused."""
    os.truncate(image, 512)
    assert request(disk_board, memory, 2, 0x30000, 1, 3) == 3
