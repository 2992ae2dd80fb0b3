"""A text area that shows what is what in an assembly source: comments, labels, mnemonics, numbers."""

from __future__ import annotations

import re

from rich.style import Style
from textual.widgets import TextArea
from textual.widgets.text_area import TextAreaTheme

from app.tui.rows.theme import NIGHT, PALETTES

_TOKEN = re.compile(
    r"""(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)')"""
    r"""|(?P<comment>\#.*|//.*)"""
    r"""|(?P<end>;)"""
    r"""|(?P<label>[A-Za-z_.$][\w.$]*:)"""
    r"""|(?P<number>\b0x[0-9a-fA-F_]+\b|\b\d\w*\b)"""
    r"""|(?P<directive>\.[A-Za-z]\w*)"""
    r"""|(?P<word>[A-Za-z_][\w.]*)"""
)
PREFIXES = ("rep", "repe", "repne", "lock")


def tokens(line: str) -> list[tuple[int, int, str]]:
    """(start, end, kind) of what is worth a colour, in characters. Of the words of a statement only
    the first is a mnemonic, with a prefix before it."""
    found: list[tuple[int, int, str]] = []
    first = True
    for match in _TOKEN.finditer(line):
        kind = match.lastgroup or ""
        if kind == "end":
            first = True
        elif kind != "word":
            found.append((match.start(), match.end(), kind))
        elif first:
            first = match[0] in PREFIXES
            found.append((match.start(), match.end(), "mnemonic"))
    return found


class AssemblyArea(TextArea):
    """TextArea without tree-sitter: its grammar for assembly is not on every host."""

    def on_mount(self) -> None:
        self.watch(self.app, "theme", self._take_theme)

    def _take_theme(self, name: str) -> None:
        p = PALETTES.get(name, NIGHT)
        look = {
            "comment": Style(color=p.dim, italic=True),
            "label": Style(color=p.title, bold=True),
            "mnemonic": Style(color=p.soft),
            "directive": Style(color=p.cpu),
            "number": Style(color=p.host),
            "string": Style(color=p.cpu),
        }
        self.register_theme(TextAreaTheme("assembly", syntax_styles=look))
        self.theme = "assembly"

    def _build_highlight_map(self) -> None:
        """Lines are cut by ``tokens``; offsets are in bytes of UTF-8, as TextArea wants them."""
        self._line_cache.clear()
        self._highlights.clear()
        for number, line in enumerate(self.document.lines):
            if found := tokens(line):
                self._highlights[number] = [
                    (len(line[:start].encode()), len(line[:end].encode()), kind)
                    for start, end, kind in found
                ]
