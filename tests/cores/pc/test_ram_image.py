"""Sparse images of RAM."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

import pytest

from cores.pc.ram import CHUNK, MIB, PAGE, Ram
from cores.pc.ram_image import RamImage

HOLE = range(2 * CHUNK, 4 * CHUNK)


@pytest.fixture
def ram() -> Iterator[Ram]:
    """1 GiB of RAM, untouched."""
    ram = Ram(1024 * MIB)
    yield ram
    ram.close()


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="this host has no memfd: RAM has no holes")
def test_untouched_ram_stays_untouched(ram: Ram) -> None:
    """An image of 1 GiB reads and keeps only the chunk that was written, and allocates no other."""
    ram.view[700 * MIB] = 1
    assert list(ram.touched()) == [700 * MIB]
    assert list(RamImage.of(ram).chunks) == [700 * MIB]
    RamImage(ram.size, {}).put_back(ram)
    assert list(ram.touched()) == [700 * MIB]
    assert ram.view[700 * MIB] == 0


def test_an_image_is_canonical(ram: Ram) -> None:
    """Written zeros are equal to untouched memory."""
    before = RamImage.of(ram)
    ram.view[5] = 1
    ram.view[5] = 0
    assert RamImage.of(ram) == before


def test_putting_back_undoes_everything(ram: Ram) -> None:
    """Changed, new and cleared chunks are restored."""
    ram.view[:3], ram.view[MIB : MIB + 3] = b"abc", b"def"
    before = RamImage.of(ram)
    ram.view[:3], ram.view[MIB : MIB + 3], ram.view[9 * MIB] = b"abC", bytes(3), 7
    before.put_back(ram)
    assert RamImage.of(ram) == before
    assert bytes(ram.view[:3]) + bytes(ram.view[MIB : MIB + 3]) == b"abcdef"


def test_equal_chunks_are_shared(ram: Ram) -> None:
    """The image of a machine in the same state shares all chunks."""
    ram.view[0] = ram.view[MIB] = 1
    first = RamImage.of(ram)
    ram.view[MIB] = 2
    second = RamImage.of(ram, first)
    assert second.chunks[0] is first.chunks[0]
    assert second.chunks[MIB] != first.chunks[MIB]


def test_the_pages_that_differ(ram: Ram) -> None:
    """Differing pages are listed in order, also where one image has no chunk."""
    first = RamImage.of(ram)
    ram.view[MIB + PAGE] = ram.view[5 * MIB + 3 * PAGE + 9] = 1
    second = RamImage.of(ram)
    assert list(first.differing_pages(second)) == [MIB + PAGE, 5 * MIB + 3 * PAGE]
    assert list(second.differing_pages(first)) == [MIB + PAGE, 5 * MIB + 3 * PAGE]


def test_the_hash_is_that_of_all_bytes() -> None:
    """Chunks left out of the image are hashed as zeros; the hole is not hashed."""
    ram = Ram(2 * MIB)
    try:
        ram.view[HOLE.start], ram.view[MIB] = 1, 2
        whole = ram.contents()
        expected = hashlib.sha256(whole[: HOLE.start] + whole[HOLE.stop :]).hexdigest()
        image = RamImage.of(ram)
        assert RamImage(image.size, image.chunks, HOLE).sha256() == expected
    finally:
        ram.close()
