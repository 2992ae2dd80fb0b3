"""``ringscope gdb PROGRAM``: a debugger that speaks GDB's protocol, on all cores at once."""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import socket

from app.gdb.server import Connection
from app.gdb.target import Target
from app.main import OK, complain
from app.programs import load
from cores.debugging.live_session import LiveSession
from cores.errors import InputError, UnavailableError
from cores.runs.open import open_session

from .options import add_cores_option, add_machine_options, options_from

DEFAULT = ("127.0.0.1", 1234)


def _address(text: str) -> tuple[str, int]:
    """Type of ``--listen``: "ADDRESS:PORT", ":PORT" or "PORT"; 0 has the host choose one."""
    host, _, port = text.rpartition(":")
    host = host.strip("[]") or DEFAULT[0]
    try:
        ipaddress.ip_address(host)
        number = int(port)
    except ValueError:
        number = -1
    if not port.isdecimal() or not 0 <= number < 1 << 16:
        raise argparse.ArgumentTypeError(f"{text[:60]!r} is no address; write 127.0.0.1:1234")
    return host, number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("program", metavar="PROGRAM", help='a file, a guest\'s name, or "-"')
    add_cores_option(parser)
    add_machine_options(parser)
    parser.add_argument("--listen", type=_address, default=DEFAULT, metavar="ADDRESS:PORT",
                        help="where GDB connects (127.0.0.1:1234)")  # fmt: skip
    parser.set_defaults(parser=parser)


def run(arguments: argparse.Namespace) -> int:
    if arguments.free:
        arguments.parser.error("--free: a debugger stops at instructions, and none are counted there")
    options = options_from(arguments.parser, arguments, arguments.cores)
    program = load(arguments.program, options.ram, options.start)
    host, port = arguments.listen
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as until_the_end:
        listener = until_the_end.enter_context(socket.socket(family))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(1)
        except OSError as error:
            raise InputError(f"cannot listen on {host}:{port}: {error.strerror}") from None
        session = open_session(program, options)
        until_the_end.callback(session.close)
        if not isinstance(session, LiveSession):
            raise InputError("a 68000 program: the debugger sees x86 guests only", program.path)
        if not session.machines:
            raise UnavailableError("none of the cores runs here: see ringscope doctor")
        here = listener.getsockname()
        place = f"[{here[0]}]:{here[1]}" if ":" in host else f"{here[0]}:{here[1]}"
        cores = ", ".join(machine.core for machine in session.machines)
        print(f"{program.path} on {cores}.")
        symbols = f"{program.path} " if program.format in ("elf", "multiboot") else ""
        print(f"gdb {symbols}-ex 'target remote {place}'", flush=True)
        if not ipaddress.ip_address(host).is_loopback:
            complain("ringscope gdb: whoever reaches this address controls the guest")
        while True:
            channel, _ = listener.accept()
            with channel:
                channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection = Connection(channel, Target(session), lambda job: job())
                connection.serve()
            if connection.over:
                return OK
