"""``ringscope gdb PROGRAM``: a debugger that speaks GDB's protocol, on all cores at once."""

from __future__ import annotations

import argparse
import contextlib
import socket

from app.gdb.server import Connection
from app.gdb.target import Target
from app.listening import Listen, bound, listen
from app.main import OK, complain
from app.programs import load
from cores.debugging.live_session import LiveSession
from cores.errors import InputError, UnavailableError
from cores.runs.open import open_session

from .options import add_cores_option, add_machine_options, options_from

DEFAULT = "127.0.0.1:1234"


def _address(text: str) -> Listen:
    """Type of ``--listen``: "ADDRESS:PORT", ":PORT" or "PORT"; 0 has the host choose one."""
    host, _, port = text.rpartition(":")
    try:
        return listen(f"{host or '127.0.0.1'}:{port}")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("program", metavar="PROGRAM", help='a file, a guest\'s name, or "-"')
    add_cores_option(parser)
    add_machine_options(parser)
    parser.add_argument("--listen", type=_address, default=_address(DEFAULT),
                        metavar="ADDRESS:PORT", help=f"where GDB connects ({DEFAULT})")  # fmt: skip
    parser.set_defaults(parser=parser)


def run(arguments: argparse.Namespace) -> int:
    if arguments.free:
        arguments.parser.error("--free: a debugger stops at instructions, and none are counted there")
    options = options_from(arguments.parser, arguments, arguments.cores)
    program = load(arguments.program, options.ram, options.start)
    where: Listen = arguments.listen
    with contextlib.ExitStack() as until_the_end:
        listener = until_the_end.enter_context(bound(where))
        listener.setblocking(True)
        session = open_session(program, options)
        until_the_end.callback(session.close)
        if not isinstance(session, LiveSession):
            raise InputError("a 68000 program: the debugger sees x86 guests only", program.path)
        if not session.machines:
            raise UnavailableError("none of the cores runs here: see ringscope doctor")
        place = f"{where.shown}:{listener.getsockname()[1]}"
        cores = ", ".join(machine.core for machine in session.machines)
        print(f"{program.path} on {cores}.")
        symbols = f"{program.path} " if program.format in ("elf", "multiboot") else ""
        print(f"gdb {symbols}-ex 'target remote {place}'", flush=True)
        if not where.is_loopback:
            complain("ringscope gdb: whoever reaches this address controls the guest")
        while True:
            channel, _ = listener.accept()
            with channel:
                channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection = Connection(channel, Target(session), lambda job: job())
                connection.serve()
            if connection.over:
                return OK
