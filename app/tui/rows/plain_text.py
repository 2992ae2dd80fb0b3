"""Everything that is drawn, in ASCII, for terminals that have no more."""

from __future__ import annotations

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from app.tui.rows.glyphs import plain


class PlainText(LineFilter):
    """Textual's own widgets, borders and messages have signs, too: all lines pass through here."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [Segment(plain(text), style, control) for text, style, control in segments]
