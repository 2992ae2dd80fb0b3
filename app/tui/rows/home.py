"""The first page as rows: where to start, the lessons, the guests, this computer, and the marked one.

Pure: from what there is to a list of rows, with the place of each thing that can be chosen.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field

from app.tui.rows.glyphs import Glyphs
from app.tui.rows.rows import EMPTY, Row, fit, fit_row, printable, raised, row, row_width, width_of

LEAST_WIDTH, LEAST_HEIGHT = 60, 14
"""A smaller screen asks to be made larger."""
WIDE = 100
"""Columns from which minutes and whole summaries are shown."""

LEAST_START = 1
"""Places to start that are always shown."""

START, LESSONS, GUESTS = "start", "lessons", "guests"
Place = tuple[str, int]
"""A section, and the number of an item in it, from 0."""


@dataclass(frozen=True, slots=True)
class Item:
    """Something to begin. kind: as shown before it ("lesson 1", "guest", "continue"). short: what it
    is, in few words; words: in a line; story: paragraphs. minutes: "6 min", or "". mark: of
    progress."""

    id: str
    kind: str
    name: str
    short: str = ""
    words: str = ""
    story: tuple[str, ...] = ()
    minutes: str = ""
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Ability:
    """A core on this computer. words: what executes its guests here, or why it cannot run, from long to
    short. role: "cpu" or "soft" by who executes, "" where that is not known."""

    core: str
    available: bool
    words: tuple[str, ...]
    role: str = ""


CORE_TITLES = {"interpreter": "emulator", "trap": "trap and emulate", "kvm": "KVM"}


@dataclass(frozen=True, slots=True)
class Page:
    """All that the first page shows. abilities: None while they are looked for."""

    start: tuple[Item, ...]
    lessons: tuple[Item, ...]
    guests: tuple[Item, ...]
    abilities: tuple[Ability, ...] | None
    marked: Place

    def section(self, name: str) -> tuple[Item, ...]:
        return {START: self.start, LESSONS: self.lessons, GUESTS: self.guests}[name]

    @property
    def item(self) -> Item | None:
        """The marked one."""
        section, at = self.marked
        items = self.section(section)
        return items[at] if at < len(items) else None


@dataclass(slots=True)
class Drawn:
    """rows, and the places of the things to choose: (first column, last, row) -> place."""

    rows: list[Row]
    spots: dict[tuple[int, int, int], Place] = field(default_factory=dict)

    def count(self, section: str) -> int:
        """Things of a section that are in sight."""
        return sum(place[0] == section for place in self.spots.values())

    def at(self, x: int, y: int) -> Place | None:
        found = (place for (a, b, row), place in self.spots.items() if row == y and a <= x < b)
        return next(found, None)


def home_rows(page: Page, width: int, height: int, glyphs: Glyphs) -> Drawn:
    """The page in ``height`` rows, without the row of keys."""
    if width < LEAST_WIDTH or height < LEAST_HEIGHT:
        need = f"{LEAST_WIDTH} columns and {LEAST_HEIGHT + 1} rows"
        words = ("Make the window larger, please:", f"{need} at least.")
        return Drawn([EMPTY, *(row((fit(f" {line}", width), "strong")) for line in words)][:height])
    airy = height >= 34
    roomy = height - 3 >= LEAST_START + len(page.lessons)  # two rules, and all lessons in sight
    title, head = " Ringscope", "   one program on an emulator, on this CPU, and on KVM, side by side"
    if not roomy:
        title, head = " Ringscope   Start here", "   one program on an emulator, this CPU, and KVM"
    rows: list[Row] = [row((title, "strong"), (fit(head, width - len(title), glyphs.more), "dim"))]
    drawn = Drawn(rows)
    if airy:
        rows.append(EMPTY)
    if roomy:
        rows.append(_rule("Start here", "", width, glyphs))
    name_width = max((width_of(item.name) for item in page.start), default=0)
    spare = height - len(rows) - 1 - airy - len(page.lessons)  # where all lessons are to be in sight
    for at, item in enumerate(page.start[: max(LEAST_START, spare)]):
        drawn.spots[(0, width, len(rows))] = (START, at)
        rows.append(_start_row(item, (START, at) == page.marked, name_width, width, glyphs))
    if airy:
        rows.append(EMPTY)
    left = 57 if width >= WIDE else 46 if width >= 78 else width * 46 // 80
    room = height - len(rows)
    top = len(rows)
    lessons = _list(page, LESSONS, _lessons_title(page, width), left - 1, room, glyphs)
    right = _right(page, width - left - 1, room, glyphs, airy=airy)
    for block, x, size in ((lessons, 0, left - 1), (right, left + 1, width - left - 1)):
        for (_, _, y), place in block.spots.items():
            drawn.spots[(x, x + size, top + y)] = place
    for y in range(max(len(lessons.rows), len(right.rows))):
        a = lessons.rows[y] if y < len(lessons.rows) else EMPTY
        b = right.rows[y] if y < len(right.rows) else EMPTY
        rows.append((*fit_row(a, left - 1), ("  ", "text"), *fit_row(b, width - left - 1)))
    return drawn


def _lessons_title(page: Page, width: int) -> tuple[str, str]:
    how = "each builds on the one before" if width >= WIDE else "in order"
    return "Lessons", f"{len(page.lessons)}, {how}"


def _rule(title: str, more: str, width: int, glyphs: Glyphs) -> Row:
    head = row(
        (glyphs.across * 2 + " ", "faint"), (title, "strong"), (f"  {more}" if more else "", "dim")
    )
    head = fit_row(head, min(row_width(head), width - 1))
    return (*head, (" " + glyphs.across * max(0, width - row_width(head) - 1), "faint"))


def _start_row(item: Item, marked: bool, names: int, width: int, glyphs: Glyphs) -> Row:
    kind = fit(item.kind, 10)
    sign = f" {glyphs.next} " if marked else "   "
    name = fit(item.name, min(names, width - 15), glyphs.more)
    room = width - 16 - width_of(name)
    words = item.words if item.words and width_of(item.words) <= room else item.short or item.words
    words = fit(words, room, glyphs.more)
    line = row(
        (sign, "exit"), (kind, "dim"), (name, "strong" if marked else "text"), "  ", (words, "dim")
    )
    line = fit_row(line, width)
    return raised(line) if marked else line


def _list(
    page: Page, section: str, title: tuple[str, str], width: int, room: int, glyphs: Glyphs
) -> Drawn:
    """A section's rule and its items, those around the marked one where there are too many."""
    items = page.section(section)
    count = max(1, room - 1)
    at = page.marked[1] if page.marked[0] == section else 0
    first = max(0, min(at - count // 2, len(items) - count))
    drawn = Drawn([_rule(*title, width, glyphs)])
    for number, item in list(enumerate(items))[first : first + count]:
        drawn.spots[(0, width, len(drawn.rows))] = (section, number)
        marked = (section, number) == page.marked
        make = _lesson_row if section == LESSONS else _guest_row
        line = fit_row(make(item, marked, width, glyphs), width)
        drawn.rows.append(raised(line) if marked else line)
    cut = len(items) - first - count
    if cut > 0:
        more = row((f"    {cut + 1} more below", "dim"))
        drawn.rows[-1] = more
        drawn.spots = {
            spot: place for spot, place in drawn.spots.items() if spot[2] < len(drawn.rows) - 1
        }
    return drawn


def _lesson_row(item: Item, marked: bool, width: int, glyphs: Glyphs) -> Row:
    sign = f" {glyphs.next} " if marked else "   "
    role = "strong" if marked else "text"
    minutes = f"{item.minutes:>7} " if width >= 52 else ""
    room = width - 8 - len(minutes)
    return row(
        (sign, "exit"), (f"{item.kind:>2} ", "dim"), (fit(item.mark, 2), "good"),
        (fit(item.name, room, glyphs.more), role), (minutes, "dim"),
    )  # fmt: skip


def _guest_row(item: Item, marked: bool, width: int, glyphs: Glyphs) -> Row:
    sign = f" {glyphs.next} " if marked else "   "
    room = width - 13
    words = item.words if width_of(item.words) <= room or room > 40 else item.short or item.words
    role = "strong" if marked else "text"
    return row((sign, "exit"), (fit(item.name, 10), role), (fit(words, room, glyphs.more), "dim"))


def _right(page: Page, width: int, room: int, glyphs: Glyphs, *, airy: bool) -> Drawn:
    """The guests, this computer, and what is said of the marked item where there is room for that."""
    computer = _computer(page, width, glyphs)
    gap = [EMPTY] if airy else []
    guests_room = min(len(page.guests) + 1, room - len(computer) - len(gap))
    title = ("Guests", "to watch and to change" if width >= 50 else "")
    drawn = _list(page, GUESTS, title, width, max(2, guests_room), glyphs)
    drawn.rows += [*gap, *computer]
    left = room - len(drawn.rows) - len(gap)
    if left >= 4 and page.item is not None:
        drawn.rows += [*gap, *_about(page.item, width, left, glyphs)]
    return drawn


def _computer(page: Page, width: int, glyphs: Glyphs) -> list[Row]:
    rows = [_rule("This computer", "", width, glyphs)]
    if page.abilities is None:
        return [*rows, row((" looking ...", "dim")), EMPTY, EMPTY]
    for ability in shown_abilities(page.abilities):
        name = CORE_TITLES[ability.core.partition(":")[0]]
        state = ("runs  ", "strong") if ability.available else ("cannot  ", "bad")
        head = row(" ", fit(name, 17), state)
        room = width - row_width(head)
        fitting = [words for words in ability.words if width_of(words) <= room]
        words = fitting[0] if fitting else ability.words[-1]
        words = fit(printable(words), room, glyphs.more)
        role = ability.role if ability.available and ability.role else "dim"
        rows.append((*head, (words, role)))
    return rows


def shown_abilities(abilities: tuple[Ability, ...]) -> list[Ability]:
    """A row for each kind of machine: of the two trap cores the one that `trap` means here."""
    kinds: dict[str, Ability] = {}
    for ability in abilities:
        kind = ability.core.partition(":")[0]
        if kind not in kinds or (ability.available and not kinds[kind].available):
            kinds[kind] = ability
    return list(kinds.values())


def _about(item: Item, width: int, height: int, glyphs: Glyphs) -> list[Row]:
    title = item.name if not item.kind.isdigit() else f"Lesson {item.kind}"
    rows = [_rule(printable(title), "", width, glyphs)]
    lines = [line for part in item.story for line in _wrapped(part, width - 2)]
    room = height - 3
    if len(lines) > room:
        lines = lines[: max(0, room - 1)]
        while lines and not lines[-1]:
            lines.pop()
        lines.append(glyphs.more)
    rows += [row(" ", (line, "text")) for line in lines]
    return [*rows, EMPTY, row(" ", ("Enter", "key"), (" begins it", "dim"))]


INDENT = 2
"""Blanks before a line that keep it a line of its own: a table, a list."""


def paragraphs(lines: tuple[str, ...]) -> tuple[str, ...]:
    """Lines of running text joined; indented and empty ones stay alone."""
    parts: list[str] = []
    joined = False
    for line in map(printable, lines):
        alone = not line or line.startswith(" " * INDENT)
        if joined and not alone:
            parts[-1] += f" {line}"
        else:
            parts.append(line.rstrip())
        joined = not alone
    return tuple(parts)


def _wrapped(part: str, width: int) -> list[str]:
    """A paragraph in lines; those after an indented first one stand further in."""
    if not part:
        return [""]
    indent = " " * (len(part) - len(part.lstrip()) + INDENT) if part.startswith(" ") else ""
    return textwrap.wrap(part, max(20, width), subsequent_indent=indent)
