"""Programs as the user names them: a path, or a guest that comes with Ringscope."""

from __future__ import annotations

import os

from cores.programs.loader import load_program
from cores.programs.program import Program
from cores.programs.shipped import programs

FIRST = "hello"
"""The guest that is shown when nothing is asked for."""


def guest_names() -> list[str]:
    return [guest.stem for guest in programs()]


def path_of(name: str) -> str:
    """A guest's name becomes the path of what is run, unless there is a file of that name."""
    if not os.path.exists(name):
        for guest in programs():
            if guest.stem == name:
                return os.path.relpath(guest) if guest.is_relative_to(os.getcwd()) else str(guest)
    return name


def load(name: str, ram: int) -> Program:
    """Raises InputError for what is no program."""
    return load_program(path_of(name), ram)
