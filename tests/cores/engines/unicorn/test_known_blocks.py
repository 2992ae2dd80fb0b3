"""Descriptions of translated blocks are forgotten where the guest has put other code."""

from __future__ import annotations

import pytest
from machine_lab import EXIT, booted, needs_assembler

from cores.engines.unicorn.block_counter import BlockCounter
from cores.engines.unicorn.known_blocks import KnownBlocks
from cores.pc.stop import Stop

HERE, THERE = (1,), (2,)
LOW, HIGH = 0x401000, 0x900000
LARGE = 1 << 22
WRAPPED = 1 << 32
"""What Unicorn has too much in an address behind the end of a segment with a base."""


class Pages:
    """The guest's page tables, by linear address, and the look-ups in them."""

    def __init__(self) -> None:
        self.at: dict[int, int | None] = {LOW: 0x1000, HIGH: 0x2000}
        self.asked: list[int] = []

    def locate(self, page: int) -> int | None:
        self.asked.append(page)
        return self.at[page]


@pytest.fixture
def pages() -> Pages:
    return Pages()


@pytest.fixture
def known(pages: Pages) -> KnownBlocks[str]:
    """A block in each of two pages, in the space ``HERE``."""
    blocks: KnownBlocks[str] = KnownBlocks(BlockCounter(lambda address, size: None, lambda: False))
    blocks.enter(HERE, pages.locate)
    for page in (LOW, HIGH):
        blocks.space.blocks[page, 4] = "a block"
        blocks.space.pages[page] = pages.at[page]
    return blocks


def test_invlpg_looks_up_what_a_large_page_may_hold(known: KnownBlocks[str], pages: Pages) -> None:
    """Only pages within the largest page at the invalidated address are looked up, and once."""
    pages.at[LOW] = pages.at[HIGH] = None
    known.flushed(LOW + 0x5000, LARGE)
    known.enter(HERE, pages.locate)
    known.enter(HERE, pages.locate)
    assert pages.asked == [LOW]
    assert list(known.space.blocks) == [(HIGH, 4)]


def test_invlpg_of_wrapped_addresses(known: KnownBlocks[str], pages: Pages) -> None:
    """Code whose segment wraps at 4 GiB is looked up, too: Unicorn names it without the wrap."""
    known.space.blocks[WRAPPED + LOW, 4] = "a block"
    known.space.pages[WRAPPED + LOW] = pages.at[LOW]
    pages.at[WRAPPED + LOW] = None
    known.flushed(LOW, LARGE)
    known.enter(HERE, pages.locate)
    assert pages.asked == [LOW, WRAPPED + LOW]
    assert sorted(known.space.blocks) == [(LOW, 4), (HIGH, 4)]


@pytest.mark.parametrize("first", [True, False], ids=["INVLPG after it", "INVLPG before it"])
def test_a_full_flush_looks_all_up(known: KnownBlocks[str], pages: Pages, first: bool) -> None:
    """A load of CR3 has all pages looked up, whatever INVLPG there is besides."""
    for gva in (None, LOW) if first else (LOW, None):
        known.flushed(gva, LARGE)
    known.enter(HERE, pages.locate)
    assert sorted(pages.asked) == [LOW, HIGH]


def test_invlpg_before_another_space(known: KnownBlocks[str], pages: Pages) -> None:
    """A space that is left with an invalidated page is looked up when it is used again: code of another
    width has the same page tables and a space of its own."""
    known.flushed(LOW, LARGE)
    known.enter(THERE, pages.locate)
    assert not pages.asked
    pages.at[LOW] = None
    known.enter(HERE, pages.locate)
    assert list(known.space.blocks) == [(HIGH, 4)]


@needs_assembler
@pytest.mark.parametrize("gva", [0x200000, 0x3FF000], ids=["its own page", "the same large page"])
def test_other_code_after_invlpg(gva: int) -> None:
    """A function that is replaced by INVLPG's new mapping is counted as what it has become."""
    source = f"""
        mov rsp, 0x9f000
        mov dword ptr [0x400000], 0x000001b8
        mov dword ptr [0x400004], 0x00c39000    # mov eax, 1; nop; ret
        mov dword ptr [0x600000], 0xc0ffc0ff
        mov dword ptr [0x600004], 0x00c3c0ff    # inc eax, three times; ret
        mov dword ptr [0x14008], 0x4000e3
        mov rax, cr3
        mov cr3, rax
        mov esi, 0x200000
        mov ebx, 5
    1:  call rsi
        dec ebx
        jnz 1b
        mov dword ptr [0x14008], 0x6000e3
        invlpg [{gva:#x}]
        mov ebx, 5
    2:  call rsi
        dec ebx
        jnz 2b
        {EXIT}"""
    counts = []
    for free in (True, False):
        with booted("interpreter", source, ram=16 << 20) as machine:
            if free:
                machine.run_free(60)
            while machine.stop is None:
                machine.step()
            assert machine.stop is Stop.EXIT, machine.vmm.reason
            counts.append(machine.vmm.instructions)
    assert counts[0] == counts[1]
