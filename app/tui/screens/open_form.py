"""Open a program: its path, what kind of program it is, and the options that such a program takes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual import events, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Input, Label, OptionList
from textual.widgets.option_list import Option

from app.tui import paths
from app.tui.options import BOOT, FIELDS, LINUX, Field
from cores.errors import InputError

from .over import Over

if TYPE_CHECKING:
    from cores.lockstep.options import Options

PAUSE = 0.2
"""Seconds without a key after which a file is looked at."""


SAVED = "saved"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file is taken for. format: see ``Program``; SAVED: a saved session; "": nothing that
    can be run. words: what it is, or why it cannot be run."""

    format: str
    words: str


Recognize = Callable[[str, "Options"], Kind]
"""A file, and the options it would be opened with -> its kind. It may take a second."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A program to open, with these options."""

    path: str
    options: Options


class PathInput(Input):
    """Tab completes; where nothing is left to complete, it goes on to the next field."""

    def on_key(self, event: events.Key) -> None:
        if event.key == "tab" and (longer := paths.completed(self.value)) != self.value:
            self.value = longer
            self.cursor_position = len(longer)
            event.stop()
            event.prevent_default()


class OpenForm(Over[Wanted | None]):
    """Gives the program and its options, or None when the user thinks better of it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape", "dismiss(None)", "Never mind"),
        ("up", "move('cursor_up')", "Up"),
        ("down", "move('cursor_down')", "Down"),
    ]

    def __init__(self, options: Options, recognize: Recognize) -> None:
        super().__init__()
        self._options, self._recognize = options, recognize
        self._kind = Kind("", "")
        self._fields: tuple[Field, ...] = ()
        self._typed: dict[str, str] = {}
        """By flag: what was typed into a field, also one that is not shown at the moment."""
        self._looks = 0
        self._sent = False
        """The user has said Enter; the file is looked at once more."""

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="open", can_focus=False):
            yield Label("Open which program?", markup=False)
            yield PathInput(
                placeholder="path of a .s, an ELF, a kernel, an image", id="path", compact=True
            )
            yield OptionList(id="choices", markup=False)
            yield Label("", id="kind", markup=False)
            yield VerticalScroll(id="fields", can_focus=False)
            yield Label(
                "Enter: open   up, down: choose   Tab: complete, next   Esc: never mind",
                classes="dim",
            )

    def on_mount(self) -> None:
        self.query_one("#choices").can_focus = False  # keys are for the path
        self._list("")
        self.query_one("#path").focus()

    # -- the path -----------------------------------------------------------------------------

    @property
    def _choices(self) -> OptionList:
        return self.query_one("#choices", OptionList)

    @property
    def _path(self) -> str:
        return os.path.expanduser(self.query_one("#path", Input).value.strip())

    def _list(self, typed: str) -> None:
        names = paths.matches(typed)
        self._choices.clear_options()
        if names != [typed]:
            self._choices.add_options(Option(n, id=n) for n in names)
        self._choices.highlighted = None

    def action_move(self, how: str) -> None:
        getattr(self._choices, f"action_{how}")()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self._take(event.option.id or "")

    def _take(self, path: str) -> None:
        """A file or a folder was chosen from the list."""
        typed = self.query_one("#path", Input)
        typed.value = path
        typed.cursor_position = len(path)

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.id == "path":
            self._list(event.value)
        else:
            self._typed[event.input.name or ""] = event.value
        self._looks += 1
        self.set_timer(PAUSE, lambda look=self._looks: self._look(look))

    # -- what it is ---------------------------------------------------------------------------

    def _look(self, look: int) -> None:
        """Look at the file, unless more has been typed since."""
        if look != self._looks:
            return
        if not self._path or os.path.isdir(self._path):
            self._found(Kind("", ""))
            return
        try:
            options = self._chosen()
        except InputError as error:
            self._sent = False
            self._found(Kind(self._kind.format, str(error)))  # a wrong value takes no field away
        else:
            self._recognize_in_thread(look, self._path, options)

    @work(thread=True, exclusive=True)
    def _recognize_in_thread(self, look: int, path: str, options: Options) -> None:
        found = self._recognize(path, options)
        self.app.call_from_thread(self._recognized, look, Wanted(path, options), found)

    def _recognized(self, look: int, wanted: Wanted, kind: Kind) -> None:
        if not self.is_attached or look != self._looks:
            return
        begun = not kind.format and not self._sent and self._choices.option_count  # of a longer name
        self._found(Kind("", "") if begun else kind)
        if self._sent and kind.format:
            self.dismiss(wanted)
        self._sent = False

    def _found(self, kind: Kind) -> None:
        self._kind = kind
        self.query_one("#kind", Label).update(kind.words)
        fitting: tuple[Field, ...] = ()
        if kind.format not in ("", SAVED):
            fitting = tuple(f for f in (LINUX, BOOT, *FIELDS) if f.fits(kind.format))
        if fitting == self._fields:
            return
        self._fields = fitting
        rows = self.query_one("#fields", VerticalScroll)
        rows.remove_children()
        rows.mount(*(self._row(field) for field in fitting))

    def _row(self, field: Field) -> Horizontal:
        value = self._typed.get(field.flag, field.shown(self._options))
        hint = f"{field.empty}  (or {field.example})"
        return Horizontal(
            Label(f"{field.flag:<9} {field.words}", markup=False),
            Input(value, placeholder=hint, name=field.flag, compact=True),
            classes="field",
        )

    def _chosen(self) -> Options:
        """The options with all that was typed into the fields that are shown. Raises InputError."""
        options = self._options
        for field in self._fields:
            try:
                options = field.read(options, self._typed.get(field.flag, field.shown(options)).strip())
            except InputError as error:
                raise InputError(f"{field.flag}: {error}") from None
        return options

    # -- the end ------------------------------------------------------------------------------

    def on_input_submitted(self) -> None:
        marked = self._choices.highlighted
        if marked is not None:
            self._take(self._choices.get_option_at_index(marked).id or "")
        elif not self._path or os.path.isdir(self._path):
            self.query_one("#kind", Label).update("Type the name of a file, or choose one.")
        else:
            self._sent = True
            self._looks += 1
            self._look(self._looks)
