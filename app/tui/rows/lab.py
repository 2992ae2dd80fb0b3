"""The lab's screen as rows: the student's exits and ours side by side, and what was done at one."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from app.lab import Result
from app.tui.rows.glyphs import Glyphs
from app.tui.rows.rows import Row, fit, fit_row, printable, raised, row, row_width
from cores.lab.log import Event
from cores.lab.pairs import Pair, done, line

TELLING = 9
"""Rows below the list, where the height permits."""


@dataclass(frozen=True, slots=True)
class Shown:
    """title: of the step. result: of the guest in sight, number ``place`` of ``count``. pairs: its
    exits. cursor: the one that is marked. busy: the guests are being run."""

    title: str
    result: Result
    place: int
    count: int
    pairs: list[Pair]
    cursor: int
    busy: bool = False


def lab_rows(shown: Shown, width: int, height: int, glyphs: Glyphs) -> list[Row]:
    """The whole screen but its last row."""
    told = _told(shown, width)
    below = min(len(told), max(3, min(TELLING, height // 3)))
    room = max(1, height - 3 - below)
    first = max(0, min(shown.cursor - room // 2, len(shown.pairs) - room))
    half = (width - 5) // 2
    head = row((fit("  your VMM", half) + "   ours", "strong"))
    rows = [_title(shown, width, glyphs), head]
    for index, pair in enumerate(shown.pairs[first : first + room], first):
        one = _pair(pair, half, glyphs)
        rows.append(raised(fit_row(one, width)) if index == shown.cursor else one)
    rows += [row("")] * (2 + room - len(rows))
    rows.append(row((glyphs.across * width, "faint")))
    return [*rows, *told[:below]]


def _title(shown: Shown, width: int, glyphs: Glyphs) -> Row:
    passed = shown.result.verdict.passed
    words, role = ("right", "cpu") if passed else ("not yet", "bad")
    if shown.busy:
        words, role = "running ...", "dim"
    right = row((f"{words} ", role))
    left = f" {shown.title}   {shown.result.name}  ({shown.place} of {shown.count})"
    return (*row((fit(left, max(0, width - row_width(right)), glyphs.more), "strong")), *right)


def _pair(pair: Pair, half: int, glyphs: Glyphs) -> Row:
    mark, role = (glyphs.unequal, "bad") if pair.parts else (glyphs.down, "faint")
    mine = "" if pair.mine is None else f"{pair.mine.number:>4} {line(pair.mine)}"
    ours = "" if pair.ours is None else line(pair.ours)
    quiet = pair.mine is not None and pair.mine.quiet
    tone = "bad" if pair.parts else "dim" if quiet else "text"
    return row(
        (fit(" " + printable(mine), half, glyphs.more), tone), (f" {mark} ", role),
        (fit(printable(ours), half, glyphs.more), tone),
    )  # fmt: skip


def _told(shown: Shown, width: int) -> list[Row]:
    """What is wrong, and what was done at the marked exit."""
    rows: list[Row] = []
    words = shown.result.verdict.words
    if words:
        rows += [row((f" {text}", "bad")) for text in textwrap.wrap(printable(words), width - 2)[:4]]
    if shown.pairs:
        pair = shown.pairs[shown.cursor]
        rows += _done("yours", pair.mine, width) + _done("ours", pair.ours, width)
    if shown.result.student.printed and not shown.result.verdict.passed:
        last = shown.result.student.printed.rstrip("\n").rsplit("\n", 1)[-1]
        rows.append(row((" printed  ", "dim"), printable(last)[: max(0, width - 10)]))
    return rows


def _done(who: str, event: Event | None, width: int) -> list[Row]:
    words = "-" if event is None else done(event)
    label = f" {who:<6} "
    wrapped = textwrap.wrap(printable(words), max(10, width - len(label) - 1))[:2]
    return [row((label if not i else " " * len(label), "dim"), text) for i, text in enumerate(wrapped)]
