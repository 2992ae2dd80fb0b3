"""Sparse images of guest RAM: a copy costs what the guest has touched, whatever the size of its RAM.

An image holds the chunks that are not all zeros, by guest physical address. That form is canonical: two
images are equal if and only if the RAM that they were taken from is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cores.pc.ram import CHUNK, PAGE, Ram

ZEROS = bytes(CHUNK)
EMPTY = bytes(PAGE)


@dataclass(frozen=True, slots=True)
class RamImage:
    """``size`` bytes of RAM. chunks: by GPA, each CHUNK bytes and not all zeros. hole: GPAs that are
    no RAM, whole chunks."""

    size: int
    chunks: Mapping[int, bytes]
    hole: range = range(0)

    @classmethod
    def of(cls, ram: Ram, like: RamImage | None = None) -> RamImage:
        """A copy of RAM as it is now. It shares with ``like``, an older image or another machine's,
        the chunks that are equal there."""
        known: Mapping[int, bytes] = like.chunks if like is not None else {}
        chunks: dict[int, bytes] = {}
        for at in ram.touched():
            now = chunk_of(ram, at)
            if now != ZEROS:
                old = known.get(at)
                chunks[at] = old if old == now else now
        return cls(ram.size, chunks)

    def put_back(self, ram: Ram) -> None:
        """Restore RAM to the contents of the image."""
        put_back(ram, self.chunks)

    def page(self, gpa: int) -> bytes:
        """The page of RAM at ``gpa``."""
        at = gpa % CHUNK
        return self.chunks.get(gpa - at, ZEROS)[at : at + PAGE]

    def differing_pages(self, other: RamImage) -> Iterator[int]:
        """GPAs of the pages that differ between two images, in order."""
        for at in sorted(self.chunks.keys() | other.chunks.keys()):
            if self.chunks.get(at) != other.chunks.get(at):
                pages = range(at, at + CHUNK, PAGE)
                yield from (gpa for gpa in pages if self.page(gpa) != other.page(gpa))

    def sha256(self) -> str:
        """SHA-256 of all bytes in address order, without the hole: 0.6 s for 1 GiB. Machines that agree
        have equal images, so the last result is cached."""
        if not _hashed or _hashed[-1][0] != self:
            digest = hashlib.sha256()
            for at in range(0, self.size, CHUNK):
                if at not in self.hole:
                    digest.update(self.chunks.get(at, ZEROS))
            _hashed[:] = [(self, digest.hexdigest())]
        return _hashed[-1][1]


_hashed: list[tuple[RamImage, str]] = []


def chunk_of(ram: Ram, gpa: int) -> bytes:
    """A copy of the chunk of RAM at ``gpa``."""
    return bytes(ram.view[gpa : gpa + CHUNK])


def put_back(ram: Ram, chunks: Mapping[int, bytes]) -> None:
    """Set RAM to the contents of the chunks, and to zero elsewhere."""
    view = ram.view
    for at in ram.touched():
        if at not in chunks and chunk_of(ram, at) != ZEROS:
            view[at : at + CHUNK] = ZEROS
    for at, chunk in chunks.items():
        view[at : at + CHUNK] = chunk
