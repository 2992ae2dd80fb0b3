"""A screen over another, which stays in sight, dimmed."""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar, TypeVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import BindingType
from textual.color import Color
from textual.geometry import Region
from textual.screen import ModalScreen
from textual.strip import Strip

T = TypeVar("T")


class Over(ModalScreen[T]):
    """A modal screen that is there quickly.

    Textual mixes the colours of the screen below anew for every piece of text, 25 ms a picture of
    120x40 and two pictures a key; there are some twenty styles on it, and each is mixed once here.
    """

    BINDINGS: ClassVar[list[BindingType]] = [("s", "app.save_picture", "Save a picture")]

    def render_lines(self, crop: Region) -> list[Strip]:
        below = self.app.screen_stack[self.app.screen_stack.index(self) - 1]
        tint = self.styles.background
        strips = below._compositor.render_strips(self.size)
        return [
            _dimmed(strips[y], tint).crop(crop.x, crop.right)
            if y < len(strips)
            else Strip.blank(crop.width)
            for y in range(crop.y, crop.bottom)
        ]


def _dimmed(strip: Strip, tint: Color) -> Strip:
    return Strip([Segment(s.text, _mixed(s.style, tint)) for s in strip], strip.cell_length)


@lru_cache(256)
def _mixed(style: Style | None, tint: Color) -> Style:
    """The style without links and actions, its colours under a film of ``tint``."""
    if style is None:
        return Style()
    front = (Color.from_rich_color(style.color) + tint).rich_color if style.color else None
    back = (Color.from_rich_color(style.bgcolor) + tint).rich_color if style.bgcolor else None
    return style.clear_meta_and_links() + Style.from_color(front, back)
