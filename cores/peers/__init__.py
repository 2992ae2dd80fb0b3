"""Peers: QEMU and Bochs, which boot the same guest from the bootable disk.

They are independent oracles. Nothing is compared step by step; only the guest's outcome must be the
same: its console, its screen, its exit status.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cores.machine.report import CompareReport, CoreReport
from cores.pc.boot.disk_image import CYLINDER, check_bootable, write_image
from cores.pc.stop import Stop
from cores.programs.program import Program

from ..errors import InputError, UnavailableError
from .base import UNREAD, Guest, Outcome, Peer
from .bochs import Bochs
from .qemu import Qemu

PEERS: dict[str, type[Peer]] = {"qemu": Qemu, "bochs": Bochs}

_ENDINGS = {Stop.EXIT, Stop.POWEROFF, Stop.HALTED, Stop.SHUTDOWN}
_SHOWN = 32
"""Characters that are shown of a difference."""


def join(
    report: CompareReport, names: Sequence[str], program: Program, *,
    ram: int, disk: str | None, input: bytes, seconds: float, network: bool = False,
) -> CompareReport:  # fmt: skip
    """``report`` with the peers' outcomes, which run one after the other. A peer whose outcome differs
    from that of the first core that ran has a note that says so.

    seconds: the limit for each, its firmware's start not included. network: with an NE2000, on a
    network that the peer makes up. The report of a peer that cannot run
    on this host has the reason. Raises InputError for a disk that cannot be read."""
    reference = next((core for core in report.cores if core.available), None)
    peers = []
    for name in dict.fromkeys(names):
        peer = run(
            PEERS[name](), program, ram=ram, disk=disk, input=input, seconds=seconds, network=network
        )
        found = differences(reference, peer) if reference is not None else {}
        peers.append(replace(peer, notes=(*found.values(), *peer.notes)))
    return replace(report, peers=tuple(peers))


def run(
    peer: Peer, program: Program, *, ram: int, disk: str | None, input: bytes, seconds: float,
    network: bool = False,
) -> CoreReport:  # fmt: skip
    """Run ``program`` on one peer; the arguments are those of ``join``."""
    try:
        engine = peer.find()
    except UnavailableError as error:
        return CoreReport(peer.name, peer.name, available=False, reason=str(error))
    try:
        check_bootable(program)
    except InputError as error:
        return CoreReport(peer.name, engine, available=False, reason=error.reason)
    with tempfile.TemporaryDirectory(prefix="ringscope-") as folder:
        image = Path(folder, "disk.img")
        layout = write_image(program, str(image), ram=ram, disk=disk)
        outcome = peer.run(Guest(image, layout.sectors // CYLINDER, ram, input, seconds, network))
    return _report(peer, engine, outcome)


def _report(peer: Peer, engine: str, outcome: Outcome) -> CoreReport:
    return CoreReport(
        core=peer.name, engine=engine, available=True, reason=outcome.reason, stop=outcome.stop,
        exit_status=outcome.exit_status, console=outcome.console.decode("latin-1"),
        screen=outcome.screen, notes=outcome.notes, seconds=outcome.seconds,
    )  # fmt: skip


def differences(reference: CoreReport, peer: CoreReport) -> dict[str, str]:
    """The differences between a peer's outcome and the reference core's, in words, by "console",
    "screen" or "ending". Unknown parts are not compared; of a console that a limit has cut off, only
    the common part is."""
    if not peer.available or Stop.ERROR in (reference.stop, peer.stop):
        return {}
    found = {}
    cut_off = Stop.BUDGET in (reference.stop, peer.stop)
    for name, ours, theirs in (
        ("console", reference.console, peer.console),
        ("screen", reference.screen or "", peer.screen or ""),
    ):
        if ours == theirs or (name == "screen" and (cut_off or UNREAD in peer.notes)):
            continue
        if cut_off and (ours.startswith(theirs) or theirs.startswith(ours)):
            continue
        found[name] = f"its {name} is not {reference.core}'s: {_first_difference(ours, theirs)}"
    if {reference.stop, peer.stop} <= _ENDINGS and not _ended_alike(reference, peer):
        ending = f"it ended with {_ending(peer)}, {reference.core} with {_ending(reference)}"
        found["ending"] = ending
    return found


def _ended_alike(reference: CoreReport, peer: CoreReport) -> bool:
    """Are the endings equivalent? Bochs has neither the exit port nor the power-off: on it both lead to
    the final HLT. QEMU shows the low byte of the exit status."""
    if peer.core == "bochs" and peer.stop is Stop.HALTED:
        return reference.stop is not Stop.SHUTDOWN
    if reference.exit_status is None or peer.exit_status is None:
        return reference.stop is peer.stop
    return reference.exit_status & 0xFF == peer.exit_status


def _ending(report: CoreReport) -> str:
    if report.stop is Stop.EXIT:
        return f"exit {report.exit_status}"
    return "" if report.stop is None else report.stop.value


def _first_difference(ours: str, theirs: str) -> str:
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
    at = min(len(ours), len(theirs)) if at is None else at
    return f"from character {at}, {theirs[at : at + _SHOWN]!r} for {ours[at : at + _SHOWN]!r}"
