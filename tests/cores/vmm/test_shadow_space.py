"""The entries of one space are found by frame as they are by address."""

from __future__ import annotations

import random

from cores.vmm.shadow_space import LARGE, Entry, Space
from cores.x86.mmu.paging import PAGE


def test_found_by_frame_as_by_address() -> None:
    """After any changes, the addresses that lead to a frame are those whose entries cover it."""
    chance, space = random.Random(1), Space()
    frames = [PAGE * n for n in range(12)] + [LARGE + PAGE * n for n in range(4)]
    for _ in range(3000):
        gva = PAGE * chance.randrange(40)
        match chance.randrange(4):
            case 0:
                frame = chance.choice(frames)
                if space.entries.get(gva, Entry(frame, PAGE, True, True)).gpa == frame:
                    space.enter(gva, Entry(frame, PAGE, chance.random() < 0.5, False))
            case 1:
                length = chance.randrange(1, 5)
                if not any(gva + PAGE * n in space.entries for n in range(length)):
                    space.enter_run(gva, length, Entry(chance.choice(frames[:8]), PAGE, True, False))
            case 2:
                space.forget(gva)
            case _:
                large = LARGE * chance.randrange(100, 102)
                space.forget(large)
                if chance.random() < 0.7:
                    space.enter(large, Entry(LARGE * chance.randrange(2), LARGE, True, True))
        for frame in frames:
            leading = sorted(
                start + frame - entry.gpa
                for start, entry in space.entries.items()
                if entry.gpa <= frame < entry.gpa + entry.length
            )
            assert sorted(space.leading_to(frame)) == leading
    space.clear()
    assert not any(list(space.leading_to(frame)) for frame in frames)


def test_unmapped_pages_are_neither_code_nor_devices() -> None:
    """What was mapped as code or lent is forgotten with its mapping, alone or in a range."""
    space = Space()
    space.executed = {0, PAGE, 4 * PAGE}
    space.devices = {2 * PAGE, 9 * PAGE}
    space.unmapped(0, PAGE)
    assert (space.executed, space.devices) == ({PAGE, 4 * PAGE}, {2 * PAGE, 9 * PAGE})
    space.unmapped(PAGE, 3 * PAGE)
    assert (space.executed, space.devices) == ({4 * PAGE}, {9 * PAGE})
