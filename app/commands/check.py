"""``ringscope check FILE...``: hold lessons against the machines here."""

from __future__ import annotations

import argparse
import sys
from time import monotonic

from app.main import BAD_INPUT, DIVERGED, OK, complain, printable
from app.numbers import decimal
from cores.errors import InputError
from cores.plural import counted
from lessons.checker import TIMEOUT, Limits, Result, check

from .options import seed

_EACH = 10.0
"""Seconds between two lines of progress where they are not drawn over one another."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", metavar="FILE", nargs="+", help="a lesson")
    parser.add_argument("--seed", type=seed, metavar="N", help="vary the questions' numbers")
    parser.add_argument(
        "--timeout", type=seconds, default=TIMEOUT, metavar="SECONDS",
        help=f"for one move of the machines ({TIMEOUT:.0f}): a guest may be endless",
    )  # fmt: skip


def seconds(text: str) -> float:
    try:
        value = decimal(text)
    except ValueError:
        value = -1
    if not 0 < value <= 86400:
        raise argparse.ArgumentTypeError(f"{text[:60]!r} is no time; seconds, such as 60")
    return value


class _Progress:
    """The place of a long check: on a terminal one line that changes, elsewhere a line at times."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._on_terminal = sys.stderr.isatty()
        self._drawn = 0
        self._next = monotonic() + (0.5 if self._on_terminal else _EACH)

    def tell(self, where: str) -> None:
        if monotonic() < self._next:
            return
        line = printable(f"{self._path}: {where}")
        if self._on_terminal:
            line = line[:79]
            print(f"\r{line:<{self._drawn}}", end="", file=sys.stderr, flush=True)
            self._drawn = len(line)
        else:
            print(line, file=sys.stderr, flush=True)
            self._next = monotonic() + _EACH

    def end(self) -> None:
        if self._drawn:
            print(f"\r{'':<{self._drawn}}\r", end="", file=sys.stderr, flush=True)


def run(arguments: argparse.Namespace) -> int:
    code = OK
    for path in arguments.files:
        if not path.strip():
            raise InputError("no file is named")
        progress = _Progress(path)
        try:
            result = check(path, arguments.seed, Limits(arguments.timeout, progress.tell))
        finally:
            progress.end()
        for problem in result.problems:
            complain(str(problem))
        if any(problem.syntax for problem in result.problems):
            code = BAD_INPUT
        elif result.problems:
            code = max(code, DIVERGED)
        else:
            print(printable(_summary(result)))
    return code


def _summary(result: Result) -> str:
    needed = [core for core, unchecked in result.absent if not unchecked]
    if needed:
        return f"{result.path}: readable; not played, for it needs {', '.join(needed)}"
    missing = "".join(f"; {n} not checked without {core}" for core, n in result.absent)
    claims = counted(result.claims, "claim holds", "claims hold")
    return f"{result.path}: {claims} on {', '.join(result.cores)}{missing}"
