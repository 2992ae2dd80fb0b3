"""The terminal interface.

Textual's event loop has the main thread; the session has its own (app/session_thread.py). The screen
takes the worker's newest snapshot thirty times a second; keys become commands in the worker's queue.
"""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import events, work
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.filter import LineFilter
from textual.screen import Screen

from app import pace, terminal
from app.main import BAD_INPUT, complain
from app.tui import settings, signals
from app.tui.abilities import probe_cores
from app.tui.files import EVERY_FILE, Files
from app.tui.guest_list import disk_of, shipped
from app.tui.rows.glyphs import ASCII, for_this_terminal
from app.tui.rows.plain_text import PlainText
from app.tui.rows.theme import DEFAULT_THEME, PALETTES, themes
from app.tui.settings import LESSON
from cores.errors import RingscopeError

from .options import OptionsController
from .screens.home import HomeScreen, Probe
from .screens.leave import Leave

if TYPE_CHECKING:  # what runs guests is imported when one is to run: the first picture needs none of it
    from app.lab import Result
    from app.opening import Begun
    from app.session_thread import Opener, Worker
    from app.teacher.audience import Audience
    from app.tui.screens.open_form import Kind
    from cores.lockstep.options import Options
    from lessons.format.script import Lesson

    from .palette import Entry
    from .screens.editor import EditorScreen
    from .screens.lab import Check
    from .screens.machines.screen import MachinesScreen
    from .screens.machines.state import StateController

OpenProgram = Callable[[str, str | None], "Opener"]
"""A path, and that of a data disk (None: as on the command line, else the one that a shipped guest
needs; "": none) -> how to start its
session, in the worker's thread. Raises InputError for bad input."""

INTERRUPTED = 128 + signal.SIGINT

SESSION = "session"
"""Name under which Textual keeps the session's screen."""

TOLD = ("linux", "solo5", "multiboot", "disk", "rom")
"""Formats whose recognition is told when such a program is opened: others are what their names say."""


