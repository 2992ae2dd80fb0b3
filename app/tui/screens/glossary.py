"""The words of the field, explained: by G, on any screen that has machines or lessons."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.widgets import OptionList, Static

from app.text.lesson import plain
from app.tui.rows.glyphs import UNICODE
from lessons import glossary

from .. import help_topics
from .help import HelpSheet
from .pick import Pick


class GlossaryScreen(Pick):
    """The glossary, searchable by words and by their explanations."""

    BINDINGS: ClassVar[list[BindingType]] = [("f1", "help", "Help")]
    HOW = "up, down: choose    F1: help    Esc: close"

    def __init__(self, in_sight: str = "") -> None:
        """in_sight: text that is on the screen now; the words in it come first."""
        self._terms = glossary.terms()
        here = glossary.occurring(in_sight)
        super().__init__("Glossary", [*here, *(term for term in self._terms if term not in here)])

    def action_help(self) -> None:
        glyphs = getattr(self.app, "glyphs", UNICODE)
        self.app.push_screen(HelpSheet(help_topics.GLOSSARY, glyphs))

    def explanation(self) -> ComposeResult:
        yield Static("", id="explanation", markup=False)

    def found(self, words: str) -> list[str]:
        named = super().found(words)
        wanted = words.strip().casefold()
        return named + [
            name for name in self._names if name not in named and wanted in self._terms[name].casefold()
        ]

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        text = plain(self._terms.get(event.option.id or "", ""))
        self.query_one("#explanation", Static).update(" ".join(text.split()))
