"""``ringscope completion SHELL``: a script with which the shell completes commands and options."""

from __future__ import annotations

import argparse
import importlib

import shtab

from app.main import COMMANDS, OK, Parser

SHELLS = ("bash", "zsh", "fish")
_FILES = frozenset(
    {"program", "programs", "disk", "output", "files", "device", "html", "gradescope", "answers",
     "task", "record", "module", "file"}
)  # fmt: skip
"""Names of arguments whose values are files."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))


def run(arguments: argparse.Namespace) -> int:
    print(shtab.complete(whole_parser(), shell=arguments.shell))
    return OK


def whole_parser() -> argparse.ArgumentParser:
    """One parser with all commands in it, as the shell sees the program."""
    top = argparse.ArgumentParser(
        prog="ringscope", description="One guest on an emulator and on the CPU."
    )
    top.add_argument("--version", action="store_true", help="the version")
    commands = top.add_subparsers(metavar="COMMAND", parser_class=_Command)
    for name, summary in COMMANDS.items():
        parser = commands.add_parser(name, help=summary, description=summary)
        importlib.import_module(f"app.commands.{name.replace('-', '_')}").add_arguments(parser)
        for action in parser._actions:
            if action.dest in _FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined] # how shtab is told
    return top


class _Command(Parser):
    """A command's parser, as ``add_parser`` makes one."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog.removeprefix("ringscope "), description)
