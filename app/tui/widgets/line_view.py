"""The base of every widget here: rows in, changed rows repainted."""

from __future__ import annotations

from abc import abstractmethod

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.color import Color
from textual.content import Content
from textual.filter import ANSIToTruecolor
from textual.geometry import Region
from textual.strip import Strip
from textual.visual import VisualType
from textual.widget import Widget

from app.tui.rows.glyphs import UNICODE, Glyphs
from app.tui.rows.rows import EMPTY, Row, fit_row
from app.tui.rows.theme import PALETTES, styles


class LineView(Widget):
    """Draws the rows that ``compose_rows`` gives, and repaints only those that changed.

    ``render_lines`` is overridden, past Textual's style cache: a frame of three machines costs a
    third of what it does with Static widgets. The line filters that the style cache would have
    applied (NO_COLOR, ASCII) are applied here when a strip is made.
    """

    ALLOW_SELECT = False

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._rows: list[Row] = []
        self._strips: dict[int, Strip] = {}
        self._styles: dict[str, Style] = {}

    @property
    def glyphs(self) -> Glyphs:
        """The symbols that this terminal has, as the app found out."""
        glyphs = getattr(self.app, "glyphs", UNICODE)
        assert isinstance(glyphs, Glyphs)
        return glyphs

    @abstractmethod
    def compose_rows(self, width: int, height: int) -> list[Row]:
        """The widget's contents: at most ``height`` rows of at most ``width`` cells."""

    def tip(self, x: int, y: int) -> str:
        """Tooltip of the cell under the mouse; "" for none."""
        return ""

    @property
    def tooltip(self) -> VisualType | None:
        """Asked by Textual when the mouse has rested: nothing is done while it moves."""
        at = self.app.mouse_position - self.region.offset
        words = self.tip(at.x, at.y)
        return Content(words) if words else None

    @tooltip.setter
    def tooltip(self, tooltip: VisualType | None) -> None:
        raise AttributeError("a LineView's tooltip is what its tip says")

    def redraw(self) -> None:
        """Compose anew, and have the rows that differ repainted."""
        width, height = self.size
        if width <= 0 or height <= 0:
            return
        rows = self.compose_rows(width, height)[:height]
        rows += [EMPTY] * (height - len(rows))
        old, self._rows = self._rows, rows
        if len(old) != height:
            self._strips.clear()
            self.refresh()
            return
        changed = [y for y in range(height) if rows[y] != old[y]]
        for y in changed:
            self._strips.pop(y, None)
        if changed:
            self.refresh(*(Region(0, y, width, 1) for y in changed))

    def render_lines(self, crop: Region) -> list[Strip]:
        return [self._strip(y).crop(crop.x, crop.right) for y in range(crop.y, crop.bottom)]

    def _strip(self, y: int) -> Strip:
        strip = self._strips.get(y)
        if strip is None:
            if not self._styles:
                self._styles = styles(self.app.theme)
            width = self.size.width
            line = fit_row(self._rows[y] if y < len(self._rows) else EMPTY, width)
            strip = Strip([Segment(text, self._styles[role]) for text, role in line if text], width)
            # Our colours are true ones: what makes ANSI's true, a third of a strip's cost, is left out.
            filters = [f for f in self.get_line_filters() if not isinstance(f, ANSIToTruecolor)]
            if filters:
                night = PALETTES["ringscope-night"]
                ground = Color.parse(PALETTES.get(self.app.theme, night).background)
                for line_filter in filters:
                    strip = strip.apply_filter(line_filter, ground)
            self._strips[y] = strip
        return strip

    def notify_style_update(self) -> None:
        """The theme changed: every strip is stale."""
        self._styles.clear()
        self._strips.clear()
        super().notify_style_update()

    def on_resize(self, event: events.Resize) -> None:
        self._rows = []
        self.redraw()
