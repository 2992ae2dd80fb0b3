"""The first page: where to start, the lessons, the guests, and what this computer can do.

It is drawn before anything that runs a guest is imported: the first picture waits for Textual alone.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from textual import events, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen

from app.tui.files import EVERY_FILE, REFUSED
from app.tui.guest_list import TEACHING, Guest, shipped
from app.tui.rows.glyphs import UNICODE, Glyphs
from app.tui.rows.home import (
    GUESTS,
    LESSONS,
    START,
    Ability,
    Drawn,
    Item,
    Page,
    Place,
    home_rows,
    paragraphs,
)
from app.tui.rows.rows import Row, printable
from lessons import contents, progress

from ..settings import LESSON, Settings
from ..widgets.keys import Hint, Keys
from ..widgets.line_view import LineView

HINTS: list[Hint] = [
    ("Enter", "begin", "begin"),
    ("o", "open a file", "open"),
    ("c", "new guest", "create"),
    ("/", "find", "find"),
    ("g", "glossary", "glossary"),
    ("i", "edit a copy", "edit"),
    ("q", "quit", "app.quit"),
]

KEPT, TOUR = "kept", "tour"
"""Ids of the session that is kept, and of the way round."""

FIRST_GUESTS = ("hello", "tasks", "tinyos")
"""Those under "Start here"."""

Probe = Callable[[], list[Ability]]


class Shelf(LineView):
    """The page. A click marks a thing, and begins the one that is marked."""

    DEFAULT_CSS = "Shelf { width: 1fr; height: 1fr; }"

    class Chosen(Message):
        def __init__(self, place: Place) -> None:
            super().__init__()
            self.place = place

    def __init__(self) -> None:
        super().__init__(id="shelf")
        self.page = Page((), (), (), None, (START, 0))
        self._drawn = Drawn([])

    def show(self, page: Page) -> None:
        self.page = page
        self.redraw()

    @property
    def starts(self) -> int:
        """Lines under "Start here" for which there is room."""
        return self._drawn.count(START)

    def compose_rows(self, width: int, height: int) -> list[Row]:
        self._drawn = home_rows(self.page, width, height, self.glyphs)
        return self._drawn.rows

    def tip(self, x: int, y: int) -> str:
        place = self._drawn.at(x, y)
        if place is None:
            return ""
        item = self.page.section(place[0])[place[1]]
        return " ".join(item.story[:1]) or item.words

    def on_click(self, event: events.Click) -> None:
        place = self._drawn.at(event.x, event.y)
        if place is not None:
            self.post_message(self.Chosen(place))


class HomeScreen(Screen[None]):
    """Asks the app to open what was chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "begin", "Begin what is marked"),
        Binding("up", "move(-1)", "Up"),
        Binding("down", "move(1)", "Down"),
        Binding("pageup", "move(-10)", "A page up"),
        Binding("pagedown", "move(10)", "A page down"),
        Binding("home", "move(-1000)", "The first"),
        Binding("end", "move(1000)", "The last"),
        Binding("left", "column(-1)", "The lessons"),
        Binding("right,tab", "column(1)", "The guests"),
        Binding("o", "open", "Open a file"),
        Binding("c", "create", "Write a new guest"),
        Binding("i", "edit", "Edit a copy of the guest"),
        Binding("l", "lab", "The hypervisor lab: a VMM of yours beside ours"),
        Binding("slash", "find", "Find a lesson or a guest"),
        Binding("g,G", "glossary", "Glossary"),
        Binding("question_mark,f1", "help", "Help"),
    ]

    class Opened(Message):
        """Run this program."""

        def __init__(self, path: str) -> None:
            super().__init__()
            self.path = path

    class Play(Message):
        """Play this lesson. step: where to begin, from 1."""

        def __init__(self, lesson: str, step: int = 1) -> None:
            super().__init__()
            self.lesson, self.step = lesson, step

    class Returned(Message):
        """Go back to the session that is kept."""

    class Open(Message):
        """Ask for a program, and open it."""

    class Lab(Message):
        """Ask for a student's VMM, and show it beside ours."""

    class Edit(Message):
        """Edit this source; "" begins a new one."""

        def __init__(self, path: str) -> None:
            super().__init__()
            self.path = path

    def __init__(self, probe: Probe, settings: Settings, covered: bool = False) -> None:
        """covered: a session comes over the page at once. Probing waits then: it would take from that
        session's first picture."""
        super().__init__()
        self._covered = covered
        self._settings, self._probe = settings, probe
        self._abilities: tuple[Ability, ...] | None = None
        self._guests = shipped()
        self._course = contents.contents()
        self._kept = ""
        self._looked = False
        self._marked: Place = (START, 0)
        self.shelf = Shelf()
        self.key_row = Keys(HINTS)
        self.key_row.last = ("?", "help", "help")

    @property
    def glyphs(self) -> Glyphs:
        glyphs = getattr(self.app, "glyphs", UNICODE)
        assert isinstance(glyphs, Glyphs)
        return glyphs

    def compose(self) -> ComposeResult:
        yield self.shelf
        yield self.key_row

    def on_mount(self) -> None:
        self._show()

    def _look_once(self) -> None:
        if self._covered:
            self._covered = False
        elif not self._looked:
            self._looked = True
            self.look()

    @work(thread=True)
    def look(self) -> None:
        """Probing a core may start a process: not on the interface's thread."""
        found = self._probe()
        for module in ("app.tui.screens.machines.screen", "app.programs", "lessons.library"):
            importlib.import_module(module)  # while the user reads: what opens next is there at once
        self.app.call_from_thread(self._found, found)

    def _found(self, found: list[Ability]) -> None:
        self._abilities = tuple(found)
        self._show()

    def on_screen_resume(self) -> None:
        """Progress may have been made, and a session may be kept now."""
        kept = getattr(self.app, "kept", "")
        if kept and kept != self._kept:
            self._marked = (START, 0)
        self._kept = kept
        self._show()
        self.call_after_refresh(self._look_once)

    # -- what is on it ------------------------------------------------------------------------

    def _show(self) -> None:
        records = progress.load()
        start, lessons = self._start(records), self._lessons(records)
        page = Page(
            start, lessons, tuple(map(_guest_item, self._guests)), self._abilities, self._marked
        )
        if page.item is None:
            self._marked = (START, 0)
            page = replace(page, marked=self._marked)
        self.shelf.show(page)

    def _lessons(self, records: dict[str, progress.Record]) -> tuple[Item, ...]:
        items = []
        for lesson in self._course:
            record = records.get(lesson.name, progress.Record())
            begun = record.step > 1 and not record.done
            mark = self.glyphs.done if record.done else self.glyphs.dot if begun else ""
            where = f"You were at step {record.step} of {lesson.steps}." if begun else ""
            story = tuple(part for part in (lesson.summary, where) if part)
            items.append(
                Item(
                    LESSON + lesson.name, str(lesson.number), lesson.title, words=lesson.summary,
                    story=story, minutes=f"{lesson.minutes} min", mark=mark,
                )
            )  # fmt: skip
        return tuple(items)

    def _start(self, records: dict[str, progress.Record]) -> tuple[Item, ...]:
        """What was done last, the next lesson, and the guests to begin with."""
        items: list[Item] = []
        if last := self._last(records):
            items.append(last)
        elif TOUR not in records:
            words = "what this shows, on a first program; h leaves it at any time"
            story, short = (f"{words}.".capitalize(),), "what this shows; h leaves it"
            items.append(Item(TOUR, "tour", "90 seconds", short, words, story))
        following = next((x for x in self._course if not records.get(x.name, NEW).done), None)
        if following is not None and LESSON + following.name not in [item.id for item in items]:
            kind = f"lesson {following.number}"
            words = following.summary
            short = words.partition(". ")[0].rstrip(".") + "."
            items.append(Item(LESSON + following.name, kind, following.title, short, words, (words,)))
        for name in FIRST_GUESTS:
            guest = next((guest for guest in self._guests if guest.name == name), None)
            if guest is not None and str(guest.path) not in [item.id for item in items]:
                items.append(replace(_guest_item(guest), kind="guest"))
        return tuple(items[:4])

    def _last(self, records: dict[str, progress.Record]) -> Item | None:
        """The last thing done: a session that is kept, a lesson at its step, or a program."""
        last = self._settings.last
        if self._kept:
            return Item(KEPT, "continue", printable(self._kept), story=("The session that is kept.",))
        if last.startswith(LESSON):
            lesson = next((x for x in self._course if LESSON + x.name == last), None)
            record = records.get(last.removeprefix(LESSON))
            if lesson is None or record is None or record.done:
                return None
            words = f"lesson {lesson.number}, step {record.step} of {lesson.steps}"
            return Item(last, "continue", lesson.title, words=words, story=(lesson.summary, words))
        if not last or not Path(last).is_file():
            return None
        guest = next((guest for guest in self._guests if str(guest.path) == last), None)
        name = printable(last) if guest is None else guest.name
        words = last if guest is None else guest.summary
        return Item(last, "continue", name, words=printable(words), story=(printable(words),))

    # -- what keys and clicks do --------------------------------------------------------------

    @property
    def marked(self) -> Item | None:
        return self.shelf.page.item

    def _mark(self, place: Place) -> None:
        self._marked = place
        self.shelf.show(replace(self.shelf.page, marked=place))

    def action_move(self, by: int) -> None:
        """Up and down in a section, and from "Start here" into the list below it."""
        page, (section, at) = self.shelf.page, self._marked
        wanted = at + by
        count = self.shelf.starts if section == START else len(page.section(section))
        if section != START and wanted < 0 and by == -1:
            self._mark((START, max(0, self.shelf.starts - 1)))
        elif section == START and wanted >= count and by == 1 and page.lessons:
            self._mark((LESSONS, 0))
        else:
            self._mark((section, max(0, min(wanted, count - 1))))

    def action_column(self, by: int) -> None:
        """To the lessons or the guests."""
        page = self.shelf.page
        section = GUESTS if by > 0 and self._marked[0] != GUESTS else LESSONS
        at = self._marked[1] if self._marked[0] != START else 0
        if page.section(section):
            self._mark((section, min(at, len(page.section(section)) - 1)))

    def on_shelf_chosen(self, message: Shelf.Chosen) -> None:
        if message.place == self._marked:
            self.action_begin()
        else:
            self._mark(message.place)

    def on_mouse_scroll_down(self) -> None:
        self.action_move(1)

    def on_mouse_scroll_up(self) -> None:
        self.action_move(-1)

    def action_begin(self) -> None:
        if self.marked is not None:
            self._begin(self.marked)

    def _begin(self, item: Item) -> None:
        if item.id == KEPT:
            self.post_message(self.Returned())
        elif item.id == TOUR:
            self.post_message(self.Play(str(contents.TOUR)))
        elif item.id.startswith(LESSON):
            name = item.id.removeprefix(LESSON)
            record = progress.load().get(name, NEW)
            step = max(1, record.step) if item.kind == "continue" and not record.done else 1
            self.post_message(self.Play(name, step))
        else:
            self.post_message(self.Opened(item.id))

    def action_edit(self) -> None:
        item = self.marked
        if item is not None and item.id not in (KEPT, TOUR) and not item.id.startswith(LESSON):
            self.post_message(self.Edit(item.id))
        else:
            self.notify("A guest can be edited: mark one", severity="warning")

    def action_create(self) -> None:
        self.post_message(self.Edit(""))

    def action_open(self) -> None:
        files = getattr(self.app, "files", EVERY_FILE)
        if files.all:
            self.post_message(self.Open())
        else:
            self.notify(REFUSED.capitalize(), severity="warning")

    def action_lab(self) -> None:
        self.post_message(self.Lab())

    def action_find(self) -> None:
        from .pick import Pick

        page = self.shelf.page
        names = {f"lesson {item.kind}  {item.name}": item for item in page.lessons}
        names |= {f"guest  {item.name}  {item.words}": item for item in page.guests}

        def answered(name: str | None) -> None:
            if name is not None:
                self._begin(names[name])

        self.app.push_screen(Pick("Begin which?", list(names)), answered)

    def action_glossary(self) -> None:
        from .glossary import GlossaryScreen

        self.app.push_screen(GlossaryScreen())

    def action_help(self) -> None:
        from .. import help_topics
        from .help import HelpSheet

        self.app.push_screen(HelpSheet(help_topics.HOME, self.glyphs))


NEW = progress.Record()


def _guest_item(guest: Guest) -> Item:
    notes = [f"{guest.summary[:1].upper()}{guest.summary[1:]}."] if guest.summary else []
    if guest.disk is not None:
        notes.append(f"It is started with a disk of its own, {guest.disk.name}.")
    if guest.nets or guest.virtio:
        given = [f"--net {net}" for net in guest.nets]
        given += [f"--virtio {','.join(guest.virtio)}"] if guest.virtio else []
        notes.append(f"It is started with {' '.join(given)}.")
    story = guest.story if guest.story[:1] == ("",) else ("", *guest.story)
    short = TEACHING.get(guest.name, "")
    told = paragraphs((*notes, *story))
    return Item(str(guest.path), "guest", guest.name, short, guest.summary, told)
