"""The options of the machines, changed in the interface: those of the command line (--pure and so on).

A program that is on starts over with them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from .screens.ask import Ask

if TYPE_CHECKING:
    from app.tui.app import RingscopeApp
    from cores.lockstep.options import Options

STARTS_OVER = "The machines start over."


class OptionsController:
    """now: the options of the programs that are opened; None where they cannot be chosen."""

    def __init__(self, app: RingscopeApp) -> None:
        self._app = app
        self.now: Options | None = None

    @property
    def are_the_lessons(self) -> bool:
        """Is a lesson on, which chooses its machines itself?"""
        session = self._app.session
        return session is not None and session.lesson is not None

    def change(self, **values: object) -> None:
        """Other options from now on."""
        assert self.now is not None
        self.now = replace(self.now, **values)  # type: ignore[arg-type]  # fields of Options
        worker = self._app.worker
        if self._app.session is not None and worker is not None and worker.snapshot is not None:
            self._app.open_program(worker.snapshot.path, worker.snapshot.disk)

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
        def answered(text: str) -> None:
            assert self.now is not None
            self.change(start=replace(self.now.start, append=text.encode()))

        self._ask("The program's command line?", "its arguments", "none", answered)

    def _ask(
        self, question: str, placeholder: str, empty: str, answered: Callable[[str], None]
    ) -> None:
        hint = f"{STARTS_OVER} Empty: {empty}."
        self._app.push_screen(
            Ask(question, placeholder, hint=hint),
            lambda text: None if text is None else answered(text.strip()),
        )
