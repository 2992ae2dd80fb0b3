"""Pictures of the screen: as SVG, as text and as an HTML fragment, in the user's pictures folder."""

from __future__ import annotations

import os
from datetime import datetime
from html import escape
from pathlib import Path

from platformdirs import user_pictures_path
from rich.segment import Segment
from textual.app import App

from app.tui.rows import screenshot_svg
from app.tui.rows.screenshot_svg import strips
from app.tui.rows.theme import NIGHT, PALETTES
from cores.atomic_file import replacing


def folder() -> Path:
    """Where pictures are saved (XDG_PICTURES_DIR on Linux); RINGSCOPE_PICTURES names another folder."""
    chosen = os.environ.get("RINGSCOPE_PICTURES")
    return Path(chosen) if chosen else user_pictures_path() / "Ringscope"


def save(app: App[int]) -> Path:
    """Save the screen as it is now, in three forms under one name; returns the SVG's path. Raises
    OSError."""
    return _write(
        {".svg": screenshot_svg.svg(app), ".txt": screenshot_svg.text(app), ".html": html(app)}
    )


def save_svg(text: str) -> Path:
    """Save a picture that is made already, beside those of the screen; returns its path. Raises
    OSError."""
    return _write({".svg": text})


def _write(made: dict[str, str]) -> Path:
    """made: texts by their endings, one of them ".svg"."""
    where = folder()
    where.mkdir(parents=True, exist_ok=True)
    stem = f"ringscope-{datetime.now():%Y%m%d-%H%M%S}"
    numbered = (f"{stem}{n}" for n in ("", *(f"-{n}" for n in range(2, 100))))
    name = next(n for n in numbered if not any(os.path.lexists(where / f"{n}{end}") for end in made))
    for ending, text in made.items():
        with replacing(where / f"{name}{ending}") as draft:
            draft.write(text.encode())
    return where / f"{name}.svg"


def html(app: App[int]) -> str:
    """The screen as a ``pre`` element with its colours in it, to be pasted into a page."""
    palette = PALETTES.get(app.theme, NIGHT)
    look = f"background:{palette.background};color:{palette.text};line-height:1.25;padding:0.5em"
    lines = ["".join(map(_span, strip)).rstrip() for strip in strips(app)]
    return (
        f'<pre style="{look};font-family:{escape(screenshot_svg.FONTS)}">\n'
        + "\n".join(lines)
        + "\n</pre>\n"
    )


def _span(segment: Segment) -> str:
    """A run of text in one style."""
    style, text = segment.style, escape(segment.text, quote=False)
    if style is None or (not segment.text.strip() and not (style.bgcolor or style.reverse)):
        return text
    front, back = (
        color.get_truecolor().hex if color is not None and color.triplet else ""
        for color in (style.color, style.bgcolor)
    )
    looks = [
        f"color:{back if style.reverse else front}" if front else "",
        f"background:{front if style.reverse else back}" if back else "",
        "font-weight:bold" if style.bold else "",
        "font-style:italic" if style.italic else "",
        "text-decoration:underline" if style.underline else "",
    ]
    return f'<span style="{";".join(filter(None, looks))}">{text}</span>'
