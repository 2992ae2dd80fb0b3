"""Write a guest: edit, assemble by a key, see the mistake at its line, run it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen
from textual.widgets import TextArea

from app.tui.rows.rows import EMPTY, Row, fit, printable, row
from cores.atomic_file import ANOTHER_NAME, Kind, replacing
from cores.errors import InputError
from cores.plural import counted

from .. import help_topics
from ..widgets.assembly_area import AssemblyArea
from ..widgets.keys import Hint, Keys
from ..widgets.line_view import LineView
from .ask import Ask
from .help import HelpSheet
from .leave import Leave

HINTS: list[Hint] = [
    ("F5", "run", "run"),
    ("F2", "assemble", "assemble"),
    ("ctrl+s", "save", "save"),
    ("F3", "template", "template"),
    ("F1", "help", "help"),
    ("Esc", "back", "leave"),
]

TEMPLATES = {
    "one letter": """\
# Put a letter on the console, then end with status 0.
start:  mov al, 'A'
        out 0xe9, al        # leaves the guest: the console is a device
        mov al, 0
        out 0xf4, al        # the exit port ends the machine
        hlt
""",
    "a loop": """\
# Count to a million: not one exit until the end.
start:  mov ecx, 1000000
again:  dec ecx
        jnz again
        mov al, 0
        out 0xf4, al
        hlt
""",
    "a silent instruction": """\
# cli clears the virtual IF; pushfq shows it. Does the guest see what it did?
start:  cli
        pushfq
        pop rax
        shr rax, 9
        and al, 1
        add al, '0'
        out 0xe9, al        # 0 on every core, unless run with --pure
        mov al, 0
        out 0xf4, al
        hlt
""",
}

NEW = Kind("this guest", lambda _: False, ANOTHER_NAME)
"""What is saved under a name for the first time replaces no file."""

Assemble = Callable[[str, str], int]
"""(source, path) -> bytes of image. Raises InputError with the line of a mistake."""


class Verdict(LineView):
    """One row: what the assembler says."""

    DEFAULT_CSS = "Verdict { width: 1fr; height: 1; }"
    words, good = "", True

    def say(self, words: str, good: bool) -> None:
        self.words, self.good = words, good
        self.redraw()

    def compose_rows(self, width: int, height: int) -> list[Row]:
        if not self.words:
            return [EMPTY]
        mark = self.glyphs.equal if self.good else "!"
        role = "good" if self.good else "bad"
        return [
            row((f" {mark} ", role), (fit(printable(self.words), width - 3, self.glyphs.more), "text"))
        ]


class EditorScreen(Screen[None]):
    """A text and its file. ``Run`` is posted with the path once it is saved and assembles."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f5", "run", "Save, assemble and run", priority=True),
        Binding("f2", "assemble", "Assemble", priority=True),
        Binding("ctrl+s", "save", "Save", priority=True),
        Binding("f3", "template", "Begin from the next template", priority=True),
        Binding("f1", "help", "Help", priority=True),
        Binding("escape", "leave", "Leave the editor", priority=True),
    ]

    class Run(Message):
        """Run what has been written."""

        def __init__(self, path: str) -> None:
            super().__init__()
            self.path = path

    def __init__(self, path: str, text: str, assemble: Assemble, place: Path | None = None) -> None:
        """place: where the text is saved, whatever it is; None: the user says where."""
        super().__init__()
        self._place = place
        self._path, self._text, self._assemble = path, text, assemble
        self._template = 0
        self._saved = text

    def compose(self) -> ComposeResult:
        area = AssemblyArea(
            self._text, show_line_numbers=True, tab_behavior="indent", id="source", soft_wrap=False
        )
        area.border_title = self._path or "new guest"
        yield area
        yield Verdict(id="verdict")
        yield Keys(HINTS)

    @property
    def area(self) -> TextArea:
        return self.query_one("#source", TextArea)

    def action_assemble(self) -> bool:
        """Say how long the image is, or put the cursor where the mistake is."""
        verdict = self.query_one(Verdict)
        try:
            size = self._assemble(self.area.text, self._path or "new guest")
        except InputError as error:
            verdict.say(str(error), good=False)
            if error.line is not None:
                self.area.move_cursor((max(0, error.line - 1), 0), center=True)
            return False
        verdict.say(counted(size, "byte"), good=True)
        return True

    def action_save(self) -> None:
        self._save(lambda: None)

    def _save(self, then: Callable[[], None]) -> None:
        if self._place is not None:
            self._path = str(self._place)  # so that what is there is replaced
        if self._path:
            self._write(self._path, then)
            return

        def answered(path: str | None) -> None:
            if path is not None and path.strip():
                self._write(path.strip(), then)

        self.app.push_screen(Ask("Save as which file?", "such as guest.s", "guest.s"), answered)

    def _write(self, path: str, then: Callable[[], None]) -> None:
        text = self.area.text
        try:
            with replacing(path, None if path == self._path else NEW) as file:
                file.write(text.encode())
        except InputError as error:
            self.query_one(Verdict).say(str(error), good=False)
            return
        except OSError as error:
            self.query_one(Verdict).say(f"{path}: {error.strerror}", good=False)
            return
        self._path, self._saved = path, text
        self.area.border_title = path
        self.query_one(Verdict).say(f"saved {path}", good=True)
        then()

    def action_run(self) -> None:
        if self.action_assemble():
            self._save(self._ready)

    def _ready(self) -> None:
        self.post_message(self.Run(self._path))

    def action_template(self) -> None:
        """Only over text that was saved: nothing a person wrote is lost."""
        if self.area.text != self._saved:
            self.query_one(Verdict).say("save your text first, then choose a template", good=False)
            return
        names = list(TEMPLATES)
        name = names[self._template % len(names)]
        self._template += 1
        self._path, self._saved = "", TEMPLATES[name]
        self.area.text = TEMPLATES[name]
        self.area.border_title = f"new guest: {name}"

    def action_help(self) -> None:
        self.app.push_screen(HelpSheet(help_topics.EDITOR, self.query_one(Verdict).glyphs))

    @property
    def unsaved(self) -> str:
        """What would be lost with the editor, as a sentence; "" for nothing."""
        return "" if self.area.text == self._saved else f"{self._path or 'The new guest'} is not saved."

    def action_leave(self) -> None:
        def answered(key: str | None) -> None:
            if key == "ctrl+s":
                self._save(self._close)
            elif key:
                self._close()

        if self.unsaved:
            self.app.push_screen(Leave(self.unsaved, ("ctrl+s", "save"), ("l", "leave it")), answered)
        else:
            self._close()

    def _close(self) -> None:
        if self.is_current:
            self.app.pop_screen()
