"""The options that every command with a program shares, and how they are read."""

from __future__ import annotations

import argparse
import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from app import option_values
from app.numbers import decimal, whole
from app.option_values import MOST_DISKS, excerpt, too_many
from app.programs import disks_of, equipped, load
from cores.engines.registry import ACCEPTED_NAMES
from cores.errors import InputError
from cores.lockstep.options import GIVABLE, Options
from cores.pc.network import spec
from cores.pc.network.spec import MOST_NETWORKS
from cores.programs.program import StartOptions

T = TypeVar("T")


def _typed(read: Callable[[str], T]) -> Callable[[str], T]:
    """A type for argparse, which shows a sentence only of its own error."""

    def value(text: str) -> T:
        try:
            return read(text)
        except InputError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return value


def _seconds(text: str) -> float:
    """Type of ``--timeout``."""
    try:
        value = decimal(text)
    except ValueError:
        value = 0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{excerpt(text)} is not seconds above 0, below 1e9")
    return value


def seed(text: str) -> int:
    """Type of ``--seed``: the number that varies a lesson's questions."""
    try:
        number = whole(text.removeprefix("-"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{excerpt(text)} is no whole number") from None
    return -number if text.startswith("-") else number


def _core(name: str) -> str:
    if name in ACCEPTED_NAMES:
        return name
    close = difflib.get_close_matches(name, ACCEPTED_NAMES, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]}?" if close else f"; there are {', '.join(ACCEPTED_NAMES)}"
    raise argparse.ArgumentTypeError(f"no core is called {excerpt(name)}{hint}")


def core_names(text: str) -> tuple[str, ...]:
    return tuple(_core(name.strip()) for name in text.split(","))


@dataclass(frozen=True, slots=True)
class _Budget:
    text: str

    def value(self, free: bool) -> float:
        try:
            number = decimal(self.text) if free else whole(self.text)
        except ValueError:
            number = -1
        if not 0 < number < 1e18:
            kind = "seconds" if free else "a whole number of instructions"
            raise argparse.ArgumentTypeError(
                f"argument --budget: {excerpt(self.text)} is not {kind} above 0, below 1e18"
            )
        return number


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    """Everything that shapes a machine; which cores there are to be is the command's own."""
    add = parser.add_argument
    add("--free", action="store_true", help="run at full speed instead of instruction by instruction")
    add("--pure", action="store_true", help="textbook trap-and-emulate: what does not trap runs unseen")
    add("--slow", action="store_true", help="with --free, handle every exit the long way")
    add("--budget", type=_Budget, metavar="N",
        help="stop after N instructions (default 1000000); with --free, seconds (10)")  # fmt: skip
    add_ram_option(parser)
    add("--disk", metavar="FILE", action="append", default=[],
        help="the guest's disk, unchanged by what it writes; twice: master and slave; NAME=FILE: for a"
             " Solo5 unikernel's block device of that name;"
             " a shipped guest that is named has its own")  # fmt: skip
    add("--disk-write", action="store_true", help="let the guest's writes reach FILE (one core only)")
    add("--boot", choices=("disk", "rom"), default="",
        help="PROGRAM is a disk image, or a ROM of 64 or 128 KiB, and starts in real mode")  # fmt: skip
    add("--append", default="", metavar="TEXT",
        help="the command line of a Multiboot kernel, the arguments of a Linux program")  # fmt: skip
    add("--module", action="append", default=[], metavar='"FILE ARGS"',
        help="a module of a Multiboot kernel, with its string; may stand several times")  # fmt: skip
    add("--linux", action="store_true",
        help="PROGRAM is a static Linux program, whether or not it says so")  # fmt: skip
    add("--files", default="", metavar="DIR", help="the files that a Linux program may read")
    add("--until", default="", metavar="TEXT", help="stop when console or screen has shown TEXT")
    add("--timeout", type=_seconds, metavar="SECONDS", help="stop after so many seconds of host time")
    add("--clock", type=_typed(option_values.clock), default=0, metavar="TIME",
        help="the guest's time at its start, as 2026-01-01T00:00:00 (2000-01-01)")  # fmt: skip
    add(
        "--input",
        default=b"",
        metavar="TEXT",
        type=option_values.typed,
        help="typed on the guest's keyboard and serial line; \\n is Enter",
    )

    add("--net", action="append", type=_typed(spec.parse), default=[], metavar="[NAME=]MODE",
        help="a network for the guest: user, hub, ping:COUNT or replay:FILE;"
             " with ,pcap:FILE it is recorded; may stand several times")  # fmt: skip
    add("--with", dest="other", default="", metavar="PROGRAM",
        help="with --net hub: the program of the other machine on the cable")  # fmt: skip
    add("--virtio", type=_typed(option_values.virtio), default=(), metavar="A,B",
        help="virtio devices: of net, block, console, iommu")  # fmt: skip
    add(
        "--poll",
        action="store_true",
        help="virtio devices look into their queues by themselves: nothing need leave the guest",
    )
    add("--give", choices=GIVABLE, action="append", default=[],
        help="in free mode the guest has the screen's memory itself: no exit leads there")  # fmt: skip
    add("--device", action="append", default=[], metavar="FILE.py",
        help="a device of your own, a Python program; may stand several times")  # fmt: skip


def add_ram_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ram", type=_typed(option_values.ram), metavar="SIZE",
                        help="the guest's memory: 32M, 0x2000000 ... (16M; kernels 256M)")  # fmt: skip


