"""Tooltips for every part of the screen."""

from __future__ import annotations

import pytest
from fake_session import FakeSession
from stage import Stage, stage

from app.tui.rows.glyphs import UNICODE
from app.tui.rows.machine import pane_rows, parts, plan
from app.tui.rows.machine_parts import View
from app.tui.rows.tooltips import FLAGS, flag_tip, register_at, register_tip
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
        ("equivalence", "equivalence", "first of Popek and Goldberg's"),
        ("equivalence", "control", "An audit asks the host's kernel"),
        ("equivalence", "efficiency", "ran directly on the CPU"),
        ("equivalence", "paused", "space runs and pauses"),
        ("1 EMULATOR", "EMULATOR", "1 shows and hides it"),
        ("Registers:", "Registers:", "Registers: "),
        ("rax 0", "rax", "rax = 0x0 = 0\nA general register."),
        ("cr0 80050033", "cr0", "Set: PE MP ET NE WP AM PG"),
        ("of df if", "zf", "ZF = 0\nZero: the result is 0."),
        ("of df if", "ring", "The guest believes to be in ring"),
        ("out 0xe9, al", "out 0xe9", "Privileged: in ring 3 the CPU refuses it"),
        (
            "out 0xe9, al",
            "⇄",
            "Leaves the guest here: the CPU stops it and calls the host.",
        ),
        ("pushfq", "~ 1", "Sensitive, but it does not trap by itself"),
        ("lea rsi", "│      ││", "Runs directly on the CPU"),
        ("console _", "console", "v shows all of it"),
        ("exits", "exits", "Exits: an emulator has none."),
        ("World switches", "dialogue", "as the guest, the CPU and the host talk about it"),
        ("virtual IF = 0", "virtual IF = 0", "Enter opens its card"),
        (" 100 instructions", "●", "A click goes to instruction"),
        ("space run", "n step", "Step"),
        ("ctrl+p", "ctrl+p", "Everything that can be done here"),
    ],
)
async def test_what_is_told(row: str, word: str, told: str) -> None:
    """Headline, registers, flags, gutter signs, counters, properties, log, timeline and keys have
    tooltips."""
    async with stage(size=(160, 48)) as s:
        await s.press("n", "n")
        assert told in tip_at(s, row, word)


async def test_a_resting_mouse_is_answered_on_the_screen() -> None:
    """When the mouse rests, Textual asks the widget and shows the tooltip beside it."""
    async with stage(size=(120, 40)) as s:
        await s.pilot.hover("#properties", offset=(1, 0))
        widget = s.screen.query_one("#properties")
        assert "one instruction at a time" in str(widget.tooltip)


@pytest.mark.parametrize("size", [(80, 13), (80, 10), (38, 30), (60, 40), (80, 60), (110, 25)])
def test_a_pane_s_parts_are_where_they_are_said_to_be(size: tuple[int, int]) -> None:
    """At every size of a pane each row belongs to its part, and flags and counters to theirs."""
    width, height = size
    session = FakeSession()
    session.step()
    machine = session.snapshot().machines[1]
    rows = pane_rows(machine, View(), width, height, UNICODE)
    named = parts(plan(width - 4, height - 2))
    assert len(named) == len(rows) == height
    texts = ["".join(text for text, _ in row) for row in rows]
    assert "of df" in texts[named.index("flags")].lower()
    assert "exit" in texts[named.index("counter" if "counter" in named else "foot")]
    assert "▸" in "".join(t for t, part in zip(texts, named, strict=True) if part == "code")
    registers = [row for row, part in zip(rows, named, strict=True) if part == "registers"]
    found = {register_at(row, x, machine) for row in registers for x in range(width)}
    assert {"rax", "rsp", "r15"} <= found
    for name in found - {""}:
        assert register_tip(machine, View(), name).startswith(f"{name} = ")
    line = rows[named.index("flags")]
    words = {flag_tip(line, x, machine) for x in range(width)}
    assert sum(any(w.endswith(meaning) for w in words) for meaning in FLAGS.values()) >= 9
