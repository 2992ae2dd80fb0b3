"""``ringscope heat PROGRAM``: where it leaves the guest, by source line, function or address."""

from __future__ import annotations

import argparse
import json

from app.main import OK, UNAVAILABLE, complain, printable
from app.programs import load
from app.text import heat, heat_page
from cores.atomic_file import Kind, replacing
from cores.engines.registry import resolve
from cores.errors import InputError
from cores.machine.report import CoreReport, ExitLine
from cores.pc.stop import Stop
from cores.runs.trace import trace

from .options import add_core_option, add_machine_options, options_from

_PAGE = Kind("a page of exit heat (HTML)", lambda head: head.lower().startswith(b"<!doctype html"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("program", metavar="PROGRAM", help='a file, a guest\'s name, or "-"')
    add_core_option(parser)
    add_machine_options(parser)
    parser.add_argument("--by", choices=heat.BY,
        help="line, function or address (default: the finest that is known)")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--html", metavar="FILE", help="write a page that shows it in colour")
    parser.add_argument("--overwrite", action="store_true", help="whatever FILE has been so far")
    parser.set_defaults(parser=parser)


def run(arguments: argparse.Namespace) -> int:
    if arguments.html is not None and not arguments.html.strip():
        raise InputError("--html: no file is named")
    core = resolve(arguments.core)
    options = options_from(arguments.parser, arguments, (core,))
    program = load(arguments.program, options.ram, options.start)
    found, code = heat.Heat(program), OK
    for line in trace(program, core, options, steps=False):
        if isinstance(line, ExitLine):
            found.add(line)
        elif isinstance(line, CoreReport) and line.stop is Stop.ERROR:
            complain(f"ringscope heat: {line.core}: {line.reason}")
            code = UNAVAILABLE
    by = arguments.by or found.best()
    mode = "free" if options.free else "exact"
    if arguments.html:
        page = heat_page.page(found, by, program, core, mode).encode()
        try:
            with replacing(arguments.html, _PAGE, overwrite=arguments.overwrite) as file:
                file.write(page)
        except OSError as error:
            raise InputError(f"cannot be written: {error.strerror or error}", arguments.html) from None
        if not arguments.json:
            print(f"{printable(arguments.html)}: {len(page) // 1024} KiB, to be opened in any browser")
    if arguments.json:
        print(json.dumps(heat.as_json(found, by, program, core, mode), indent=2))
    elif not arguments.html:
        print(heat.table(found, by), end="")
    return code
