"""``ringscope serve``: the interface in browsers, a session of its own for each visitor."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from app import limits, terminal
from app.main import OK, again
from app.numbers import whole
from app.web import extra
from cores.errors import InputError

from .classroom import add_listen_option

if TYPE_CHECKING:
    from app.listening import Listen
    from app.web.interface import Interfaces


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "program",
        metavar="PROGRAM",
        nargs="?",
        help="a shipped guest's or a lesson's name to begin with",
    )
    add_listen_option(parser)
    add("--most", type=_count, default=8, metavar="N", help="visitors at a time (8)")
    add("--memory", type=_count, default=1024, metavar="MIB", help="of each process (1024)")
    add("--cpu", type=_count, default=900, metavar="SECONDS", help="of each process (900)")
    add("--minutes", type=_count, default=60, metavar="M", help="that a session lasts at most (60)")
    add(
        "--all-files",
        action="store_true",
        help="visitors open and write files as you can: for yourself",
    )
    add("--visitor", type=int, help=argparse.SUPPRESS)  # what the server starts: the lifeline's number


def _count(text: str) -> int:
    try:
        number = whole(text)
    except ValueError:
        number = 0
    if not 1 <= number <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text[:60]!r} is no number from 1 to 1,000,000")
    return number


def run(arguments: argparse.Namespace) -> int:
    if arguments.visitor is not None:
        return _visit(arguments)
    extra.demand()
    if os.name != "posix":
        raise InputError(
            "sessions need limits that this system does not have: it runs on Linux and macOS"
        )
    from app.listening import listen
    from app.programs import guest_names
    from lessons.library import names

    known = [*guest_names(), *names()]
    if arguments.program is not None and arguments.program not in known:
        raise InputError(f"{arguments.program!r} is no shipped guest and no lesson")
    try:
        where = listen(arguments.listen)
    except ValueError as error:
        raise InputError(f"--listen: {error}") from None
    from app.web.interface import Interfaces
    from app.web.visitor import Limits

    bounds = Limits(arguments.memory, arguments.cpu, arguments.minutes)
    words = ["serve", *([arguments.program] if arguments.program else [])]
    words += [f"--memory={bounds.memory}", f"--cpu={bounds.cpu}"]
    words += ["--all-files"] if arguments.all_files else []
    title = f"Ringscope {arguments.program or ''}".strip()
    interfaces = Interfaces(title, again(*words, "--visitor"), where, arguments.most, bounds)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(interfaces, where))
    return OK


async def _serve(interfaces: Interfaces, where: Listen) -> None:
    """Serve until SIGINT or SIGTERM; then all sessions end."""
    import segno

    from app.web.server import serve

    running = await serve(interfaces.application(), interfaces.guard, where)
    try:
        address = f"http://{where.shown}:{running.port}/{interfaces.guard.token}/"
        if terminal.is_there():
            segno.make(address, error="m").terminal(compact=True)
        print(f"Visitors open  {address}", flush=True)
        if where.is_loopback:
            print(
                "This computer alone reaches that. For its network: --listen 0.0.0.0:8765", flush=True
            )
        print("Ctrl-C ends it, and all sessions.", flush=True)
        ended = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        await ended.wait()
    finally:
        await running.stop()


def _visit(arguments: argparse.Namespace) -> int:
    """One visitor's interface, in the process that the server has started for it."""
    limits.limit(arguments.memory * limits.MIB, arguments.cpu)
    from app.web.visitor import FOLDER

    here = Path.cwd()
    limits.end_with(arguments.visitor, str(here) if here.name.startswith(FOLDER) else None)
    from app.programs import path_of
    from app.tui.app import run_interface
    from app.tui.files import EVERY_FILE, Files
    from cores.lockstep.options import Options
    from lessons import library

    files = EVERY_FILE if arguments.all_files else Files(here)
    name = arguments.program
    if name is not None and library.is_lesson(name):
        return run_interface(None, Options(), library.find(name), files=files)
    return run_interface(path_of(name) if name else None, Options(), files=files)
