"""The ATA channel, driven as a PIO driver drives it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from struct import unpack_from

import pytest

from cores.pc.devices.board import Board
from cores.pc.devices.storage.disk import Disk
from cores.pc.physical_memory import PhysicalMemory

DATA, ERROR, COUNT, LOW, MID, HIGH, DRIVE, STATUS = range(0x1F0, 0x1F8)
CONTROL = 0x3F6


def command(board: Board, code: int, lba: int, count: int = 1, drive: int = 0xE0) -> int:
    """Address by LBA and send the command; gives the alternate status, which leaves the interrupt
    pending."""
    values = (DRIVE, drive | lba >> 24), (COUNT, count), (LOW, lba), (MID, lba >> 8), (HIGH, lba >> 16)
    for port, value in values:
        board.write(port, 1, value)
    board.write(STATUS, 1, code)
    return board.read(CONTROL, 1)


def sector(fill: int) -> bytes:
    return bytes([fill]) * 512


def irq14(board: Board) -> bool:
    """Does the slave PIC have a request of line 14?"""
    board.write(0xA0, 1, 0x0A)
    return bool(board.read(0xA0, 1) & 0x40)


def test_identify(disk_board: Board) -> None:
    """IDENTIFY gives 256 words: a fixed disk, its name, its size for LBA28 and in CHS."""
    assert command(disk_board, 0xEC, 0) == 0x58
    data = disk_board.read_string(DATA, 2, 256)
    words = unpack_from("<256H", data)
    assert words[0] == 0x0040
    assert (words[1], words[3], words[6]) == (1, 16, 63)
    assert words[49] & 0x0200
    assert words[60] | words[61] << 16 == 40
    name = b"".join(word.to_bytes(2, "big") for word in words[27:47])
    assert name.decode().strip() == "RINGSCOPE DISK"
    assert disk_board.read(STATUS, 1) == 0x50


@pytest.mark.parametrize("size", [2, 4])
def test_read_word_by_word(disk_board: Board, size: int) -> None:
    """A sector is read by IN of 16 or 32 bits; DRQ falls with the last."""
    assert command(disk_board, 0x20, 7) == 0x58
    for _ in range(512 // size):
        assert disk_board.read(STATUS, 1) == 0x58
        assert disk_board.read(DATA, size) == int.from_bytes(b"\x07" * size, "little")
    assert disk_board.read(STATUS, 1) == 0x50
    assert disk_board.read(DATA, 2) == 0


def test_read_by_rep_insw(disk_board: Board) -> None:
    """Several sectors are read in one block, and no byte more than the command has."""
    command(disk_board, 0x20, 10, count=3)
    before = disk_board.accesses
    data = disk_board.read_string(DATA, 2, 256 * 3 + 5)
    assert data == sector(10) + sector(11) + sector(12) + bytes(10)
    assert disk_board.accesses - before == 256 * 3 + 5
    assert [disk_board.read(port, 1) for port in (COUNT, LOW, DRIVE)] == [0, 12, 0xE0]


def test_interrupts_of_a_read(disk_board: Board) -> None:
    """Each sector interrupts; reading the status register acknowledges it, the alternate status does
    not."""
    command(disk_board, 0x20, 1, count=2)
    assert irq14(disk_board)
    disk_board.read(CONTROL, 1)
    assert irq14(disk_board)
    disk_board.read(STATUS, 1)
    assert not irq14(disk_board)
    disk_board.read_string(DATA, 2, 256)
    assert irq14(disk_board)
    disk_board.read(STATUS, 1)
    disk_board.read_string(DATA, 2, 256)
    assert not irq14(disk_board)


def test_interrupt_reaches_the_cpu(disk_board: Board) -> None:
    """The interrupt passes slave and master, with the slave's vector."""
    disk_board.write(0x21, 1, 0xFB)
    disk_board.write(0xA1, 1, 0xBF)
    command(disk_board, 0x20, 1)
    assert disk_board.interrupt_pending
    assert disk_board.acknowledge() == 0x76


def test_an_interrupt_taken_back(disk_board: Board) -> None:
    """Reading the status before the acknowledge withdraws the interrupt; a CPU that has begun to take
    it gets the master's spurious one."""
    disk_board.write(0x21, 1, 0xFB)
    disk_board.write(0xA1, 1, 0xBF)
    command(disk_board, 0x20, 1)
    assert disk_board.interrupt_pending
    disk_board.read(STATUS, 1)
    assert not disk_board.interrupt_pending
    assert disk_board.acknowledge() == 0x0F


def test_nien(disk_board: Board) -> None:
    """With nIEN the line stays low; clearing nIEN shows the pending interrupt."""
    disk_board.write(CONTROL, 1, 0x02)
    command(disk_board, 0x20, 1)
    assert not irq14(disk_board)
    disk_board.write(CONTROL, 1, 0x00)
    assert irq14(disk_board)


