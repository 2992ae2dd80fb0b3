"""``ringscope [PROGRAM]``: the interface; where there is no terminal for it, the comparison as text."""

from __future__ import annotations

import argparse
import os
import sys

from app.programs import FIRST, path_of

from . import compare
from .options import add_cores_option, add_machine_options, options_from


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("program", metavar="PROGRAM", nargs="?", help="a file or a guest's name")
    add_cores_option(parser)
    add_machine_options(parser)
    parser.set_defaults(parser=parser, json=False)


def run(arguments: argparse.Namespace) -> int:
    if not has_terminal():
        arguments.program = arguments.program or FIRST
        return compare.run(arguments)
    options = options_from(arguments.parser, arguments, arguments.cores)
    from app.tui.app import run_interface

    return run_interface(path_of(arguments.program) if arguments.program else None, options)


def has_terminal() -> bool:
    """Can a full-screen program be shown and typed to? Not on TERM=dumb, nor through pipes."""
    capable = os.name == "nt" or os.environ.get("TERM", "") not in ("", "dumb")
    return capable and sys.stdin.isatty() and sys.stdout.isatty()
