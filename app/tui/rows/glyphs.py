"""The symbols on the screen, and what stands for them where the terminal has no Unicode."""

from __future__ import annotations

import locale
import os
import sys
from dataclasses import dataclass

from rich.cells import cell_len


@dataclass(frozen=True, slots=True)
class Glyphs:
    """One set of symbols. All are one cell wide but ``exits``, which may be up to three."""

    corners: tuple[str, str, str, str]
    """Top left, top right, bottom left, bottom right."""
    across: str
    down: str
    next: str
    """Before the instruction that runs next."""
    exits: str
    """Leaves the guest here."""
    direct: str
    silent: str
    changed: str
    read: str
    equal: str
    unequal: str
    done: str
    """A lesson played to its end."""
    dot: str
    block: str
    mark: str
    """An exit on the timeline."""
    now: str
    breakpoint: str
    cursor: str
    """Before the line that keys point at."""
    more: str
    """Stands where text was cut."""


UNICODE = Glyphs(
    corners=("╭", "╮", "╰", "╯"), across="─", down="│", next="▸", exits="⇄", direct="│", silent="~",
    changed="*", read="‹", equal="=", unequal="≠", done="✓", dot="·", block="█", mark="┼", now="●",
    breakpoint="◆", cursor="›", more="…",
)  # fmt: skip

ASCII = Glyphs(
    corners=("+", "+", "+", "+"), across="-", down="|", next=">", exits="<=>", direct="|", silent="~",
    changed="*", read="<", equal="=", unequal="#", done="x", dot="-", block="#", mark="+", now="O",
    breakpoint="@", cursor="]", more=">",
)  # fmt: skip


def for_this_terminal() -> Glyphs:
    """Unicode where the output's encoding has it and the terminal is not the kernel's own console,
    whose font has few of these symbols."""
    encoding = (getattr(sys.__stdout__, "encoding", "") or locale.getpreferredencoding(False)).lower()
    if os.environ.get("TERM") in ("linux", "vt100", "vt220"):
        return ASCII
    return UNICODE if encoding.replace("-", "") == "utf8" else ASCII


_SIGNS = {
    "|": "│", ":": "┊", "@": "⇄", ">": "▸›→", "v": "▾✓↓", ".": "•┄░·▁", "<": "←‹", "^": "↑", "-": "─",
    "=": "━", "+": "┐┌└┘┼┬╭╮╰╯", "#": "█▇■▆▅", "%": "▒", "O": "●", "!": "≠", "x": "×", "~": "…",
    "u": "µ", "*": "◆", "$": "↵", '"': "▀", "_": "▄▂▃",
    "[": "▌▎▍▊▋", "]": "▐▕",
}  # fmt: skip
_PLAIN = {ord(sign): letter for letter, signs in _SIGNS.items() for sign in signs}
"""One character for each sign of the screen."""


def plain(text: str) -> str:
    """Text in ASCII, in as many cells."""
    if text.isascii():
        return text
    signs = text.translate(_PLAIN)
    return "".join(sign if sign.isascii() else "?" * cell_len(sign) for sign in signs)