def test_write(disk_board: Board) -> None:
    """The first sector of a write is requested without an interrupt, the others with one; all are read
    back."""
    assert command(disk_board, 0x30, 20, count=2) == 0x58
    assert not irq14(disk_board)
    for _ in range(256):
        disk_board.write(DATA, 2, 0x1234)
    assert irq14(disk_board)
    assert disk_board.read(STATUS, 1) == 0x58
    disk_board.write_string(DATA, 4, b"\xab" * 600)
    assert disk_board.read(STATUS, 1) == 0x50
    command(disk_board, 0x20, 20, count=3)
    assert disk_board.read_string(DATA, 2, 768) == b"\x34\x12" * 256 + sector(0xAB) + sector(22)
    assert command(disk_board, 0xE7, 0) == 0x50


def test_multiple(disk_board: Board) -> None:
    """READ and WRITE MULTIPLE interrupt once for each block, and need a block size first."""
    assert command(disk_board, 0xC4, 0, count=3) & 1
    assert command(disk_board, 0xC6, 0, count=3) & 1
    assert command(disk_board, 0xC6, 0, count=2) == 0x50
    command(disk_board, 0xC4, 5, count=3)
    disk_board.read(STATUS, 1)
    assert disk_board.read_string(DATA, 2, 256) == sector(5)
    assert not irq14(disk_board)
    assert disk_board.read_string(DATA, 2, 256) == sector(6)
    assert irq14(disk_board)
    assert disk_board.read_string(DATA, 2, 256) == sector(7)
    command(disk_board, 0xC5, 5, count=3)
    disk_board.write_string(DATA, 2, sector(1) + sector(2) + sector(3))
    command(disk_board, 0x20, 5, count=3)
    assert disk_board.read_string(DATA, 2, 768) == sector(1) + sector(2) + sector(3)


def test_chs(disk_board: Board) -> None:
    """CHS addressing counts sectors from 1; INITIALIZE DEVICE PARAMETERS sets other geometries."""
    command(disk_board, 0x91, 0, count=4, drive=0xA1)  # 2 heads of 4 sectors
    disk_board.write(DRIVE, 1, 0xA1)
    for port, value in ((COUNT, 1), (LOW, 3), (MID, 2), (HIGH, 0), (STATUS, 0x20)):
        disk_board.write(port, 1, value)
    assert disk_board.read_string(DATA, 2, 256) == sector((2 * 2 + 1) * 4 + 2)
    disk_board.write(LOW, 1, 0)
    disk_board.write(STATUS, 1, 0x20)
    assert disk_board.read(STATUS, 1) & 1
    assert command(disk_board, 0x91, 0, count=0) & 1
    assert command(disk_board, 0xEC, 0) == 0x58


@pytest.mark.parametrize(("lba", "count"), [(40, 1), (39, 2), (0, 0), (0xFFFFFFF, 1)])
def test_beyond_the_end(disk_board: Board, lba: int, count: int) -> None:
    """Sectors beyond the end (a count of 0 is 256) end in ERR, with the reason."""
    for code in (0x20, 0x30, 0x40):
        assert command(disk_board, code, lba, count) & 0x89 == 0x01
        assert disk_board.read(ERROR, 1)


@pytest.mark.parametrize("code", [0x00, 0x24, 0x25, 0xA1, 0xC8, 0xFF])
def test_unknown_commands_abort(disk_board: Board, code: int) -> None:
    """DMA, LBA48, packet and invalid commands are aborted, with an interrupt."""
    assert command(disk_board, code, 0) == 0x41
    assert disk_board.read(ERROR, 1) == 0x04
    assert irq14(disk_board)


@pytest.mark.parametrize(("code", "count"), [(0x10, 1), (0x40, 1), (0x70, 1), (0xE0, 1), (0xE5, 1)])
def test_commands_without_data(disk_board: Board, code: int, count: int) -> None:
    """Recalibrate, verify, seek, standby and power mode succeed."""
    assert command(disk_board, code, 1, count) == 0x50


def test_set_features(disk_board: Board) -> None:
    """SET FEATURES accepts PIO modes and caches, and refuses DMA modes."""
    for feature, count, status in (
        (0x02, 0, 0x50),
        (0x03, 0x0C, 0x50),
        (0x03, 0x42, 0x41),
        (0x77, 0, 0x41),
    ):
        disk_board.write(ERROR, 1, feature)
        assert command(disk_board, 0xEF, 0, count) == status


def test_no_slave(disk_board: Board) -> None:
    """The slave's status is 0, and commands to it have no effect."""
    assert command(disk_board, 0xEC, 0, drive=0xB0) == 0
    assert disk_board.read(STATUS, 1) == 0
    assert not irq14(disk_board)
    disk_board.write(DRIVE, 1, 0xA0)
    assert disk_board.read(STATUS, 1) == 0x50


