"""A page of a lesson as rows: its text, its question with the choices."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from app.text import lesson as lesson_text
from app.tui.lanes.layout import rule
from app.tui.lanes.scene import Scene
from app.tui.rows.rows import EMPTY, Row, fit, printable, row, row_width, width_of
from lessons.play.events import Asked, Begun, Event, Loaded, Looked, Moved, Shown, Verdict

WIDEST = 96
"""Cells of a line of text: longer ones are hard to read."""
IN_PLACE = frozenset({"registers", "code", "console", "rings"})
"""Views that the session screen is already."""
LETTERS = "abcdef"


@dataclass(frozen=True, slots=True)
class Block:
    """The rows of one event. whole: a question, which is not parted from its choices."""

    rows: list[Row]
    whole: bool = False


def event_block(event: Event, width: int, picked: int | None = None) -> Block:
    """One event of the player, in ``width`` cells. What the screen shows anyway is not said again.
    picked: the choice of a question that is marked, None where it waits no longer."""
    match event:
        case Begun() | Moved() | Loaded():
            return Block([])
        case Shown(view=view) if view in IN_PLACE:
            return Block([])
        case Asked():
            return Block(_question(event, width, picked), whole=True)
        case Looked(kind, target, values):
            return Block(_looked(kind, target, values, width))
    role = "strong" if isinstance(event, Verdict) else "text"
    return Block([line for part in _lines(event, width) for line in _rows(part, width, role)])


def _lines(event: Event, width: int) -> list[str]:
    text = lesson_text.event(event, width)
    return text.split("\n") if text else []


def _rows(line: str, width: int, role: str) -> list[Row]:
    """A line of text, which is wrapped already; code and tables go on below where they are wider."""
    if not line.strip():
        return [EMPTY]
    indent = line[: len(line) - len(line.lstrip())]
    parts = [line] if width_of(line) <= width else textwrap.wrap(line, width, subsequent_indent=indent)
    return [row(" ", (printable(part), role)) for part in parts]


def _looked(kind: str, target: str, values: tuple[tuple[str, str], ...], width: int) -> list[Row]:
    """The values at which the lesson points. A machine or a place in the program is marked there."""
    if all(name == "at" for name, _ in values):
        return []
    text = lesson_text.wrap(lesson_text.looked(kind, target, values), "  ", width - 2)
    return [
        row(" ", ("› " if y == 0 else "  ", "key"), (printable(line), "strong"))
        for y, line in enumerate(text.split("\n"))
    ]


def _question(asked: Asked, width: int, picked: int | None) -> list[Row]:
    words = lesson_text.wrap(lesson_text.plain(asked.question), "", width)
    rows: list[Row] = [row(" ", (printable(line), "strong")) for line in words.split("\n")]
    for i, choice in enumerate(asked.choices):
        mark = ("▸ " if i == picked else "  ", "host-bold")
        lines = lesson_text.wrap(lesson_text.plain(choice), "", width - 6).split("\n")
        role = "strong" if i == picked else "text"
        rows.append(row(" ", mark, (LETTERS[i], "key"), ("  " + printable(lines[0]), role)))
        rows += [row("      ", (printable(line), role)) for line in lines[1:]]
    return rows


def text_blocks(events: tuple[Event, ...], width: int, picked: int | None) -> list[Block]:
    """All of a turn, on a screen of that width."""
    width = max(10, min(width - 2, WIDEST))
    blocks = [block for event in events if (block := event_block(event, width, picked)).rows]
    views = [event for event in events if isinstance(event, Shown)]
    if views and not blocks:  # a pause over the machines themselves
        return [
            Block([row((f" Look above: {view.view}, {view.core or 'all machines'}.", "dim"))])
            for view in views
        ]
    return blocks


def with_votes(blocks: list[Block], votes: str, width: int) -> list[Block]:
    """The votes of the class below the question, and on its page."""
    rows = [row(" ", (part, "key")) for part in textwrap.wrap(votes, max(10, width - 2))]
    if blocks and blocks[-1].whole:
        return [*blocks[:-1], Block([*blocks[-1].rows, *rows], whole=True)]
    return [*blocks, Block(rows)]


def pages(blocks: list[Block], height: int) -> list[list[Row]]:
    """The turn in pages of at most ``height`` rows, an empty one between two blocks. A block that fits
    on a page is not divided; a longer one begins on the page before it if half of that is free."""
    out: list[list[Row]] = []
    page: list[Row] = []
    for block in blocks:
        fits = block.whole or len(block.rows) <= height
        if page and len(page) + 1 + len(block.rows) > height and (fits or len(page) > height // 2):
            out.append(page)
            page = []
        page = [*page, EMPTY, *block.rows] if page else list(block.rows)
        while len(page) > height:
            at = next((y for y in range(height, height // 2, -1) if page[y] == EMPTY), height)
            out.append(page[:at])
            page = page[at:]
            while page and page[0] == EMPTY:
                page = page[1:]
    return [*out, page]


def lesson_rule(scene: Scene, title: str, step: str, keys: str) -> Row:
    """The title, the step, and what the reader can do now: words in which each key stands first,
    parted by three blanks."""
    right: Row = EMPTY
    for i, part in enumerate(keys.split("   ") if keys else []):
        key, _, words = part.partition(" ")
        right += row(("   " if i else "", "dim"), (key, "key"), (f" {words}" if words else "", "dim"))
    room = scene.width - row_width(right) - width_of(step) - 12
    shown = title if width_of(title) <= room else fit(title, max(8, room), "…")
    return rule(scene, row((shown, "strong"), (f"  {step}" if step else "", "dim")), right)
