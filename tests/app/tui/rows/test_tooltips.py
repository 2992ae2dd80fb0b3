"""Tooltips for every part of the screen."""

from __future__ import annotations

import pytest
from stage import Stage, stage

from app.tui.widgets.line_view import LineView


def tip_at(s: Stage, row: str, word: str) -> str:
    """The tooltip of the first cell of ``word`` in the first row that contains ``row``."""
    y, line = next((y, line) for y, line in enumerate(s.text().splitlines()) if row in line)
    widget, region = s.app.screen.get_widget_at(line.index(word), y)
    assert isinstance(widget, LineView)
    return widget.tip(line.index(word) - region.x, y - region.y)


@pytest.mark.parametrize(
    ("row", "word", "told"),
    [
        ("equal in all", "equal", "first of Popek and Goldberg's"),
        ("equal in all", "confined", "An audit asks the host's kernel"),
        ("equal in all", "ran without", "without the VMM"),
        ("equal in all", "paused", "space runs and pauses"),
        ("1 EMULATOR", "EMULATOR", "1 shows and hides it"),
        ("One program", "One program", "All run the same program"),
        ("Who executes", "Who", "software that reads each of them"),
        ("Where rax", "CPU 1", "The host's kernel keeps them until the process goes on"),
        ("Its ring", "really 3", "The guest believes to be in ring"),
        ("Left the guest", "never", "Exits: an emulator has none."),
        ("the host's kernel", "the host's kernel", "Who had the CPU at each"),
        (" rax 0", "rax", "rax = 0x0 = 0\nA general register."),
        ("out     0xe9, al", "out", "Privileged: in ring 3 the CPU refuses it"),
        ("cli ", "⇄", "Leaves the guest here: the CPU stops it and calls the host."),
        ("pushfq ", "~ 1", "Sensitive, but it does not trap by itself"),
        ("lea     rsi", "│", "Runs directly on the CPU"),
        ("What the guest prints", "What", "v shows all of it"),
        ("done just now", "pushfq", "Enter tells it in full"),
        (" 100 instructions", "●", "A click goes to instruction"),
        ("space run", "n step", "Step"),
        ("? help", "?", "Help"),
    ],
)
async def test_what_is_told(row: str, word: str, told: str) -> None:
    """Properties, facts, track, program, lanes, registers, output, timeline and keys have
    tooltips."""
    async with stage(size=(160, 48)) as s:
        await s.press("n", "n")
        assert told in tip_at(s, row, word)


async def test_a_resting_mouse_is_answered_on_the_screen() -> None:
    """When the mouse rests, Textual asks the widget and shows the tooltip beside it."""
    async with stage(size=(120, 40)) as s:
        await s.pilot.hover("#region-header", offset=(1, 0))
        widget = s.screen.query_one("#region-header")
        assert "one instruction at a time" in str(widget.tooltip)
