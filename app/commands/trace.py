"""``ringscope trace PROGRAM --core NAME``: each exit on a line, as it happens."""

from __future__ import annotations

import argparse
import json

from app.main import OK, UNAVAILABLE, complain
from app.programs import load
from app.text import reports, reports_json
from cores.machine.report import CoreReport
from cores.pc.stop import Stop
from cores.runs.trace import trace

from .options import add_core_option, add_machine_options, options_from


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("program", metavar="PROGRAM", help='a file, a guest\'s name, or "-"')
    add_core_option(parser)
    add_machine_options(parser)
    parser.add_argument("--steps", action="store_true", help="each instruction too")
    parser.add_argument("--json", action="store_true", help="a JSON object on each line")
    parser.set_defaults(parser=parser)


def run(arguments: argparse.Namespace) -> int:
    options = options_from(arguments.parser, arguments, (arguments.core,))
    if arguments.steps and arguments.free:
        arguments.parser.error("--steps and --free exclude each other")
    program = load(arguments.program, options.ram, options.start)
    code = OK
    if not arguments.json:
        print(reports.trace_heading())
    for line in trace(program, arguments.core, options, arguments.steps):
        if isinstance(line, CoreReport):
            if line.stop is Stop.ERROR:
                complain(f"ringscope trace: {line.core}: {line.reason}")
                code = UNAVAILABLE
            if not arguments.json:
                print(reports.trace_ending(line))
        elif arguments.json:
            print(json.dumps(reports_json.trace_line(line)))
        else:
            print(reports.trace_line(line))
    return code
