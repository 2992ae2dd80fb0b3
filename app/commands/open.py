"""``ringscope [PROGRAM | LESSON]``: the interface; where there is no terminal for it, text."""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from app import pace, terminal
from app.programs import FIRST, path_of
from cores.engines import registry
from cores.errors import InputError
from cores.input_file import begins_with
from cores.programs.loader import SAVED_SESSION
from lessons.format.numbering import is_lesson

from .options import add_cores_option, add_machine_options, options_from

if TYPE_CHECKING:  # loaded while the interface is
    from app.opening import Begun
    from cores.lockstep.options import Options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "program",
        metavar="PROGRAM",
        nargs="?",
        help="a file, a guest's name, or a lesson's name or number",
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
    pace.start_quickly()
    if path is None:
        from app.tui.app import run_interface

        return run_interface(None, options)
    with ThreadPoolExecutor(2) as pool:
        # KVM's machines take their time in the kernel, and the assembler is a process of its own: both
        # work while the interface is imported.
        pool.submit(registry.probe_hosts, options.asked)
        beginning = pool.submit(_begin, path, options)
        from app.tui.app import run_interface

        begun = beginning.result()
    return run_interface(None, options, begun=begun)


def _begin(path: str, options: Options) -> Begun:
    from app.opening import begin

    return begin(path, options)


def _is_saved(path: str) -> bool:
    """Is it a saved session, by its first bytes? The module that reads them is loaded later."""
    return begins_with(path, SAVED_SESSION)
