"""``ringscope new-lesson DIR``: a commented lesson and its guest, to begin from, and a second guest
that takes interrupts."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from app.main import OK, printable
from cores.atomic_file import ANOTHER_NAME, Kind, replacing
from cores.errors import InputError
from lessons.format.parser import parse_file

TEMPLATE = Path(__file__).resolve().parents[2] / "lessons" / "template"
FILES = ("lesson.md", "guest.s", "interrupts.s")
NOTHING_BUT_NEW = Kind("ours to write", lambda _: False, ANOTHER_NAME)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", help="a directory for it; made if it is not there")


def run(arguments: argparse.Namespace) -> int:
    if not arguments.directory.strip():
        raise InputError("no directory is named")
    directory = Path(arguments.directory)
    try:
        there = [str(directory / name) for name in FILES if os.path.lexists(directory / name)]
        if there:
            raise InputError("already there; nothing was written", there[0])
        directory.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            with replacing(directory / name, NOTHING_BUT_NEW) as file:
                file.write((TEMPLATE / name).read_bytes())
    except OSError as error:
        raise InputError(error.strerror or str(error), str(directory)) from None
    except ValueError:
        raise InputError("there is a NUL in its name", str(directory)) from None
    lesson = directory / FILES[0]
    parse_file(str(lesson))
    name = printable(str(lesson))
    print(f"{name} and {printable(str(directory / FILES[1]))} are written; {FILES[2]} beside them")
    print("is a guest that takes timer interrupts, should yours need that. Then:")
    print(f"  ringscope check {name}\n  ringscope play {name} --plain")
    return OK
