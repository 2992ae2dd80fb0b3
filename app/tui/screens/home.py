"""The first page: what there is to run, and what this machine can do."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.screen import Screen
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from app.programs import FIRST
from app.tui.guest_list import Guest, shipped
from app.tui.rows.glyphs import UNICODE, Glyphs
from app.tui.rows.machine_parts import kind, title
from app.tui.rows.rows import EMPTY, Row, boxed, fit, printable, row, row_width
from cores.engines.base import RingZero
from cores.errors import RingscopeError

from .. import help_topics
from ..widgets.keys import Hint, Keys
from ..widgets.line_view import LineView
from .about import About
from .ask import Ask
from .help import HelpSheet

if TYPE_CHECKING:
    from lessons.format.script import Lesson

HINTS: list[Hint] = [
    ("Enter", "run", "run_chosen"),
    ("o", "open a file", "open"),
    ("i", "edit a copy", "edit"),
    ("c", "new guest", "create"),
    ("?", "help", "help"),
    ("G", "glossary", "glossary"),
    ("q", "quit", "app.quit"),
]

KEPT = "kept"
"""Id of the row that returns to the session that is kept."""
GUEST, LESSON = "guest:", "lesson:"
"""Prefixes of the list's row ids; ids without one are paths."""

ABOUT = (
    "One program, three machines. The emulator executes it in software. Trap and emulate runs it on"
    " this CPU, held in ring 3: each privileged instruction traps to the host. KVM gives it a ring 0 of"
    " its own, in the CPU's guest mode, or interpreted where hardware support is missing."
)


@dataclass(frozen=True, slots=True)
class Ability:
    """A core and whether it runs here. words: which engine, or why not. ring_zero: how it brings
    about the guest's ring 0, where it runs."""

    core: str
    available: bool
    words: str
    ring_zero: RingZero = RingZero.UNKNOWN


Probe = Callable[[], list[Ability]]


class Abilities(LineView):
    """The cores and whether they run here; filled once they have been probed."""

    def __init__(self) -> None:
        super().__init__(id="abilities")
        self.found: list[Ability] | None = None

    def show(self, found: list[Ability]) -> None:
        self.found = found
        self.redraw()

    def tip(self, x: int, y: int) -> str:
        return "The cores that can run a guest on this machine. `ringscope doctor` says more."

    def compose_rows(self, width: int, height: int) -> list[Row]:
        inner = width - 4
        body: list[Row] = [EMPTY]
        if self.found is None:
            body.append(row(("looking ...", "dim")))
        short = self.screen.has_class("-narrow")
        for ability in self.found or []:
            role = kind(ability.core) if ability.available else "dim"
            state = ("runs here", "strong") if ability.available else ("not here ", "dim")
            name = fit(title(ability.core, ability.ring_zero), 18)
            head = row((name, role), (fit(ability.core, 15), "text"), state)
            if short:
                room = inner - row_width(head) - 2
                body.append((*head, ("  " + fit(ability.words, room, self.glyphs.more), "dim")))
                continue
            body.append(head)
            body += [row(("  " + line, "dim")) for line in textwrap.wrap(ability.words, inner - 2)[:3]]
            body.append(EMPTY)
        if short:
            body = [*body[1:], EMPTY]
        body += [row((line, "comment")) for line in textwrap.wrap(ABOUT, inner)]
        if len(body) > height - 2:  # long reasons: rather these than the gaps
            body = [line for line in body if line != EMPTY]
        return boxed(row((" This machine ", "strong")), body, width, height, self.glyphs, "faint")


class Masthead(LineView):
    """The name."""

    def compose_rows(self, width: int, height: int) -> list[Row]:
        words = "  the same program on an emulator and on the real CPU, side by side"
        return [EMPTY, row((" Ringscope", "strong"), (fit(words, width - 10), "dim"))]


def _described(guest: Guest) -> Content:
    return Content.assemble((f"{guest.name:<12}", "bold"), (guest.summary, "dim"))


def _lessons() -> list[tuple[Lesson, bool]]:
    """The course, each lesson with whether it has been played to its end; nothing where it cannot be
    read."""
    from lessons import library, progress

    try:
        played = {name for name, record in progress.load().items() if record.done}
        return [(lesson, lesson.name in played) for lesson in library.course()]
    except RingscopeError:
        return []


