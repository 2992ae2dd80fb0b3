"""``ringscope guests``: the shipped guests, what each shows, and how it is run."""

from __future__ import annotations

import argparse
import json
import os
import textwrap

from app.main import OK
from app.text import reports_json
from app.text.reports import WIDTH
from cores.programs.shipped import Description, descriptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")


def run(arguments: argparse.Namespace) -> int:
    found = descriptions()
    if arguments.json:
        listed = [_json(guest) for guest in found]
        print(json.dumps({"schema": reports_json.SCHEMA, "guests": listed}, indent=2))
        return OK
    width = max(len(guest.name) for guest in found)
    for guest in found:
        indent = " " * (width + 4)
        print(textwrap.fill(guest.title, WIDTH, initial_indent=f"  {guest.name:<{width}}  ",
                            subsequent_indent=indent))  # fmt: skip
        print(f"{indent}{_command(guest)}")
    print('\nA lesson names a guest, too: guest = "hello". The sources are in assets/guests.')
    return OK


def _json(guest: Description) -> dict[str, object]:
    return {
        "name": guest.name, "file": guest.path.name, "shows": guest.title, "disk": guest.disk,
        "run": _command(guest),
    }  # fmt: skip


def _command(guest: Description) -> str:
    command = f"ringscope compare {guest.name}"
    if guest.disk:
        near = os.path.relpath(guest.disk)
        command += f" --disk {guest.disk if near.startswith('..') else near}"
    command += "".join(f" --net {net}" for net in guest.nets)
    command += f" --with {guest.other}" if guest.other else ""
    return command + (f" --virtio {','.join(guest.virtio)}" if guest.virtio else "")
