"""Sizes: of a lane by the width, of each part by the height; and ``lanes``, which makes a row.

All depend on the size of the screen alone, so that nothing jumps while the machines run.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.tui.lanes.scene import Scene
from app.tui.rows.rows import EMPTY, Row, fit_row, row_width, width_of


def first_fit(width: int, *wordings: str) -> str:
    """The longest wording that fits whole, of those given from long to short; else the last, cut."""
    for words in wordings:
        if width_of(words) <= width:
            return words
    return wordings[-1][: max(0, width - 1)] + "…" if width > 0 else ""


def lanes(scene: Scene, left: Row, cells: list[Row]) -> Row:
    """A row: the left part, then a cell for each lane. The one place where columns are made."""
    out = list(fit_row(left, scene.left))
    for cell in cells:
        out += [(" ", "text"), *fit_row(cell, scene.lane - 1)]
    return tuple(out)


def rule(scene: Scene, left: Row, right: Row = EMPTY, *, focus: bool = False) -> Row:
    """A line across the screen with a title in it, and a key or a legend at its right end."""
    line, role = ("━", "strong") if focus else ("─", "faint")
    room = scene.width - 3 - (row_width(right) + 4 if right else 0) - 1
    if row_width(left) > room:
        left = fit_row(left, max(0, room))
    head: Row = ((line * 2 + " ", role), *left, (" ", "text"))
    tail: Row = ((" ", "text"), *right, (f" {line * 2}", role)) if right else EMPTY
    rest = max(0, scene.width - row_width(head) - row_width(tail))
    return (*head, (line * rest, role), *tail)


@dataclass(frozen=True, slots=True)
class Plan:
    """Rows of each part, without the rules above program and lower part. track: 0 or 3. bar: the share
    done without the VMM. regrule: is there a rule above the registers? extra: for output and log."""

    code: int
    lower: int
    regs: int = 0
    track: int = 0
    bar: int = 0
    regrule: int = 0
    extra: int = 0


_WISHES = (
    ("code", 2), ("track", 3), ("regrule", 1), ("code", 1), ("regs", 2), ("code", 4), ("bar", 1),
    ("grid", 0), ("code", 4), ("extra", 4), ("code", 4), ("extra", 6), ("code", 6), ("extra", 16),
    ("code", 30),
)  # fmt: skip
FIXED = 11
"""Header, names, five facts, two rules, timeline and keys."""


def grid_columns(width: int) -> int:
    """Registers in a row of the full list: 22 cells each, so that no value is cut."""
    return min(8, width // 22)


def grid_rows(width: int) -> int:
    columns = grid_columns(width)
    return 2 if columns == 8 else -(-18 // columns)


def plan(width: int, height: int, lower: int = 3) -> Plan:
    """Share out the rows: the parts that are never dropped, then wishes in their order of worth.
    lower: rows of the lower part, which a list makes higher than three sentences."""
    rows = {"code": 5, "track": 0, "bar": 0, "regrule": 0, "regs": 2, "extra": 0}
    left = height - FIXED - lower - 7
    if left < 0:  # a small screen: the registers go first, then code
        rows["regs"] = max(0, 2 + left)
        rows["code"] = max(3, 5 + min(0, left + 2))
        lower = max(1, min(lower, height - FIXED - rows["regs"] - rows["code"]))
        left = 0
    for name, wish in _WISHES:
        part, wanted = ("regs", grid_rows(width) - 1) if name == "grid" else (name, wish)
        if wanted and left >= wanted:
            rows[part] += wanted
            left -= wanted
    rows["code"] += left
    return Plan(lower=lower, **rows)


def list_rows(height: int) -> int:
    """Rows of a list in the lower part: reasons, exits."""
    return min(9, max(4, height // 4))
