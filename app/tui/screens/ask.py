"""A one-line question: go to which instruction, open which file."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.widgets import Input, Label

from .over import Over


class Ask(Over[str | None]):
    """Gives what was typed, or None when the user thinks better of it."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape", "dismiss(None)", "Never mind")]

    def __init__(self, question: str, placeholder: str = "", value: str = "", hint: str = "") -> None:
        """value: to begin with; typing replaces it. hint: what may be written, in a line."""
        super().__init__()
        self._question, self._placeholder, self._value = question, placeholder, value
        self._hint = hint

    def compose(self) -> ComposeResult:
        with Vertical(id="sheet"):
            yield Label(self._question, markup=False)
            yield Input(self._value, placeholder=self._placeholder, id="answer")
            if self._hint:
                yield Label(self._hint, classes="dim", markup=False)
            yield Label("Enter: go    Esc: never mind", classes="dim")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value)
