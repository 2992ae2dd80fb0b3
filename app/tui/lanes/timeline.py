"""The way come so far, in instructions: exits marked while they are few, and where they are many the
share of instructions that left, as a low histogram."""

from __future__ import annotations

from app.tui.rows.rows import Row, row, width_of

_LEVELS = "▁▂▃▄▅▆▇"
FREE = " free: nobody counts instructions, and there is no way back"


def scale_for(furthest: int) -> int:
    """The end of the axis: 1, 2 or 5 times a power of ten, so that it seldom moves."""
    scale = 100
    while True:
        for factor in (1, 2, 5):
            if furthest <= scale * factor:
                return scale * factor
        scale *= 10


def ends(now: int, furthest: int) -> tuple[str, str]:
    return f" {now:,} ", f" {scale_for(furthest):,} instructions "


def room(now: int, furthest: int, width: int) -> int:
    """Cells of the axis."""
    return max(1, width - sum(map(width_of, ends(now, furthest))))


def axis(now: int, furthest: int, marks: dict[int, int], cells: int) -> Row:
    """marks: instruction -> how many exited in the stretch that begins there."""
    scale = scale_for(furthest)
    here = min(cells - 1, now * cells // scale)
    hits: dict[int, int] = {}
    for at, count in marks.items():
        x = min(cells - 1, at * cells // scale)
        hits[x] = hits.get(x, 0) + count
    dense = len(hits) > max(12, min(cells, furthest * cells // scale) // 3)
    per_cell = max(1.0, scale / cells)
    merged: list[tuple[str, str]] = []
    for x in range(cells):
        if x == here:
            sign = ("●", "strong")
        elif x in hits and dense:
            share = min(1.0, hits[x] / per_cell)
            sign = (_LEVELS[min(6, int(14 * share))], "host")
        elif x in hits:
            sign = ("┼", "host")
        else:
            sign = ("─", "dim" if x < here else "faint")
        if merged and merged[-1][1] == sign[1]:
            merged[-1] = (merged[-1][0] + sign[0], sign[1])
        else:
            merged.append(sign)
    return tuple(merged)


def timeline_row(now: int | None, furthest: int, marks: dict[int, int], width: int) -> Row:
    if now is None:
        return row((FREE, "dim"))
    left, right = ends(now, furthest)
    return row(
        (left, "strong"), *axis(now, furthest, marks, room(now, furthest, width)), (right, "dim")
    )


def progress_row(width: int, done: int, goal: int) -> Row:
    """On the way to an instruction."""
    share = done / max(1, goal)
    left, right = f" on the way to {goal:,}  ", f" {100 * share:3.0f} %  space: stop here "
    cells = max(1, width - len(left) - len(right))
    full = round(cells * share)
    bar = (("█" * full, "host"), ("─" * (cells - full), "faint"))
    return row((left, "strong"), *bar, (right, "dim"))