def add_cores_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cores", type=core_names, metavar="A,B",
        help="of interpreter, trap, trap:native, trap:portable, kvm (default: the first two and kvm)",
    )  # fmt: skip


def _peers(text: str) -> tuple[str, ...]:
    from cores.peers import PEERS  # with what boots them, 15 ms

    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in PEERS:
            known = " and ".join(PEERS)
            raise argparse.ArgumentTypeError(f"no peer is called {excerpt(name)}; there are {known}")
    return names


def add_peers_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peers", type=_peers, default=(), metavar="A,B",
                        help="boot it there too: qemu, bochs")  # fmt: skip


def add_core_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--core", type=_core, default="trap", metavar="NAME",
        help="interpreter, trap (the default), trap:native, trap:portable or kvm")  # fmt: skip


def options_from(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace, cores: tuple[str, ...] | None
) -> Options:
    """The session's options. Ends with a usage error where they contradict each other."""
    if "" in arguments.disk:
        parser.error("argument --disk: no file is named")
    if too_many(arguments.disk):
        parser.error(f"argument --disk: the PC has room for {MOST_DISKS} disks")
    if len(arguments.net) > MOST_NETWORKS:
        parser.error(f"argument --net: the PC has room for {MOST_NETWORKS} cards")
    hubs = sum(network.mode == "hub" for network in arguments.net)
    if hubs > 1:
        parser.error("argument --net: one hub joins two machines; a second has no one to join")
    if hubs and not arguments.other:
        parser.error("--net hub needs --with PROGRAM, the other machine's")
    if arguments.other and not hubs:
        parser.error("--with needs --net hub, the cable to the other machine")
    if hubs and getattr(arguments, "peers", ()):
        parser.error("--peers: only one machine can be booted there, and --net hub has two")
    captures = [network.pcap for network in arguments.net if network.pcap]
    if len(set(captures)) < len(captures):
        parser.error("argument --net: two networks cannot be recorded in one file")
    if arguments.disk_write and not arguments.disk:
        parser.error("--disk-write needs --disk FILE")
    if arguments.disk_write and (cores is None or len(set(cores)) != 1):
        parser.error("--disk-write needs exactly one core: two machines would write to one file")
    budget = None
    if arguments.budget is not None:
        try:
            budget = arguments.budget.value(arguments.free)
        except argparse.ArgumentTypeError as error:
            parser.error(str(error))
    options = Options(
        cores=cores, free=arguments.free, pure=arguments.pure, slow=arguments.slow, budget=budget,
        ram=arguments.ram, disks=disks_of(arguments.program, arguments.disk),
        disk_write=arguments.disk_write,
        input=arguments.input, clock=arguments.clock,
        peers=getattr(arguments, "peers", ()),
        devices=tuple(arguments.device), nets=tuple(arguments.net), virtio=arguments.virtio,
        other=load(arguments.other, None) if arguments.other else None,
        poll=arguments.poll, give=tuple(dict.fromkeys(arguments.give)),
        until=arguments.until, timeout=arguments.timeout,
        start=StartOptions(
            os.fsencode(arguments.append), tuple(arguments.module), arguments.boot,
            arguments.linux, arguments.files,
        ),
    )  # fmt: skip
    return equipped(options, arguments.program)
