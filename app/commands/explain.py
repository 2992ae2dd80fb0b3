"""``ringscope explain INSTRUCTION``: why it is sensitive, and what each core does with it."""

from __future__ import annotations

import argparse
import json

import app.text.reports as plain
import app.text.reports_json as structured
from app.main import OK
from cores.errors import InputError
from cores.x86.isa import sensitive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("instruction", metavar="INSTRUCTION", nargs="+", help='"popf", "mov cr3, rax"')
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")


def run(arguments: argparse.Namespace) -> int:
    name = " ".join(arguments.instruction)
    entry = sensitive.explain(name)
    if entry is None:
        if _is_ordinary(name):
            why = "it means the same at every ring, and runs directly"
            ordinary = {"name": name, "sensitivity": None, "privileged": False, "why": why}
            answer = json.dumps({"schema": structured.SCHEMA} | ordinary, indent=2)
            print(answer if arguments.json else f"{name} is not sensitive: {why}.")
            return OK
        near = sensitive.suggestions(name)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise InputError(f"no instruction is called {name!r}{hint}")
    if arguments.json:
        print(json.dumps({"schema": structured.SCHEMA} | structured.entry(entry), indent=2))
    else:
        print(plain.entry(entry))
    return OK


def _is_ordinary(name: str) -> bool:
    from cores.programs.assembler.keystone import is_mnemonic

    return bool(name.split()) and is_mnemonic(name.split()[0].lower())
