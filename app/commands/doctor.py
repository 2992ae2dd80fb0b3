"""``ringscope doctor``: which cores run on this machine, and why the others do not."""

from __future__ import annotations

import argparse
import json
import platform
import sys

from app.main import OK, VERSION
from app.text import reports, reports_json
from cores.engines import registry
from cores.errors import InputError
from cores.programs.assembler import choice


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")


def run(arguments: argparse.Namespace) -> int:
    cores = [registry.availability(name, detailed=True) for name in registry.CORE_NAMES]
    host = {
        "ringscope": VERSION,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "trap": registry.resolve("trap"),
    }
    if arguments.json:
        answer = {"schema": reports_json.SCHEMA, "host": host | {"assembler": _assembler()[0]}}
        print(json.dumps(answer | {"cores": [reports_json.availability(c) for c in cores]}, indent=2))
        return OK
    print(f"Ringscope {VERSION}, Python {host['python']}, {host['system']} on {host['machine']}\n")
    print(reports.availabilities(cores))
    print(f"\n`trap` means {host['trap']} here.")
    print(_assembler()[1])
    if not sys.stdout.isatty():
        print("No terminal here: everything is shown as text.")
    return OK


def _assembler() -> tuple[str | None, str]:
    """The assembler's name, and a sentence about it."""
    try:
        found = choice.chosen()
    except InputError as error:
        return None, f"{error.reason}: no assembly can be read."
    if found is None:
        return None, (
            "There is no assembler here: of assembly, only the guests that come with Ringscope run,\n"
            f"from their assembled images. For others {choice.HINT}."
        )
    asked = f", as {choice.VARIABLE} asks" if found.named else ""
    return found.name, f"Assembly is read by {found.title}{asked}."
