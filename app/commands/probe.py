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
    findings = ring3_survey.probe()
    if arguments.json:
        lines = [reports_json.finding(finding) for finding in findings]
        print(json.dumps({"schema": reports_json.SCHEMA, "instructions": lines}, indent=2))
    else:
        print(reports.findings(findings))
    return OK
