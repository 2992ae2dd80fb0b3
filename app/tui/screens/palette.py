"""The palette: everything that can be done here, one row each, in groups; typing narrows it down."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, Label, OptionList
from textual.widgets.option_list import Option

from app.tui.rows.rows import fit, width_of

from ..palette import OPTIONS, STARTS_OVER, Entry
from .over import Over

ON, OFF = "[x] ", "[ ] "
WIDTH = 76


class Palette(Over[Entry | None]):
    """Gives the entry that was chosen, None for none."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape", "dismiss(None)", "Never mind"),
        ("up", "move('cursor_up')", "Up"),
        ("down", "move('cursor_down')", "Down"),
        ("pageup", "move('page_up')", "A page up"),
        ("pagedown", "move('page_down')", "A page down"),
    ]

    def __init__(self, entries: list[Entry]) -> None:
        super().__init__()
        self._entries = entries
        self._shown: list[Entry | None] = []

    def compose(self) -> ComposeResult:
        with Vertical(id="palette"):
            yield Input(placeholder="type to search", id="answer", compact=True)
            yield OptionList(id="entries", markup=False)
            yield Label("up, down: choose    Enter: do it    Esc: close", classes="dim")

    @property
    def listed(self) -> OptionList:
        return self.query_one("#entries", OptionList)

    def on_mount(self) -> None:
        self.listed.can_focus = False  # keys are for the words to search
        self._narrow("")

    def on_resize(self, event: events.Resize) -> None:
        self._narrow(self.query_one(Input).value)

    def _narrow(self, words: str) -> None:
        wanted = words.casefold().split()
        found = [e for e in self._entries if all(word in _searched(e) for word in wanted)]
        width = min(WIDTH, self.app.size.width) - 6
        rows: list[Option] = []
        self._shown = []
        group = ""
        for entry in found:
            if entry.group != group:
                group = entry.group
                title = STARTS_OVER if group == OPTIONS else group
                rows.append(Option(Content.styled(title, "bold"), disabled=True))
                self._shown.append(None)
            rows.append(Option(_row(entry, width)))
            self._shown.append(entry)
        self.listed.clear_options()
        self.listed.add_options(rows)
        self.listed.highlighted = 1 if found else None

    def on_input_changed(self, event: Input.Changed) -> None:
        self._narrow(event.value)

    def action_move(self, how: str) -> None:
        getattr(self.listed, f"action_{how}")()

    def on_input_submitted(self) -> None:
        at = self.listed.highlighted
        self.dismiss(None if at is None else self._shown[at])

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._shown[event.option_index])


def _searched(entry: Entry) -> str:
    """The text that the words of a search must be in."""
    return f"{entry.group} {entry.title}".casefold()


def _row(entry: Entry, width: int) -> Content:
    """Name at the left, key or value at the right; a switch with its state before it."""
    mark = "  " if entry.on is None else ON if entry.on else OFF
    right = entry.keys or entry.value
    right = right if width_of(right) <= width // 2 else fit(right, width // 2, ">")
    left = fit(mark + entry.title, width - width_of(right) - 1, ">")
    return Content.assemble(left + " ", (right, "dim"))
