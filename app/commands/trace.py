"""``ringscope trace PROGRAM --core NAME``: each exit on a line, as it happens."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator

from app.main import OK, UNAVAILABLE, complain
from app.programs import load
from app.text import reports, reports_json
from app.text.sequence import Sequence
from app.text.trace_formats import Csv, Folded, Format, Perfetto
from cores.engines.registry import resolve
from cores.machine.report import CoreReport, ExitLine, TraceLine
from cores.pc.stop import Stop
from cores.programs.program import Program
from cores.runs.trace import trace

from .options import add_machine_options, core_names, options_from

FORMATS = ("text", "json", "csv", "folded", "perfetto", "svg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("program", metavar="PROGRAM", help='a file, a guest\'s name, or "-"')
    parser.add_argument("--core", type=core_names, required=True, metavar="NAME",
                        help="interpreter, trap, trap:native, trap:portable or kvm")  # fmt: skip
    add_machine_options(parser)
    parser.add_argument("--steps", action="store_true", help="each instruction too")
    parser.add_argument("--format", choices=FORMATS, metavar="F",
        help=f"{', '.join(FORMATS)}; the last four take several cores, --core A,B")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="a JSON object on each line")
    parser.set_defaults(parser=parser)


def run(arguments: argparse.Namespace) -> int:
    form = arguments.format or ("json" if arguments.json else "text")
    if arguments.json and form != "json":
        arguments.parser.error("--json and --format contradict each other")
    if arguments.steps and (arguments.free or form not in ("text", "json")):
        what = "--free" if arguments.free else f"--format {form}"
        arguments.parser.error(f"--steps and {what} exclude each other")
    if len(arguments.core) > 1 and form in ("text", "json"):
        arguments.parser.error(f"several cores need --format {', '.join(FORMATS[2:])}")
    options = options_from(arguments.parser, arguments, arguments.core)
    program = load(arguments.program, options.ram, options.start)
    cores = dict.fromkeys(map(resolve, arguments.core))
    runs = [(core, trace(program, core, options, arguments.steps)) for core in cores]
    if form in ("text", "json"):
        return _as_it_happens(runs[0][1], json_wanted=form == "json")
    return _exported(runs, _format(form, program))


def _as_it_happens(lines: Iterator[TraceLine | CoreReport], *, json_wanted: bool) -> int:
    code = OK
    if not json_wanted:
        print(reports.trace_heading())
    for line in lines:
        if isinstance(line, CoreReport):
            code = _ended(line)
            if not json_wanted:
                print(reports.trace_ending(line))
        elif json_wanted:
            print(json.dumps(reports_json.trace_line(line)))
        else:
            print(reports.trace_line(line))
    return code


def _exported(runs: list[tuple[str, Iterator[TraceLine | CoreReport]]], form: Format) -> int:
    codes, write = [OK], sys.stdout.write
    write(form.heading())
    for number, (core, lines) in enumerate(runs, 1):
        write(form.core(core, number))
        for line in lines:
            if isinstance(line, CoreReport):
                codes.append(_ended(line))
            elif isinstance(line, ExitLine):
                write(form.line(line))
    write(form.ending())
    return max(codes)


def _ended(core: CoreReport) -> int:
    if core.stop is not Stop.ERROR:
        return OK
    complain(f"ringscope trace: {core.core}: {core.reason}")
    return UNAVAILABLE


def _format(name: str, program: Program) -> Format:
    match name:
        case "csv":
            return Csv()
        case "folded":
            return Folded(program.symbols)
        case "svg":
            return Sequence()
        case _:
            return Perfetto()