def test_software_reset(disk_board: Board) -> None:
    """SRST shows BSY while set, then a disk's signature; a transfer is cancelled."""
    command(disk_board, 0x20, 1)
    disk_board.write(CONTROL, 1, 0x04)
    assert disk_board.read(CONTROL, 1) == 0x80
    disk_board.write(STATUS, 1, 0xEC)
    disk_board.write(CONTROL, 1, 0x00)
    assert [disk_board.read(port, 1) for port in range(ERROR, STATUS + 1)] == [
        1,
        1,
        1,
        0,
        0,
        0xA0,
        0x50,
    ]
    assert disk_board.read(DATA, 2) == 0
    assert command(disk_board, 0x90, 0, drive=0xF0) == 0x50
    assert disk_board.read(ERROR, 1) == 1


def test_floating_bus(board: Board) -> None:
    """Without a disk every register reads all ones, and a note says why."""
    assert command(board, 0xEC, 0) == 0xFF
    assert board.read(DATA, 4) == 0xFFFFFFFF
    assert board.read_string(DATA, 2, 2) == b"\xff" * 4
    board.write_string(DATA, 2, b"abcd")
    assert any("there is none" in note for note in board.notes())


def test_eight_bits_of_the_data_register(disk_board: Board) -> None:
    """A byte access of the 16-bit data register transfers nothing."""
    command(disk_board, 0x20, 3)
    assert disk_board.read(DATA, 1) == 0xFF
    disk_board.write(DATA, 1, 0)
    assert disk_board.read_string(DATA, 2, 256) == sector(3)


def test_host_errors_reach_the_guest(memory: PhysicalMemory, image: Path) -> None:
    """A file cut short in use is an uncorrectable sector, with its address."""
    disk = Disk(str(image))
    board = Board(memory, disks=(disk,))
    os.truncate(image, 6 * 512)
    command(board, 0x20, 5, count=2)
    assert board.read_string(DATA, 2, 256) == sector(5)
    assert board.read(STATUS, 1) == 0x41
    assert board.read(ERROR, 1) == 0x40
    assert board.read(LOW, 1) == 6
    disk.close()
    assert command(board, 0x20, 0) & 1


@pytest.fixture
def two_disks(memory: PhysicalMemory, image: Path, tmp_path: Path) -> Iterator[Board]:
    """A PC with the image as master, and as slave one of 8 sectors that hold 100 and more."""
    other = tmp_path / "other.img"
    other.write_bytes(b"".join(sector(100 + n) for n in range(8)))
    disks = Disk(str(image)), Disk(str(other))
    yield Board(memory, disks=disks)
    for disk in disks:
        disk.close()


def test_slave(two_disks: Board) -> None:
    """The drive register selects which disk answers and has its own size, transfers and interrupt."""
    assert command(two_disks, 0x20, 5, drive=0xF0) == 0x58
    assert irq14(two_disks)
    assert two_disks.read_string(DATA, 2, 256) == sector(105)
    two_disks.read(STATUS, 1)
    assert command(two_disks, 0x20, 5) == 0x58
    assert two_disks.read_string(DATA, 4, 128) == sector(5)
    assert command(two_disks, 0xEC, 0, drive=0xF0) == 0x58
    words = unpack_from("<256H", two_disks.read_string(DATA, 2, 256))
    assert words[60] == 8
    assert command(two_disks, 0x20, 8, drive=0xF0) == 0x41, "beyond the slave's end"


def test_slave_is_written_alone(two_disks: Board) -> None:
    """A write to the slave changes no sector of the master."""
    command(two_disks, 0x30, 3, drive=0xF0)
    two_disks.write_string(DATA, 2, sector(0xEE))
    assert [disk.read(3, 1) for disk in two_disks.disks] == [sector(3), sector(0xEE)]


def test_only_the_selected_drive_interrupts(two_disks: Board) -> None:
    """A drive that is deselected releases the line; selected again, its interrupt is still pending."""
    command(two_disks, 0x20, 1)
    assert irq14(two_disks)
    two_disks.write(DRIVE, 1, 0xF0)
    assert not irq14(two_disks)
    assert two_disks.read(STATUS, 1) == 0x50, "the slave's"
    two_disks.write(DRIVE, 1, 0xE0)
    assert irq14(two_disks)


def test_reset_of_both(two_disks: Board) -> None:
    """A software reset signs both drives and selects the master."""
    command(two_disks, 0x20, 1, drive=0xF0)
    two_disks.write(CONTROL, 1, 0x04)
    assert two_disks.read(STATUS, 1) == 0x80
    two_disks.write(CONTROL, 1, 0)
    assert [two_disks.read(port, 1) for port in (ERROR, COUNT, LOW, DRIVE)] == [1, 1, 1, 0xA0]
    two_disks.write(DRIVE, 1, 0xF0)
    assert [two_disks.read(port, 1) for port in (ERROR, STATUS)] == [1, 0x50]
