"""``ringscope probe``: each sensitive instruction at ring 3 on this very CPU."""

from __future__ import annotations

import argparse
import json

from app.main import OK
from app.text import reports, reports_json
from cores.engines import ring3_survey


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")


def run(arguments: argparse.Namespace) -> int:
    findings, legacy = ring3_survey.probe(), ring3_survey.probe(32)
    if arguments.json:
        lines = [reports_json.finding(finding) for finding in findings]
        others = [reports_json.finding(finding) for finding in legacy]
        answer = {"schema": reports_json.SCHEMA, "instructions": lines, "in_32_bit_code": others}
        print(json.dumps(answer, indent=2))
    else:
        print(reports.findings(findings))
        print(f"\n{reports.findings(legacy, 'in 32-bit code')}")
    return OK