class RingscopeApp(App[int]):
    """The home screen, and the machines once a program is open."""

    TITLE = "Ringscope"
    CSS_PATH = "ringscope.tcss"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("ctrl+q", "quit", "Quit", show=False, priority=True),
        Binding("ctrl+c", "interrupt", "Quit", show=False, priority=True),
        Binding("s", "save_picture", "Save a picture of the screen"),
        Binding("f8", "save_picture", "Save a picture, where s is typed", show=False, priority=True),
    ]

    def __init__(
        self, open_program: OpenProgram, probe: Probe, first: Opener | None = None,
        files: Files = EVERY_FILE,
    ) -> None:  # fmt: skip
        """first: the session to begin with, None for the home screen. files: which may be read and
        written. has_terminal, an attribute:
        it is a person's, with which signals must leave no mess. session: the screen of the worker's
        machines, which stays when the user goes home. options: of the programs that are opened."""
        super().__init__()
        self.glyphs = for_this_terminal()
        self._plain = (PlainText(),) if self.glyphs is ASCII else ()
        self.files = files
        self._open_program = open_program
        self._probe = probe
        self.first = first
        self.begin_with: Callable[[], None] | None = None
        self.has_terminal = False
        self.worker: Worker | None = None
        self.session: MachinesScreen | None = None
        self.audience: Audience | None = None
        self.unwritten = ""
        self.options = OptionsController(self, self._start_over)
        self.settings = settings.load()
        for theme in themes():
            self.register_theme(theme)
        known = self.settings.theme in PALETTES  # Textual's own would change half of the screen
        self.theme = self.settings.theme if known else DEFAULT_THEME

    def get_default_screen(self) -> Screen[None]:
        covered = self.first is not None or self.begin_with is not None
        return HomeScreen(self._probe, self.settings, covered)

    def on_load(self) -> None:
        if self.has_terminal:
            signals.obey_endings(self)

    def on_mount(self) -> None:
        if self.has_terminal:
            signals.obey_stops(self)
        if self.begin_with is not None:
            self.begin_with()
        elif self.first is not None:
            self.show_session(self.first)

    def on_ready(self) -> None:
        self.call_after_refresh(gc.enable)  # see pace.start_quickly

    def show_session(self, opener: Opener) -> None:
        """End the session that is on, start this one, and show it over the home screen."""
        from app.session_thread import Worker

        self.close_session()
        self.worker = Worker(opener)
        self._show_machines(self.worker)

    def adopt(self, begun: Begun) -> None:
        """Begin with this session, whose machines are being made since before there was a screen."""
        self.worker = begun.worker
        self.options.format, self.options.recognized = begun.opening.format, begun.opening.recognized
        self.begin_with = partial(self._show_machines, begun.worker)

    def _show_machines(self, worker: Worker) -> None:
        from .screens.machines.screen import MachinesScreen

        self._show(MachinesScreen(worker, self.settings))

    def _show(self, session: MachinesScreen) -> None:
        while len(self.screen_stack) > 1:
            self.pop_screen()
        self.session = session
        self.install_screen(session, SESSION)  # else it would be removed when the user goes home
        self.push_screen(session)

    def open_program(self, path: str, disk: str | None = None) -> bool:
        """Run a program; say so, and give False, when it is none."""
        try:
            self.files.demand(path)
            if disk:
                self.files.demand_all()
            opener = self._open_program(path, disk)
        except RingscopeError as error:
            self.notify(str(error), severity="error", timeout=8, markup=False)
            return False
        self.settings.last = path
        self.settings.save()
        self.show_session(opener)
        if self.options.format in TOLD or "--linux" in self.options.recognized:
            self.notify(f"It is {self.options.recognized}.", timeout=6, markup=False)
        return True

    def _start_over(self) -> bool:
        """Open the program that is on once more; False where that fails."""
        worker = self.worker
        if self.session is None or worker is None or worker.snapshot is None:
            return True
        return self.open_program(worker.snapshot.path)

    def show_lesson(
        self, lesson: Lesson, seed: int | None = None, speed: float = 0.0, step: int = 1,
        audience: Audience | None = None,
    ) -> None:  # fmt: skip
        """Begin a lesson over the home screen. seed: varies its questions' numbers. speed: it plays
        by itself, at so many times a reader's; 0: by key. step: where to begin, from 1. audience: a
        class that follows."""
        from app.session_thread import Worker

        from .screens.lesson import LessonScreen
        from .screens.machines.lesson import LessonController

        self.close_session()
        self.audience = audience
        controller = LessonController(lesson, seed, speed, step, audience)
        self.settings.last = LESSON + lesson.name
        self.settings.save()
        self.worker = Worker(controller.open)
        self._show(LessonScreen(self.worker, self.settings, controller))

    def show_lab(self, title: str, results: list[Result], check: Check) -> None:
        """A student's VMM beside ours, over the home screen."""
        from .screens.lab import LabScreen

        self.push_screen(LabScreen(title, results, check))

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Textual's, and where the terminal has no Unicode the one that sends ASCII alone."""
        return [*super().get_line_filters(), *self._plain]

    async def on_event(self, event: events.Event) -> None:
        """Keys and clicks come first; the machines wait."""
        if isinstance(event, events.Key | events.MouseDown) and self.worker is not None:
            self.worker.make_way()
        take = getattr(self.screen, "take_key", None) if self.screen_stack else None
        if isinstance(event, events.Key) and take is not None:
            take(event)  # the guest's terminal: not even Ctrl-C is ours
            return
        await super().on_event(event)

    def close_session(self) -> None:
        """End the session, and every process of its machines."""
        if self.worker is not None:
            self.worker.close()
            self.unwritten = self.worker.unwritten or self.unwritten
            self.worker = None
        session, self.session = self.session, None
        if session is None or not self.is_running:
            return
        while session in self.screen_stack:
            self.pop_screen()
        self.uninstall_screen(session)
        session.remove()

    def on_home_screen_opened(self, message: HomeScreen.Opened) -> None:
        self._ask_before_its_end(lambda: self.open_program(message.path))

    def on_home_screen_open(self) -> None:
        from cores.lockstep.options import Options

        from .screens.open_form import OpenForm, Wanted

        def answered(wanted: Wanted | None) -> None:
            if wanted is not None:
                self._ask_before_its_end(lambda: self._open_with(wanted.path, wanted.options))

        form = OpenForm(self.options.now or Options(), partial(recognize, self.files))
        self.push_screen(form, answered)

    def _open_with(self, path: str, options: Options) -> None:
        before, self.options.now = self.options.now, options
        if not self.open_program(path):
            self.options.now = before

    def on_home_screen_lab(self) -> None:
        """Ask for a step and a student's file, run it, and show it beside ours."""
        from .screens.ask import Ask

        def answered(words: str | None) -> None:
            if words is not None:
                self._open_lab(words)

        question = "Hold a VMM of yours against ours: the step and the file"
        self.push_screen(Ask(question, "1 vmm.py", hint="docs/lab.md is the manual"), answered)

    @work(thread=True, exit_on_error=False)
    def _open_lab(self, words: str) -> None:
        from app import lab
        from cores.lab.steps import step_named

        number, _, path = words.strip().partition(" ")
        try:
            self.files.demand_all()
            step = step_named(number)
            check = partial(lab.results, step, path.strip() or "vmm.py", lab.SEED)
            results = check()
        except RingscopeError as error:
            self.call_from_thread(self.notify, str(error), severity="error", timeout=8, markup=False)
        else:
            title = f"step {step.number}, {step.title}"
            self.call_from_thread(self.show_lab, title, results, check)

    def on_home_screen_play(self, message: HomeScreen.Play) -> None:
        self._ask_before_its_end(lambda: self._play(message.lesson, message.step))

    def on_home_screen_returned(self) -> None:
        if self.session is not None:
            self.push_screen(self.session)

    def _play(self, name: str, step: int) -> None:
        from lessons import library

        try:
            self.show_lesson(library.find(name), step=step)
        except RingscopeError as error:
            self.notify(str(error), severity="error", timeout=8)

    def _ask_before_its_end(self, then: Callable[[], object]) -> None:
        """Do what ends the session that is kept, once the user has agreed where it would be a loss."""

        def answered(key: str | None) -> None:
            if key:
                then()

        stake = "" if self.session is None else self.session.at_stake
        if stake:
            question = f"{stake} Another program ends that session."
            self.push_screen(Leave(question, ("o", "open it")), answered)
        else:
            then()

    def on_home_screen_edit(self, message: HomeScreen.Edit) -> None:
        self.edit(message.path)

    def on_state_controller_disk_wanted(self, message: StateController.DiskWanted) -> None:
        """Open the same program again, with that disk."""
        worker = self.worker
        if worker is None or worker.snapshot is None:
            return
        if self.open_program(worker.snapshot.path, message.path) and self.options.now is not None:
            disks = (message.path, *self.options.now.disks[1:]) if message.path else ()
            self.options.now = replace(self.options.now, disks=disks, disk_write=False)

    def on_machines_screen_edit(self, message: MachinesScreen.Edit) -> None:
        self.edit(message.path)

    def edit(self, path: str) -> None:
        """Open the editor on a source file, or on a new one. A shipped guest is edited as a copy."""
        from .screens.editor import EditorScreen

        text = ""
        if path:
            try:
                self.files.demand(path)
                text = Path(path).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                self.notify(f"{path}: there is no source to edit", severity="warning")
                return
            except RingscopeError as error:
                self.notify(str(error), severity="warning")
                return
            if any(guest.path.resolve() == Path(path).resolve() for guest in shipped()):
                path = ""
        self.push_screen(EditorScreen(path, text, assemble, self.files.text()))

    def on_editor_screen_run(self, message: EditorScreen.Run) -> None:
        self.open_program(message.path)

    def on_machines_screen_left(self) -> None:
        self.close_session()

    def on_unmount(self) -> None:
        self.close_session()
        self.settings.theme = self.theme
        self.settings.save()

    def action_home(self) -> None:
        """To the first page. The session is paused and kept; "continue" returns to it."""
        if (
            self.worker is not None
            and self.worker.snapshot is not None
            and self.worker.snapshot.running
        ):
            self.worker.pause()
        while len(self.screen_stack) > 1:
            self.pop_screen()

    async def action_quit(self) -> None:
        """Quit, after a question where something would be lost."""
        stake = self._unsaved or ("" if self.session is None else self.session.at_stake)
        if not stake or isinstance(self.screen, Leave):
            self.exit(0)
            return

        def answered(key: str | None) -> None:
            if key == "h":
                self.action_home()
            elif key:
                self.exit(0)

        home = () if self._unsaved or len(self.screen_stack) == 1 else (("h", "home, kept"),)
        self.push_screen(Leave(f"{stake} Leave?", *home, ("q", "quit")), answered)

    @property
    def kept(self) -> str:
        """The session that is kept while the user is at home, in words; "" where there is none."""
        s = None if self.session is None or self.worker is None else self.worker.snapshot
        return "" if s is None or self.session is None else f"{s.path}  {self.session.at_stake}"

    @property
    def _unsaved(self) -> str:
        """An editor with text that is not saved, as a sentence; "" for none."""
        unsaved = (getattr(screen, "unsaved", "") for screen in self.screen_stack)
        return next((words for words in unsaved if words), "")

    async def action_interrupt(self) -> None:
        """Ctrl-C: nothing is left behind, and the exit code says so. Pressed by habit, to copy, it must
        not lose a text: then it asks, and the second one ends."""
        if self._unsaved and not isinstance(self.screen, Leave):
            await self.action_quit()
        else:
            self.exit(INTERRUPTED)

    def action_save_picture(self) -> None:
        """Save the screen, without the messages that lie over it."""
        if not self.files.all:
            self.notify("No picture can be saved in this session; a browser can", severity="warning")
            return
        from textual.widgets._toast import ToastRack

        racks = [rack for rack in self.screen.query(ToastRack) if rack.display]
        for rack in racks:
            rack.display = False
        self.screen.refresh(layout=True)  # at once: the rack's own wish for it comes by a message

        def save() -> None:
            from app.tui import pictures

            try:
                path = pictures.save(self)
            except OSError as error:
                where = error.filename or pictures.folder()
                self.notify(f"{where}: {error.strerror}", severity="error", markup=False)
            else:
                self.notify(f"Saved {path}, and the same as .txt and .html", markup=False)
            finally:
                for rack in racks:
                    rack.display = True

        self.call_after_refresh(save)

    # -- the palette --------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        """All that can be done on the present screen. A lesson chooses its machines itself."""
        from .palette import Entry, entries

        plays = self.session is not None and self.session.lesson is not None
        found = entries(self, self.screen, None if plays else self.options)
        if plays and (audience := self.audience) is not None:

            def tell() -> None:
                self.notify(audience.address, title="The class opens", timeout=60, markup=False)

            found.insert(0, Entry("Begin", "Show the address that the class opens", tell))
        return found

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The same for Textual, which has a palette of its own."""
        return (SystemCommand(entry.title, entry.keys, entry.run) for entry in self.entries())

    def action_command_palette(self) -> None:
        from .screens.palette import Palette

        def chosen(entry: Entry | None) -> None:
            if entry is not None:
                entry.run()

        self.push_screen(Palette(self.entries()), chosen)


def recognize(files: Files, path: str, options: Options) -> Kind:
    """What kind of program a file is, with those options."""
    from app.programs import load
    from cores.debugging.saved_session import is_saved

    from .screens.open_form import SAVED, Kind

    try:
        files.demand(path)
        if is_saved(path):
            return Kind(SAVED, "It is a session that was saved: it goes on where it was.")
        program = load(path, options.ram, options.start)
    except RingscopeError as error:
        return Kind("", str(error))
    return Kind(program.format, f"It is {program.recognized}.")


def assemble(source: str, path: str) -> int:
    """The size of the image, in bytes. Raises InputError with the line of a mistake."""
    from cores.programs.loader import assemble_program

    return assemble_program(source.encode(), path).size


def interface(path: str | None, options: Options, files: Files = EVERY_FILE) -> RingscopeApp:
    """The app over real sessions. Raises InputError when ``path`` is no program."""

    def open_program(chosen: str, disk: str | None) -> Opener:
        from app.opening import opening
        from cores.debugging.saved_session import is_saved

        now = app.options.now or options
        if now.start.files or is_saved(chosen):
            files.demand_all()
        if disk is None and not now.disks:
            disk = disk_of(chosen)
        if disk is not None:
            now = replace(now, disks=(disk,) if disk else (), disk_write=False)
        found = opening(chosen, now)
        app.options.format, app.options.recognized = found.format, found.recognized
        return found.opener

    app = RingscopeApp(open_program, probe_cores, files=files)
    app.options.now = options
    if path is not None:
        asked = None if options.disks else ""  # the command line alone says what disk its program has
        app.first = open_program(path, asked)
    return app


def run_interface(
    path: str | None, options: Options, lesson: Lesson | None = None, seed: int | None = None,
    speed: float = 0.0, begun: Begun | None = None, audience: Audience | None = None,
    files: Files = EVERY_FILE, lab: tuple[str, list[Result], Check] | None = None,
) -> int:  # fmt: skip
    """Show ``path``, or ``begun``, or play ``lesson``, or the home screen, until the user quits; gives
    the exit code. lab: a step's title, its results, and what gives them anew.

    Raises InputError before anything is shown when ``path`` is no program."""
    app = interface(path, options, files)
    if begun is not None:
        app.adopt(begun)
    if lesson is not None:
        app.begin_with = partial(app.show_lesson, lesson, seed, speed, audience=audience)
    if lab is not None:
        app.begin_with = partial(app.show_lab, *lab)
    app.has_terminal = terminal.is_there()
    pace.take_turns()
    try:
        code = app.run()
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        app.close_session()
    if app.unwritten:
        complain(f"ringscope: {app.unwritten}")
        return BAD_INPUT
    return app.return_code or 0 if code is None else code
