"""Rows of styled text, built by pure functions and painted by ``LineView``.

A row is a tuple of (text, role) pairs. Rows are compared to find out what changed since the last
frame, so nothing on the screen is repainted that did not change.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.cells import cell_len, set_cell_size

from app.tui.rows.glyphs import Glyphs

Row = tuple[tuple[str, str], ...]

EMPTY: Row = ()


def width_of(text: str) -> int:
    """Terminal cells that the text takes."""
    return len(text) if text.isascii() else cell_len(text)


def fit(text: str, width: int, more: str = "") -> str:
    """The text in exactly ``width`` cells: padded with blanks, or cut with ``more`` at its end."""
    if width <= 0:
        return ""
    length = width_of(text)
    if length <= width:
        return text + " " * (width - length)
    return set_cell_size(text, max(0, width - len(more))) + more[:width]


def row(*parts: tuple[str, str] | str) -> Row:
    """A row from pairs; a bare string has the role "text"."""
    return tuple((p, "text") if isinstance(p, str) else p for p in parts)


def row_width(line: Row) -> int:
    cells = 0
    for text, _ in line:  # a hundred of these a frame: no generator, no call for plain text
        cells += len(text) if text.isascii() else cell_len(text)
    return cells


def fit_row(line: Row, width: int, role: str = "text") -> Row:
    """The row in exactly ``width`` cells."""
    out: list[tuple[str, str]] = []
    left = width
    for text, style in line:
        length = len(text) if text.isascii() else cell_len(text)
        if length > left:
            out.append((fit(text, left), style))
            left = 0
            break
        out.append((text, style))
        left -= length
    if left:
        out.append((" " * left, role))
    return tuple(out)


def raised(line: Row) -> Row:
    """The row on the raised background."""
    return tuple((text, role if role.endswith("@") else role + "@") for text, role in line)


def spread(left: Row, right: Row, width: int) -> Row:
    """``left`` and ``right`` at the two ends; the left one gives way."""
    room = max(0, width - row_width(right))
    return (*fit_row(left, room), *right)


def printable(text: str) -> str:
    """Guest output made harmless: control characters and the soft hyphen become dots."""
    return "".join(c if c.isprintable() and c != "\xad" else "·" for c in text)


def boxed(
    title: Row, body: Iterable[Row], width: int, height: int, glyphs: Glyphs, border: str
) -> list[Row]:
    """A frame of exactly width x height cells with the title in its upper edge and one blank cell
    at each side of the body."""
    inner = width - 4
    tl, tr, bl, br = glyphs.corners
    head = fit_row(title, min(row_width(title), inner))
    rest = glyphs.across * (width - 4 - row_width(head))
    rows: list[Row] = [((tl + glyphs.across, border), *head, (rest + glyphs.across + tr, border))]
    lines = list(body)[: height - 2]
    lines += [EMPTY] * (height - 2 - len(lines))
    for line in lines:
        lit = bool(line) and line[0][1].endswith("@")
        pad = (" ", "text@" if lit else "text")
        rows.append(
            ((glyphs.down, border), pad, *fit_row(line, inner, pad[1]), pad, (glyphs.down, border))
        )
    rows.append(((bl + glyphs.across * (width - 2) + br, border),))
    return rows


def beside(left: list[Row], right: list[Row], at: int) -> list[Row]:
    """Two blocks side by side, the right one from cell ``at`` on."""
    height = max(len(left), len(right))
    left = left + [EMPTY] * (height - len(left))
    right = right + [EMPTY] * (height - len(right))
    return [(*fit_row(a, at), *b) for a, b in zip(left, right, strict=True)]
