"""The chart accounts for every reason, however few rows it has."""

from __future__ import annotations

from dataclasses import replace

import pytest
from stage import stage

from app.tui.rows.exits import chart_rows
from app.tui.rows.glyphs import UNICODE
from app.tui.rows.rows import row_width
from cores.x86.isa.instruction import Reason


@pytest.mark.parametrize(("width", "height"), [(76, 3), (96, 6), (56, 3), (196, 8), (36, 2)])
async def test_every_reason_is_shown_or_counted(width: int, height: int) -> None:
    """Each reason has a row, or is counted among those left out."""
    async with stage() as s:
        assert s.screen.looking.machine is not None
        counts = {reason.value: 100 * n + 1 for n, reason in enumerate(Reason)}
        machine = replace(s.screen.looking.machine, exits_by_reason=counts, ns_by_reason=counts)
    rows = chart_rows(machine, width, height, UNICODE)
    assert len(rows) <= height
    assert all(row_width(line) <= width + 3 for line in rows)
    shown = {text.strip() for line in rows for text, role in line if role == "exit"}
    text = "".join(text for line in rows for text, _ in line)
    left = len(counts) - len(shown)
    assert shown <= set(counts)
    assert width >= 120 or f"and {left} more" in text
