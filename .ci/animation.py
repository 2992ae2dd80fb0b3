"""The README's moving picture: ``python .ci/animation.py record CAST`` and ``draw CAST SVG``.

``record`` runs the interface in a terminal of its own, presses the keys of SCENE and writes what is
drawn as an asciicast. The times in it are the scene's, so that a busy computer makes the same film.
``draw`` makes an SVG of any asciicast that needs nothing from elsewhere. It is a film strip: each
screen stands below the one before, made of rows that are drawn once, and CSS moves the strip. A
reader whose system asks for less motion sees one screen.
"""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import sys
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path

import pyte

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

COLUMNS, ROWS = 100, 30
COMMAND = "ringscope tinyos"


@dataclass(frozen=True)
class Press:
    """Keys to press. seconds: that the film stays with what they do. watched: seconds of the computer's
    time that are filmed as they pass; 0: only the screen that is there when it is quiet again. until: a
    word that has to be drawn before. marker: a chapter of the cast."""

    keys: str
    seconds: float
    watched: float = 0.0
    until: str = ""
    marker: str = ""


SCENE = (
    Press("", 1.6, until="EMULATOR", marker="one program, three machines"),
    Press("n", 0.7), Press("n", 0.7), Press("n", 0.8),
    Press("e", 1.3, marker="where the guest is left"), Press("e", 0.9), Press("e", 1.9),
    Press("w", 3.0, marker="as a conversation"),
    Press("f", 2.0, 2.0, marker="at full speed"),
    Press("v", 1.0), Press("l", 0.2), Press("s", 0.4), Press("\r", 1.0),
    *(Press(key, 0.12) for key in "cat readme"), Press("\r", 2.2),
    Press("\x1b", 2.0, 2.0),
)  # fmt: skip
QUIET, PATIENCE = 1.0, 60.0
"""Seconds without output after which the screen is taken for finished, and the longest wait for it."""


class Recorder:
    """One run of the interface, written as a cast."""

    def __init__(self, path: Path) -> None:
        from app.recording.asciicast import Cast
        from app.recording.record_tui import Screen

        self.now = 0.0
        self.terminal = -1
        self._file = path.open("w", encoding="utf-8")
        cast = Cast(self._file, COMMAND, COLUMNS, ROWS)
        self.screen = Screen(cast, lambda: self.now)
        self.cast = cast

    def type_command(self) -> None:
        for text in ("$ ", *COMMAND, "\r\n"):
            self.cast.output(self.now, text)
            self.now += 0.06

    def run(self) -> None:
        environment = os.environ | {
            "TERM": "xterm-256color", "COLORTERM": "truecolor", "RINGSCOPE_CONFIG": os.devnull,
            "COLUMNS": str(COLUMNS), "LINES": str(ROWS),
        }  # fmt: skip
        child, self.terminal = pty.fork()
        if child == 0:
            os.chdir(ROOT)
            command = [sys.executable, "-m", "app.main", *COMMAND.split()[1:]]
            os.execve(sys.executable, command, environment)
        termios.tcsetwinsize(self.terminal, (ROWS, COLUMNS))
        try:
            for press in SCENE:
                self._press(press)
        finally:
            os.kill(child, signal.SIGTERM)
            os.close(self.terminal)
            os.waitpid(child, 0)
        self._file.close()

    def _press(self, press: Press) -> None:
        began = self.now
        if press.marker:
            self.screen.marker(press.marker)
        os.write(self.terminal, press.keys.encode())
        start = last = time.monotonic()
        missing = press.until.encode()
        while True:
            now = time.monotonic()
            if press.watched:
                if now - start > press.watched:
                    break
                self.now = began + (now - start) * press.seconds / press.watched
            elif (now - last > QUIET and not missing) or now - start > PATIENCE:
                break
            if select.select([self.terminal], [], [], 0.05)[0]:
                chunk = os.read(self.terminal, 1 << 16)
                self.screen.drawn(chunk)
                if missing in chunk:
                    missing = b""
                last = time.monotonic()
                if press.keys and not press.watched and last - start > 2.5:
                    break  # the machines run and draw on
        self.now = began + press.seconds


FRAME = 0.12
"""Shortest time of one screen, in seconds: what is drawn within it is one change."""
CELL, LINE, PAD, BAR = 8.4, 18, 10, 26
"""Of the picture: a cell's width and height, the margin, and the window's bar."""
FONTS = "ui-monospace,'Cascadia Mono','DejaVu Sans Mono',Menlo,Consolas,monospace"
LAST = 2.5
"""Seconds that the last screen stays."""
Cell = tuple[str, str, str, bool]
Row = tuple[Cell, ...]


def frames(cast: Path) -> tuple[int, list[tuple[float, tuple[Row, ...]]]]:
    """The columns, and the screens, each with the time from which it is there."""
    lines = cast.read_text(encoding="utf-8").splitlines()
    header = json.loads(lines[0])
    screen = pyte.Screen(header["width"], header["height"])
    stream = pyte.Stream(screen)
    found: list[tuple[float, tuple[Row, ...]]] = []
    events = [event for line in lines[1:] if (event := json.loads(line))[1] == "o"]
    for (at, _, text), following in zip(events, [*events[1:], [1e9]], strict=True):
        stream.feed(text)
        if following[0] - at < FRAME and not (found and at - found[-1][0] > 2 * FRAME):
            continue
        rows = tuple(_row(screen, y) for y in range(screen.lines))
        if found and at - found[-1][0] < 0.001:
            found.pop()  # drawn in two pieces
        if not found or rows != found[-1][1]:
            found.append((at, rows))
    found[0] = (0.0, found[0][1])
    return header["width"], found


