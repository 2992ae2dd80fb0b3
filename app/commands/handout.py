"""``ringscope handout LESSON -o FILE.html``: a lesson as one HTML file, for paper or any browser."""

from __future__ import annotations

import argparse

from app.handout.page import page
from app.handout.recorder import perform
from app.main import OK, UNAVAILABLE, complain, printable
from cores.atomic_file import Kind, replacing
from cores.errors import InputError
from lessons import library

from .options import seed

_PAGE = Kind("a handout (HTML)", lambda head: head.lstrip().lower().startswith(b"<!doctype html"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("lesson", metavar="LESSON", help="a name or number of `ringscope lessons`, or a file")
    add("-o", "--output", required=True, metavar="FILE.html", help="the file to write")
    add("--overwrite", action="store_true", help="whatever that file has been so far")
    add("--seed", type=seed, metavar="N", help="vary the questions' numbers")


def run(arguments: argparse.Namespace) -> int:
    if not arguments.output.strip():
        raise InputError("-o: no file is named")
    lesson = library.find(arguments.lesson)
    performance = perform(lesson, arguments.seed)
    if performance.missing:
        complain(f"this lesson needs {', '.join(performance.missing)}, which cannot run here")
        return UNAVAILABLE
    content = page(performance).encode()
    try:
        with replacing(arguments.output, _PAGE, overwrite=arguments.overwrite) as file:
            file.write(content)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror or error}", arguments.output) from None
    print(f"{printable(arguments.output)}: {len(content) // 1024} KiB, to be opened in any browser")
    return OK
