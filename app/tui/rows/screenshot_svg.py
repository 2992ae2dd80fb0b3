"""The screen as text and as SVG: for the s key, for tests, and for app/tui/screenshot.py.

Textual can export SVG too, but names a font on the web, which a picture in a README must not need.
Here every run of text is placed by its column and stretched to its cells, in the reader's own
monospaced font.
"""

from __future__ import annotations

from html import escape

from rich.segment import Segment
from textual.app import App
from textual.strip import Strip

from app.tui.rows.theme import NIGHT, PALETTES

CELL, LINE = 8.4, 18
"""One cell in SVG units; the font size that fits it."""
FONT = 14
FONTS = "ui-monospace, 'Cascadia Mono', 'DejaVu Sans Mono', Menlo, Consolas, monospace"


def strips(app: App[int]) -> list[Strip]:
    """The strips on the screen now. Textual has no public way to ask for them."""
    return app.screen._compositor.render_strips()


def text(app: App[int]) -> str:
    """The screen as plain text, without blanks at line ends."""
    return "\n".join(strip.text.rstrip() for strip in strips(app)) + "\n"


def svg(app: App[int]) -> str:
    """The screen as an SVG picture that needs nothing from elsewhere."""
    palette = PALETTES.get(app.theme, NIGHT)
    width, height = app.size.width * CELL + 16, app.size.height * LINE + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'font-family="{FONTS}" font-size="{FONT}">',
        f'<rect width="100%" height="100%" rx="8" fill="{palette.background}"/>',
    ]
    for y, strip in enumerate(strips(app)):
        x = 0
        for segment in strip:
            parts += _run(segment, x, y, palette.text, palette.background)
            x += segment.cell_length
    return "\n".join([*parts, "</svg>", ""])


def _run(segment: Segment, x: int, y: int, text_color: str, ground: str) -> list[str]:
    """One segment: its background, and its words from the first to the last that is not blank."""
    style = segment.style
    front = back = ""
    if style is not None:
        front = style.color.get_truecolor().hex if style.color and style.color.triplet else ""
        back = style.bgcolor.get_truecolor().hex if style.bgcolor and style.bgcolor.triplet else ""
        if style.reverse:
            front, back = back or ground, front or text_color
    out = []
    left, top = 8 + x * CELL, 8 + y * LINE
    if back and back != ground:
        cells = segment.cell_length * CELL
        out.append(
            f'<rect x="{left:.1f}" y="{top}" width="{cells:.1f}" height="{LINE}" fill="{back}"/>'
        )
    words = segment.text.strip()
    if words:
        left += (len(segment.text) - len(segment.text.lstrip())) * CELL
        look = _look(segment)
        out.append(
            f'<text x="{left:.1f}" y="{top + 13.5}" textLength="{len(words) * CELL:.1f}" '
            f'fill="{front or text_color}"{look} xml:space="preserve">{escape(words)}</text>'
        )
    return out


def _look(segment: Segment) -> str:
    style = segment.style
    if style is None:
        return ""
    return (
        (' font-weight="bold"' if style.bold else "")
        + (' font-style="italic"' if style.italic else "")
        + (' text-decoration="underline"' if style.underline else "")
        + (' opacity="0.6"' if style.dim else "")
    )
