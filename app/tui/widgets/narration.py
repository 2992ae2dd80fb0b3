"""The lesson's words, above the keys: what has been said since the last stop, and its question."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static


class Narration(VerticalScroll):
    """Shows text, and the step in its border."""

    DEFAULT_CSS = """
    Narration { height: 40%; max-height: 18; border: round $border; padding: 0 1; }
    Narration > Static { width: 1fr; max-width: 96; }
    """
    can_focus = False

    def __init__(self) -> None:
        super().__init__(id="narration")
        self.border_title = "Lesson"

    def compose(self) -> ComposeResult:
        yield Static("", markup=False)

    def show(self, title: str, text: str, prompt: str) -> None:
        """title: lesson and step. prompt: which key goes on."""
        self.border_title = title
        self.border_subtitle = prompt
        self.query_one(Static).update(text)
        self.scroll_home(animate=False)
