"""The descriptions of translated blocks, kept for each address space of the guest.

A description belongs to a linear address, which leads to other code with other page tables. So there is
one collection for each state of CR3 and of the paging bits, with the machine code's table for it
(block_counter.py). After each flush of the TLB the pages of the collection in use are looked up again,
after INVLPG those that a large page there may hold. Learning all blocks anew cost 10 ms at each CR3
load of an operating system with processes. A block of a kernel, which lies at the same place in all
its address spaces, is decoded once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from cores.engines.unicorn.block_counter import BlockCounter
from cores.x86.isa.segment_limits import SEGMENTS

PAGE = 4096
MOST_SPACES = 64
B = TypeVar("B")


@dataclass
class Space(Generic[B]):
    """The blocks of one address space.

    blocks: by address and length. pages: the physical address of each page that they lie in, by linear
    address. table: the machine code's table while another space is in use. opening: addresses in the
    table of blocks that may set IF; using: of those that access a segment, by its bit in a mask.
    limited: the segments that were limited when the space was last in use. checked: the number of TLB
    flushes after which the pages were looked up.
    """

    blocks: dict[tuple[int, int], B] = field(default_factory=dict)
    pages: dict[int, int | None] = field(default_factory=dict)
    table: bytearray | None = None
    opening: set[int] = field(default_factory=set)
    using: tuple[set[int], ...] = field(default_factory=lambda: tuple(set() for _ in range(SEGMENTS)))
    limited: int = 0
    checked: int = 0


class KnownBlocks(Generic[B]):
    """All spaces. space: the one in use."""

    def __init__(self, counter: BlockCounter) -> None:
        self._counter = counter
        self._spaces: dict[tuple[int, ...], Space[B]] = {}
        self._key: tuple[int, ...] = ()
        self.space: Space[B] = Space()
        self._spaces[()] = self.space
        self._flushes = 0
        # Regions of the space in use, each an address and a mask, since the last ``enter``:
        self._invalidated: set[tuple[int, int]] = set()
        # By address and length: descriptions of the code there, by what identifies it.
        self._shared: dict[tuple[int, int], dict[tuple[int | None, ...], B]] = {}

    def flushed(self, gva: int | None, largest: int) -> None:
        """The TLB has been flushed: all of it (None), or by INVLPG at ``gva`` the page there, which has
        ``largest`` bytes at most."""
        known = self.space.checked == self._flushes
        self._flushes += 1
        if gva is not None and known:
            mask = -largest & ~(1 << 32)  # Unicorn does not wrap CS's base and EIP at 4 GiB
            self._invalidated.add((gva & mask, mask))
            self.space.checked = self._flushes

    def enter(self, key: tuple[int, ...], locate: Callable[[int], int | None]) -> None:
        """Use the space ``key``; look its pages up where the TLB has been flushed since."""
        regions, self._invalidated = self._invalidated, set()
        if key != self._key:
            if regions:
                self.space.checked, regions = -1, set()
            self.space.table = self._counter.save()
            if len(self._spaces) >= MOST_SPACES and key not in self._spaces:
                self.forget_all()
            self._key, self.space = key, self._spaces.setdefault(key, Space(checked=self._flushes))
            self._counter.load(self.space.table)
            self.space.table = None
        space = self.space
        if space.checked != self._flushes:
            space.checked = self._flushes
            self._look_up(space.pages, locate)
        elif regions:
            inside = [p for p in space.pages if any(p & mask == at for at, mask in regions)]
            self._look_up(inside, locate)

    def _look_up(self, pages: Iterable[int], locate: Callable[[int], int | None]) -> None:
        """Forget the blocks in those of ``pages`` that are elsewhere now."""
        space = self.space
        moved = {page for page in pages if locate(page) != space.pages[page]}
        if moved:
            for address, size in list(space.blocks):
                if moved & {address & -PAGE, address + size - 1 & -PAGE}:
                    del space.blocks[address, size]
                    self._counter.forget(address)
            for page in moved:
                del space.pages[page]

    def elsewhere(self, key: tuple[int, int], code: tuple[int | None, ...]) -> B | None:
        """The description that ``share`` was given, in any space. code: the width of the code and the
        physical addresses of its pages."""
        return self._shared.get(key, {}).get(code)

    def share(self, key: tuple[int, int], code: tuple[int | None, ...], block: B) -> None:
        """Keep a description for all spaces in which the same code has the same address."""
        self._shared.setdefault(key, {})[code] = block

    def translated(self, address: int, size: int) -> None:
        """Forget a block that has been translated anew, in all spaces: they may share its code."""
        for space in self._spaces.values():
            if space.blocks.pop((address, size), None) is not None and space.table is not None:
                self._counter.forget_in(space.table, address)
        self._shared.pop((address, size), None)
        self._counter.forget(address)

    def forget_all(self) -> None:
        """Forget all blocks."""
        self._spaces = {self._key: Space(checked=self._flushes, limited=self.space.limited)}
        self.space = self._spaces[self._key]
        self._shared.clear()
        self._counter.forget_all()
