"""The options of the machines, changed in the interface: those of the command line (--pure and so on).

A program that is on starts over with them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from textual.app import App

from .screens.ask import Ask

if TYPE_CHECKING:
    from cores.lockstep.options import Options

STARTS_OVER = "The machines start over."


class OptionsController:
    """now: the options of the programs that are opened; None where they cannot be chosen. start_over:
    starts the program that is on once more, with what they are then. format, recognized: of the program
    that was opened last (see ``Program``), "" before the first."""

    def __init__(self, app: App[int], start_over: Callable[[], bool]) -> None:
        self._app, self._start_over = app, start_over
        self.now: Options | None = None
        self.format = self.recognized = ""

    def change(self, **values: object) -> None:
        """Other options from now on; where the program does not start with them, those of before."""
        before = self.now
        assert before is not None
        self.now = replace(before, **values)  # type: ignore[arg-type]  # fields of Options
        if not self._start_over():
            self.now = before

    def change_start(self, **values: object) -> None:
        """Other options of the program's start; see ``StartOptions``."""
        assert self.now is not None
        self.change(start=replace(self.now.start, **values))  # type: ignore[arg-type]

    def ask_ram(self) -> None:
        def answered(text: str) -> None:
            if text and not text.isdecimal():
                self._app.notify(f"{text!r} is no number of MiB", severity="warning", markup=False)
            else:
                self.change(ram=int(text) << 20 if text else None)

        self._ask("How many MiB of memory?", "such as 16", "as much as the program has", answered)

    def ask_input(self) -> None:
        def answered(text: str) -> None:
            self.change(input=text.replace("\\n", "\n").encode("latin-1", "replace"))

        self._ask("What is typed at the start?", "such as ls\\n; \\n is Enter", "nothing", answered)

    def ask_append(self) -> None:
        self._ask(
            "The program's command line?", "its arguments", "none",
            lambda text: self.change_start(append=text.encode()),
        )  # fmt: skip

    def ask_disks(self) -> None:
        self._ask(
            "Which disk images?", "one path, or two with a comma between them", "the program's own",
            lambda text: self.change(disks=_parts(text)[:2], disk_write=False),
        )  # fmt: skip

    def ask_modules(self) -> None:
        self._ask(
            "Which modules of the kernel?", "FILE ARGS, a comma before the next", "none",
            lambda text: self.change_start(modules=_parts(text)),
        )  # fmt: skip

    def ask_devices(self) -> None:
        self._ask(
            "Which devices of your own?", "FILE.py, a comma before the next", "none",
            lambda text: self.change(devices=_parts(text)),
        )  # fmt: skip

    def ask_clock(self) -> None:
        def answered(text: str) -> None:
            try:
                begins = datetime.fromisoformat(text or "2000-01-01")
                seconds = int((begins - datetime(2000, 1, 1)).total_seconds())
            except (ValueError, TypeError):  # no time, or one with a zone
                words = f"{text!r} is no time; write 2026-01-01T00:00:00"
                self._app.notify(words, severity="warning", markup=False)
            else:
                self.change(clock=seconds)

        self._ask("The guest's time at its start?", "2026-01-01T00:00:00", "2000-01-01", answered)

    def ask_files(self) -> None:
        def answered(text: str) -> None:
            assert self.now is not None
            self.change(start=replace(self.now.start, files=text))

        self._ask("The folder that the program may read?", "a folder's name", "none", answered)

    def take_for_linux(self) -> None:
        """The program is one for Linux, or is no longer taken for one."""
        assert self.now is not None
        start = self.now.start
        self.change(
            start=replace(start, linux=not start.linux, files="" if start.linux else start.files)
        )

    def _ask(
        self, question: str, placeholder: str, empty: str, answered: Callable[[str], None]
    ) -> None:
        hint = f"{STARTS_OVER} Empty: {empty}."
        self._app.push_screen(
            Ask(question, placeholder, hint=hint),
            lambda text: None if text is None else answered(text.strip()),
        )


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
