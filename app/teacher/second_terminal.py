"""The teacher's second terminal: it follows the first through a small file in the user's runtime
directory, which says which lesson is played and how far it is."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from platformdirs import user_cache_path

from cores.atomic_file import replacing

POLL = 0.2
"""Seconds between two looks at the file."""
FILE = Path("ringscope", "lesson.json")


class Place(NamedTuple):
    """The lesson being played. path: its file. position: index of the next item."""

    path: str
    position: int


def tell(path: str, position: int) -> None:
    """Say where the lesson is. Where that cannot be written, nobody follows."""
    file = _path()
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as draft:
            draft.write(json.dumps({"path": path, "position": position}).encode())


def end() -> None:
    """The lesson is over."""
    with contextlib.suppress(OSError):
        _path().unlink(missing_ok=True)


def place(directory: Path | None = None) -> Place | None:
    """The place of the first terminal; None when nothing is played. directory: of a player that was
    given one of its own."""
    try:
        found = json.loads((directory / FILE if directory else _path()).read_text())
        return Place(str(found["path"]), int(found["position"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def follow() -> Iterator[Place]:
    """Every new place, until the lesson ends."""
    while (now := place()) is None:
        time.sleep(POLL)
    last = None
    while now is not None:
        if now != last:
            last = now
            yield now
        time.sleep(POLL)
        now = place()


def _path() -> Path:
    """RINGSCOPE_RUNTIME names another directory; a system without one gives its cache directory."""
    chosen = os.environ.get("RINGSCOPE_RUNTIME") or os.environ.get("XDG_RUNTIME_DIR")
    return Path(chosen) / FILE if chosen else user_cache_path("ringscope") / FILE.name
