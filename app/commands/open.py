"""``ringscope [PROGRAM | LESSON]``: the interface; where there is no terminal for it, text."""

from __future__ import annotations

import argparse

from app import terminal
from app.programs import FIRST, path_of
from lessons.library import find, is_lesson

from . import compare, play
from .options import add_cores_option, add_machine_options, options_from


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "program", metavar="PROGRAM", nargs="?", help="a file, a guest's or a lesson's name"
    )
    add_cores_option(parser)
    add_machine_options(parser)
    parser.set_defaults(parser=parser, json=False)


def run(arguments: argparse.Namespace) -> int:
    if arguments.program and is_lesson(arguments.program):
        return play.play(find(arguments.program))
    if not terminal.is_capable():
        arguments.program = arguments.program or FIRST
        return compare.run(arguments)
    options = options_from(arguments.parser, arguments, arguments.cores)
    from app.tui.app import run_interface

    return run_interface(path_of(arguments.program) if arguments.program else None, options)
