"""``ringscope bench``: what everything costs on this machine, each figure beside its baseline."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from app.bench import catalogue, density, table
from app.bench.figures import Figure, Result, machine
from app.main import OK
from app.text import reports_json
from cores.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    listing = "; ".join(f"{name}: {m.summary}" for name, m in catalogue.MEASUREMENTS.items())
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"which measurements ({listing})")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.add_argument("--markdown", action="store_true", help="the table as the README has it")


def run(arguments: argparse.Namespace) -> int:
    chosen = [name for word in arguments.names for name in _matching(word)]
    results: list[Result] = []
    every = [name for name, one in catalogue.MEASUREMENTS.items() if not one.by_name]
    for name in dict.fromkeys(chosen or every):
        if sys.stderr.isatty():
            print(f"\r\033[Kmeasuring {name} ...", end="", file=sys.stderr, flush=True)
        results += catalogue.MEASUREMENTS[name].measure(name)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    if arguments.json:
        answer = {"schema": reports_json.SCHEMA, "machine": machine()}
        print(json.dumps(answer | {"figures": [_structured(r) for r in results]}, indent=2))
    else:
        print((table.markdown if arguments.markdown else table.text)(machine(), results))
    if not arguments.json:
        for kind, curves in density.curves(results).items():
            print(f"\n{density.chart(kind, curves)}\n")
            print(*density.sentences(kind, curves), sep="\n")
    return OK


def _matching(word: str) -> list[str]:
    """ "exit" stands for "exit:native" and its like."""
    found = [n for n in catalogue.MEASUREMENTS if word in (n, n.partition(":")[0])]
    if not found:
        raise InputError(
            f"no measurement is called {word!r}; there are {', '.join(catalogue.MEASUREMENTS)}"
        )
    return found


def _structured(result: Result) -> dict[str, object]:
    if not isinstance(result, Figure):
        return {"name": result.name, "skipped": result.reason}
    line = asdict(result)
    if result.limit is not None:
        line["limit"] = asdict(result.limit) | {"met": result.limit.met(result)}
    return line
