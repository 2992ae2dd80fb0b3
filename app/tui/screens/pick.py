"""A list to choose from, which typing narrows down: steps of a lesson, words of the glossary."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.widgets import Input, Label, OptionList
from textual.widgets.option_list import Option

from .over import Over


class Pick(Over[str | None]):
    """Gives the name that was chosen, None when the user thinks better of it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape", "dismiss(None)", "Never mind"),
        ("up", "move('cursor_up')", "Up"),
        ("down", "move('cursor_down')", "Down"),
        ("pageup", "move('page_up')", "A page up"),
        ("pagedown", "move('page_down')", "A page down"),
    ]

    HOW = "up, down: choose    Enter: go    Esc: close"

    def __init__(self, title: str, names: list[str], begin: str = "", width: int = 0) -> None:
        """names: to choose from. begin: the one that is marked at first. width: cells; 0: as usual."""
        super().__init__()
        self._cells = width
        self._title, self._names, self._begin = title, names, begin

    def compose(self) -> ComposeResult:
        with Vertical(id="sheet"):
            yield Label(self._title, markup=False)
            yield Input(placeholder="type to search", id="answer", compact=True)
            yield OptionList(id="choices", markup=False)
            yield from self.explanation()
            yield Label(self.HOW, classes="dim")

    def explanation(self) -> ComposeResult:
        """The widgets below the list."""
        yield from ()

    def on_mount(self) -> None:
        self.query_one("#choices").can_focus = False  # keys are for the words to search
        if self._cells:
            self.query_one("#sheet").styles.width = self._cells
        self._narrow("")

    @property
    def choices(self) -> OptionList:
        return self.query_one("#choices", OptionList)

    def found(self, words: str) -> list[str]:
        """The names that answer a search, the best first."""
        wanted = words.strip().casefold()
        named = [name for name in self._names if wanted in name.casefold()]
        return sorted(named, key=lambda name: not name.casefold().startswith(wanted))

    def _narrow(self, words: str) -> None:
        names = self.found(words)
        choices = self.choices
        choices.clear_options()
        choices.add_options(Option(name, id=name) for name in names)
        if names:
            choices.highlighted = names.index(self._begin) if self._begin in names else 0

    def on_input_changed(self, event: Input.Changed) -> None:
        self._narrow(event.value)

    def action_move(self, how: str) -> None:
        getattr(self.choices, f"action_{how}")()

    @property
    def marked(self) -> str | None:
        """The name that Enter would choose."""
        at = self.choices.highlighted
        return None if at is None else self.choices.get_option_at_index(at).id

    def on_input_submitted(self) -> None:
        self.dismiss(self.marked)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option.id)
