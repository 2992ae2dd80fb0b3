"""``ringscope manual``: all commands and options on one page."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from app.commands import open as opening
from app.commands.completion import whole_parser
from app.main import OK, VERSION, Parser
from app.text import manual

MOST_COLUMNS = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--roff", action="store_true", help="as a man page, for man(1) to show")


def run(arguments: argparse.Namespace) -> int:
    if arguments.roff:
        print(page(), end="")
    elif not (sys.stdout.isatty() and shutil.which("man") and _shown_by_man()):
        width = min(shutil.get_terminal_size().columns, MOST_COLUMNS)
        print(manual.plain(manual.sections(whole_parser(), _opening()), width), end="")
    return OK


def page() -> str:
    """The man page."""
    return manual.roff(manual.sections(whole_parser(), _opening()), VERSION)


def _opening() -> argparse.ArgumentParser:
    """The parser of the options with which the interface opens."""
    parser = Parser("", "")
    opening.add_arguments(parser)
    return parser


def _shown_by_man() -> bool:
    with tempfile.TemporaryDirectory(prefix="ringscope") as folder:
        file = Path(folder, "ringscope.1")
        file.write_text(page(), encoding="utf-8")
        return subprocess.run(["man", str(file)], check=False).returncode == 0
