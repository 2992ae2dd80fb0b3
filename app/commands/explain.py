"""``ringscope explain INSTRUCTION``: why it is sensitive, and what each core does with it."""

from __future__ import annotations

import argparse
import json
import re

from app.main import OK
from app.text import reports, reports_json
from cores.errors import InputError
from cores.x86.isa import sensitive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("instruction", metavar="INSTRUCTION", nargs="+", help='"popf", "mov cr3, rax"')
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")


def run(arguments: argparse.Namespace) -> int:
    name = " ".join(" ".join(arguments.instruction).split())
    entry = sensitive.spelled(name)
    if entry is None:
        _demand_an_instruction(name)
        entry = sensitive.explain(name)
    if entry is None:
        why = "it means the same at every ring, and runs directly"
        ordinary = {"name": name, "sensitivity": None, "privileged": False, "why": why}
        answer = json.dumps({"schema": reports_json.SCHEMA} | ordinary, indent=2)
        print(answer if arguments.json else f"{name} is not sensitive: {why}.")
    elif arguments.json:
        print(json.dumps({"schema": reports_json.SCHEMA} | reports_json.entry(entry), indent=2))
    else:
        print(reports.entry(entry))
    return OK


def _demand_an_instruction(name: str) -> None:
    """Raises InputError for what is no instruction, or no form of the one that it begins with: nothing
    is said of words that only resemble one."""
    from cores.programs.assembler.mnemonics import is_mnemonic, mnemonics
    from cores.programs.assembler.source import excerpt

    words = name.lower().split()
    while words and words[0] in sensitive.PREFIXES:
        prefix = words.pop(0)
        if not words:
            raise InputError(f"{prefix!r} is a prefix, no instruction: name one with it")
    if not words:
        raise InputError("no instruction is named")
    if not is_mnemonic(words[0]):
        near = sensitive.suggestions(words[0], mnemonics())
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise InputError(f"no instruction is called {excerpt(name)!r}{hint}")
    if len(words) > 1 and (reason := _unreadable(" ".join(words))) is not None:
        raise InputError(f"no such form of {words[0]}: {reason}")


def _unreadable(statement: str) -> str | None:
    """The assembler's reason against a statement; None where it reads it, or there is none here. The
    name of a label, as in "jmp there", may stand for any address."""
    from cores.programs.assembler import choice
    from cores.programs.assembler.source import excerpt

    if ";" in statement:
        return f"more than one statement: {excerpt(statement)}"
    if choice.chosen() is None:
        return None
    source = statement
    while True:
        try:
            choice.assemble(f"{source}\n", "-", 0x100000)
        except InputError as error:
            name = re.match(r"unknown symbol: ([^:]+):", error.reason)
            if name is None or f"{name[1]}:" in source.split():
                return error.reason
            source = f"{name[1]}:\n{source}"
        else:
            return None
