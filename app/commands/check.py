"""``ringscope check FILE...``: hold lessons against the machines here."""

from __future__ import annotations

import argparse

from app.main import BAD_INPUT, DIVERGED, OK, complain, printable
from cores.errors import InputError
from lessons.checker import Result, check

from .options import seed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", metavar="FILE", nargs="+", help="a lesson")
    parser.add_argument("--seed", type=seed, metavar="N", help="vary the questions' numbers")


def run(arguments: argparse.Namespace) -> int:
    code = OK
    for path in arguments.files:
        if not path.strip():
            raise InputError("no file is named")
        result = check(path, arguments.seed)
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
    return f"{result.path}: {result.claims} claims hold on {', '.join(result.cores)}{missing}"
