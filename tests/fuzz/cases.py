"""Guests on which cores once differed (regressions.s): their steps, and words for their set-up."""

from __future__ import annotations

import re
from pathlib import Path

from .privileged import RandomGuest, Setup

REGRESSIONS = Path(__file__).parent / "regressions.s"
HEADING = re.compile(r"^## (\S+)(?: \[(.*)\])?: (.*)$", re.MULTILINE)
SOURCE = "source"
"""In brackets: a whole program of level 1, for which there is no frame."""


def load(path: Path = REGRESSIONS) -> dict[str, RandomGuest]:
    """The guests of the file, by name."""
    text = path.read_text()
    headings = list(HEADING.finditer(text))
    found = {}
    for heading, following in zip(headings, [*headings[1:], None], strict=True):
        name, words, _ = heading.groups()
        body = text[heading.end() : following.start() if following else None].strip("\n")
        if words == SOURCE:
            found[name] = RandomGuest(1, 0, tuple(body.split("\n")))
        else:
            found[name] = RandomGuest(4, 0, tuple(body.split("\n\n")), Setup.parsed(words or ""))
    return found


def append(guest: RandomGuest, words: str, path: Path = REGRESSIONS) -> str:
    """Add a guest to the file; returns the name it has there."""
    name = f"level{guest.level}-{guest.seed}"
    setup = SOURCE if guest.level == 1 else guest.setup.words()
    body = ("\n" if guest.level == 1 else "\n\n").join(guest.steps)
    heading = f"## {name}{f' [{setup}]' if setup else ''}: {words}"
    with path.open("a") as file:
        file.write(f"\n{heading}\n{body}\n")
    return name
