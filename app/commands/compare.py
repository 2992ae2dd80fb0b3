"""``ringscope compare PROGRAM``: the same program on each core, and whether they agree."""

from __future__ import annotations

import argparse
import gc
import json
from dataclasses import replace

from app.main import DIVERGED, OK, UNAVAILABLE, complain
from app.programs import load
from app.text import reports, reports_json
from cores.machine.report import CompareReport
from cores.runs.compare import compare

from .options import add_cores_option, add_machine_options, add_peers_option, options_from


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("program", metavar="PROGRAM", help='a file, a guest\'s name, or "-"')
    add_cores_option(parser)
    add_machine_options(parser)
    add_peers_option(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.set_defaults(parser=parser)


def run(arguments: argparse.Namespace) -> int:
    options = options_from(arguments.parser, arguments, arguments.cores)
    options = replace(options, images=arguments.json)  # their hashes are in the JSON alone
    program = load(arguments.program, options.ram, options.start)
    gc.freeze()  # what is imported stays: looking for garbage in it took 5 % of a boot
    try:
        report = compare(program, options)
    finally:
        gc.unfreeze()
    if arguments.json:
        print(json.dumps(reports_json.compare_report(report), indent=2))
    else:
        print(reports.compare_report(report))
    for reason in report.unmet:
        complain(f"ringscope compare: {reason}")
    return exit_code(report)


def exit_code(report: CompareReport) -> int:
    """The exit code of `compare` (contract.md, Exit codes)."""
    if report.unmet or not any(core.available for core in report.cores):
        return UNAVAILABLE
    return DIVERGED if report.equivalent is False else OK