def _row(screen: pyte.Screen, y: int) -> Row:
    cells = []
    for x in range(screen.columns):
        cell = screen.buffer[y][x]
        front, back = (cell.bg, cell.fg) if cell.reverse else (cell.fg, cell.bg)
        cells.append((cell.data, front, back, bool(cell.bold)))
    return tuple(cells)


class Picture:
    """Collects the styles and the distinct rows."""

    def __init__(self, ground: str, text: str) -> None:
        self.ground, self.text = ground, text
        self.styles: dict[str, str] = {}
        self.rows: dict[Row, int] = {}

    def style(self, rule: str) -> str:
        """The class for a CSS declaration."""
        return self.styles.setdefault(rule, f"c{len(self.styles)}")

    def row(self, row: Row) -> int:
        return self.rows.setdefault(row, len(self.rows))

    def drawn(self, row: Row) -> str:
        out = []
        for start, end in _runs(row, lambda c: c[2]):
            if (back := _color(row[start][2], self.ground)) != self.ground:
                out.append(
                    f'<rect x="{start * CELL:.1f}" width="{(end - start) * CELL:.1f}" height="{LINE}" '
                    f'class="{self.style(f"fill:{back}")}"/>'
                )
        for start, end in _runs(row, lambda c: (c[1], c[3])):
            words = "".join(cell[0] for cell in row[start:end])
            left = start + len(words) - len(words.lstrip())
            words = words.strip()
            if not words:
                continue
            classes = [self.style(f"fill:{_color(row[start][1], self.text)}")]
            if row[start][3]:
                classes.append(self.style("font-weight:bold"))
            out.append(
                f'<text x="{left * CELL:.1f}" y="13.5" textLength="{len(words) * CELL:.1f}" '
                f'class="{" ".join(classes)}">{escape(words)}</text>'
            )
        return "".join(out)


def _color(name: str, default: str) -> str:
    """Pyte's name of a color as CSS has it."""
    if name == "default":
        return default
    return f"#{name}" if len(name) == 6 else name


def _runs(row: Row, key: Callable[[Cell], object]) -> list[tuple[int, int]]:
    """Where a row's cells have the same look, from and to."""
    found, start = [], 0
    for x in range(1, len(row) + 1):
        if x == len(row) or key(row[x]) != key(row[start]):
            found.append((start, x))
            start = x
    return found


def svg(cast: Path) -> str:
    """The film."""
    from app.tui.rows.theme import NIGHT

    columns, film = frames(cast)
    picture = Picture(NIGHT.background, NIGHT.text)
    height, lines = len(film[0][1]) * LINE, []
    for i, (_, rows) in enumerate(film):
        for y, row in enumerate(rows):
            if any(cell[0].strip() or cell[2] != "default" for cell in row):
                lines.append(f'<use href="#r{picture.row(row)}" y="{i * height + y * LINE}"/>')
    defined = "".join(f'<g id="r{n}">{picture.drawn(row)}</g>\n' for row, n in picture.rows.items())
    whole = film[-1][0] + LAST
    steps = "".join(
        f"{100 * at / whole:.2f}%{{transform:translateY({-i * height}px)}}"
        for i, (at, _) in enumerate(film)
    )
    styles = "".join(f".{name}{{{rule}}}" for rule, name in picture.styles.items())
    still = max(range(len(film)), key=lambda i: sum(c[0] != " " for r in film[i][1] for c in r))
    width = columns * CELL
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width + 2 * PAD:.0f} '
        f'{height + BAR + PAD:.0f}" font-family="{FONTS}" font-size="14">\n'
        f"<style>{styles}text{{white-space:pre}}"
        f"#film{{animation:film {whole:.1f}s steps(1,end) infinite}}@keyframes film{{{steps}}}"
        f"@media (prefers-reduced-motion:reduce){{#film{{animation:none;"
        f"transform:translateY({-still * height}px)}}}}</style>\n"
        f'<rect x=".5" y=".5" width="{width + 2 * PAD - 1:.0f}" height="{height + BAR + PAD - 1:.0f}" '
        f'rx="8" fill="{picture.ground}" stroke="#8b949e" stroke-opacity=".5"/>\n'
        '<circle cx="18" cy="14" r="5" fill="#ff5f57"/><circle cx="36" cy="14" r="5" fill="#febc2e"/>'
        '<circle cx="54" cy="14" r="5" fill="#28c840"/>\n'
        f"<defs>{defined}</defs>\n"
        f'<svg x="{PAD}" y="{BAR}" width="{width:.0f}" height="{height}" '
        f'viewBox="0 0 {width:.0f} {height}">'
        f'<g id="film">{"".join(lines)}</g></svg>\n</svg>\n'
    )


def main(words: list[str]) -> int:
    match words:
        case ["record", cast]:
            recorder = Recorder(Path(cast))
            recorder.type_command()
            recorder.run()
        case ["draw", cast, picture]:
            Path(picture).write_text(svg(Path(cast)), encoding="utf-8")
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
