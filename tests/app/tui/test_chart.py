"""The reasons account for every exit, however few rows there are."""

from __future__ import annotations

from dataclasses import replace

import pytest
from stage import stage

from app.tui.lanes.reasons import WORDS, reason_rows
from app.tui.rows.rows import row_width
from cores.x86.isa.instruction import Reason


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (200, 60)], ids=lambda s: f"{s[0]}x{s[1]}")
async def test_every_reason_is_shown_or_counted(size: tuple[int, int]) -> None:
    """Each reason has a row, or is counted among those left out; no row is too wide."""
    async with stage(size=size) as s:
        scene = s.screen.scene()
        assert scene is not None
    counts = {reason.value: 100 * n + 1 for n, reason in enumerate(Reason)}
    machines = tuple(replace(m, exits_by_reason=counts, ns_by_reason=counts) for m in scene.s.machines)
    lanes = tuple(replace(x, machine=m) for x, m in zip(scene.lanes, machines, strict=True))
    scene = replace(scene, s=replace(scene.s, machines=machines), lanes=lanes)
    height = 7
    rows = reason_rows(scene, height)
    assert len(rows) == height + 1
    assert all(row_width(line) <= scene.width for line in rows)
    assert f"and {len(counts) - height + 1} more reasons" in "".join(text for text, _ in rows[-1])


def test_every_reason_has_words() -> None:
    """No reason is without an explanation."""
    assert set(WORDS) == set(Reason)
