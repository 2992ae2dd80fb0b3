"""Fixtures: a board of real devices over real RAM, driven by port accesses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cores.pc.devices.board import Board
from cores.pc.devices.storage.disk import Disk
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.ram import MIB, Ram

MakeBoard = Callable[..., Board]


@pytest.fixture
def memory() -> Iterator[PhysicalMemory]:
    """2 MiB of guest RAM."""
    ram = Ram(2 * MIB)
    yield PhysicalMemory(ram)
    ram.close()


@pytest.fixture
def board(memory: PhysicalMemory) -> Board:
    """A PC without a disk and without input."""
    return Board(memory)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A disk image of 40 sectors, each filled with its own number."""
    path = tmp_path / "disk.img"
    path.write_bytes(b"".join(bytes([n]) * 512 for n in range(40)))
    return path


@pytest.fixture
def disk_board(memory: PhysicalMemory, image: Path) -> Iterator[Board]:
    """A PC with the image as its disk."""
    disk = Disk(str(image))
    yield Board(memory, disks=(disk,))
    disk.close()
