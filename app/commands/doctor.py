"""``ringscope doctor``: which cores run on this machine, and why the others do not."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from importlib.util import find_spec

from app.main import OK, VERSION
from app.text import reports, reports_json
from cores.engines import registry


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
        answer = {"schema": reports_json.SCHEMA, "host": host}
        print(json.dumps(answer | {"cores": [reports_json.availability(c) for c in cores]}, indent=2))
        return OK
    print(f"Ringscope {VERSION}, Python {host['python']}, {host['system']} on {host['machine']}\n")
    print(reports.availabilities(cores))
    print(f"\n`trap` means {host['trap']} here.")
    if find_spec("keystone") is None:
        print("Keystone has no package for this machine: of assembly, only the guests that come with")
        print("Ringscope run here, from their assembled images.")
    if not sys.stdout.isatty():
        print("No terminal here: everything is shown as text.")
    return OK
