"""Paths as they are typed: what they may go on with."""

from __future__ import annotations

import os

MOST = 200
"""Names of one folder that are offered."""


def matches(typed: str) -> list[str]:
    """The files and folders that begin with what was typed, folders with a slash at their end. Hidden
    ones are offered to who types the dot. Of a folder that cannot be read, none."""
    folder, tail = os.path.split(typed)
    try:
        with os.scandir(os.path.expanduser(folder) or ".") as entries:
            found = sorted(
                entry.name + ("/" if entry.is_dir() else "")
                for entry in entries
                if entry.name.startswith(tail) and entry.name.startswith(".") == tail.startswith(".")
            )
    except (OSError, ValueError):
        return []
    return [os.path.join(folder, name) for name in found[:MOST]]


def completed(typed: str) -> str:
    """What was typed, with all that every match goes on with."""
    return os.path.commonprefix(matches(typed)) or typed  # noqa: RUF071 - letters, not parts