class HomeScreen(Screen[None]):
    """Asks the app to open what was chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("o", "open", "Open a file"),
        Binding("i", "edit", "Edit a copy of the guest"),
        Binding("c", "create", "Write a new guest"),
        Binding("G", "glossary", "Glossary"),
        Binding("question_mark,f1", "help", "Help"),
    ]
    # Textual declares these as instance variables.
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (96, "-wide"), (140, "-broad")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-low"), (38, "-high")]  # noqa: RUF012

    class Opened(Message):
        """Run this program."""

        def __init__(self, path: str) -> None:
            super().__init__()
            self.path = path

    class Play(Message):
        """Play this lesson."""

        def __init__(self, lesson: str) -> None:
            super().__init__()
            self.lesson = lesson

    class Returned(Message):
        """Go back to the session that is kept."""

    class Edit(Message):
        """Edit this source; "" begins a new one."""

        def __init__(self, path: str) -> None:
            super().__init__()
            self.path = path

    def __init__(self, probe: Probe, last: str = "") -> None:
        """last: the program that was open last."""
        super().__init__()
        self._last = last
        self._kept = ""
        self._probe = probe
        self._guests = shipped()
        self._course: dict[str, Lesson] = {}

    @property
    def glyphs(self) -> Glyphs:
        glyphs = getattr(self.app, "glyphs", UNICODE)
        assert isinstance(glyphs, Glyphs)
        return glyphs

    def compose(self) -> ComposeResult:
        yield Masthead(id="masthead")
        with Horizontal(id="shelf"):
            with Vertical(id="guests-box") as box:
                box.border_title = "Guests and lessons"
                box.tooltip = "Enter runs a guest or plays a lesson; i edits a copy of a guest."
                yield OptionList(
                    *self._options(),
                    id="guests",
                    markup=False,
                )
            with Vertical(id="facts"):
                yield Abilities()
                yield About()
        yield Keys(HINTS)

    def _options(self) -> list[Option | None]:
        """The rows of the list: the program that was open last, then the guests."""
        rows: list[Option | None] = []
        if self._last and Path(self._last).is_file():
            words = Content.assemble(("continue   ", "bold"), (printable(self._last), "dim"))
            rows += [Option(words, id=self._last), None]
        return rows + [Option(_described(g), id=f"{GUEST}{g.path}") for g in self._guests]

    @work(thread=True)
    def list_lessons(self) -> None:
        """Reading the course takes a moment: the guests are there before."""
        found = _lessons()
        self.app.call_from_thread(self._add_lessons, found)

    def _add_lessons(self, found: list[tuple[Lesson, bool]]) -> None:
        options = self.query_one(OptionList)
        if found:
            options.add_option(None)
        for number, (lesson, done) in enumerate(found, 1):
            self._course[lesson.name] = lesson
            mark = self.glyphs.done if done else " "
            words = Content.assemble((f"lesson {number:>2} {mark} ", "bold"), (lesson.title, "dim"))
            options.add_option(Option(words, id=LESSON + lesson.name))

    def on_mount(self) -> None:
        options = self.query_one(OptionList)
        options.focus()
        if options.get_option_at_index(0).id != self._last:
            first = next((g.path for g in self._guests if g.name == FIRST), None)
            options.highlighted = 0 if first is None else options.get_option_index(f"{GUEST}{first}")
        self.list_lessons()
        self.look()

    @work(thread=True)
    def look(self) -> None:
        """Probing a core may start a process: not on the interface's thread."""
        found = self._probe()
        self.app.call_from_thread(self.query_one(Abilities).show, found)

    def on_screen_resume(self) -> None:
        """The first row returns to the session that is kept, where there is one."""
        options = self.query_one(OptionList)
        words = getattr(self.app, "kept", "")
        if words == self._kept:
            return
        self._kept = words
        if options.option_count and options.get_option_at_index(0).id == KEPT:
            options.remove_option_at_index(0)
        if words:
            row = Content.assemble(("continue   ", "bold"), (printable(words), "dim"))
            others = list(options.options)
            options.clear_options()
            options.add_options([Option(row, id=KEPT), *others])
            options.highlighted = 0

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        chosen = event.option.id or ""
        if chosen.startswith(LESSON):
            self.query_one(About).show_lesson(self._course[chosen.removeprefix(LESSON)])
        elif chosen.startswith(GUEST):
            path = Path(chosen.removeprefix(GUEST))
            self.query_one(About).show_guest(next(g for g in self._guests if g.path == path))
        else:
            self.query_one(About).show_path("the session that is kept" if chosen == KEPT else chosen)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        chosen = event.option.id or ""
        if chosen == KEPT:
            self.post_message(self.Returned())
        elif chosen.startswith(LESSON):
            self.post_message(self.Play(chosen.removeprefix(LESSON)))
        elif chosen:
            self.post_message(self.Opened(chosen.removeprefix(GUEST)))

    def action_run_chosen(self) -> None:
        self.query_one(OptionList).action_select()

    def action_edit(self) -> None:
        options = self.query_one(OptionList)
        if options.highlighted is None:
            return
        chosen = options.get_option_at_index(options.highlighted).id or ""
        if not chosen.startswith(LESSON) and chosen != KEPT:
            self.post_message(self.Edit(chosen.removeprefix(GUEST)))

    def action_create(self) -> None:
        self.post_message(self.Edit(""))

    def action_open(self) -> None:
        def answered(text: str | None) -> None:
            if text is not None and text.strip():
                self.post_message(self.Opened(text.strip()))

        self.app.push_screen(Ask("Open which program?", "path of a .s, ELF64 or flat image"), answered)

    def action_glossary(self) -> None:
        from .glossary import GlossaryScreen  # 60 ms that the first picture need not wait for

        self.app.push_screen(GlossaryScreen())

    def action_help(self) -> None:
        self.app.push_screen(HelpSheet(help_topics.HOME, self.glyphs))
