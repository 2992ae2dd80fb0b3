"""``ringscope [PROGRAM | LESSON]``: the interface; where there is no terminal for it, text."""

from __future__ import annotations

import argparse
import gc
from concurrent.futures import ThreadPoolExecutor

from app import terminal
from app.programs import FIRST, load, path_of
from cores.errors import InputError
from cores.input_file import begins_with
from cores.programs.loader import SAVED_SESSION
from lessons.format.numbering import is_lesson

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
        from lessons.library import find

        from . import play

        return play.play(find(arguments.program))
    if not terminal.is_capable():
        if arguments.program and _is_saved(arguments.program):
            reason = "a saved session: the interface opens it, and there is no terminal for that here"
            raise InputError(reason, arguments.program)
        from . import compare

        arguments.program = arguments.program or FIRST
        return compare.run(arguments)
    options = options_from(arguments.parser, arguments, arguments.cores)
    path = path_of(arguments.program) if arguments.program else None
    gc.disable()  # until the first picture: it would look 40 ms for garbage in what is imported
    with ThreadPoolExecutor(1) as pool:
        # The assembler is a process of its own: it works while the interface is imported.
        loading = (
            pool.submit(load, path, options.ram, options.start)
            if path and not _is_saved(path)
            else None
        )
        from app.tui.app import run_interface

        program = loading.result() if loading else None
    return run_interface(path, options, program=program)


def _is_saved(path: str) -> bool:
    """Is it a saved session, by its first bytes? The module that reads them is loaded later."""
    return begins_with(path, SAVED_SESSION)
