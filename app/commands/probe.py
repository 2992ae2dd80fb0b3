"""``ringscope probe``: each sensitive instruction at ring 3 on this very CPU."""

from __future__ import annotations

import argparse
import json

import app.text.reports as plain
import app.text.reports_json as structured
from app.main import OK
from cores.engines import ring3_survey as ring3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")


def run(arguments: argparse.Namespace) -> int:
    findings = ring3.probe()
    if arguments.json:
        lines = [structured.finding(finding) for finding in findings]
        print(json.dumps({"schema": structured.SCHEMA, "instructions": lines}, indent=2))
    else:
        print(plain.findings(findings))
    return OK
