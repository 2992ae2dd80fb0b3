"""The same guest on other people's machines: QEMU and Bochs, from the bootable disk.

They are oracles that nobody here wrote. Nothing is compared step by step; what a guest says in the
end must be the same: its console, its screen, its exit status.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from ..bootimage import CYLINDER, write_image
from ..errors import InputError, UnavailableError
from ..program import Program
from ..report import CoreReport, Stop
from .base import Guest, Outcome, Peer
from .bochs import Bochs
from .qemu import Qemu

PEERS: dict[str, type[Peer]] = {"qemu": Qemu, "bochs": Bochs}

_ENDINGS = {Stop.EXIT, Stop.POWEROFF, Stop.HALTED, Stop.SHUTDOWN}
_SHOWN = 32
"""Characters of a difference."""


def run(
    names: Sequence[str], program: Program, *, ram: int, disk: str | None, input: bytes, seconds: float
) -> tuple[CoreReport, ...]:
    """Run ``program`` on each peer, one after the other. seconds: the limit for each, its firmware's
    start not included. A peer that is not installed says so in its report.

    Raises InputError for a disk that cannot be read."""
    return tuple(
        _run_one(PEERS[name](), program, ram=ram, disk=disk, input=input, seconds=seconds)
        for name in dict.fromkeys(names)
    )


def _run_one(
    peer: Peer, program: Program, *, ram: int, disk: str | None, input: bytes, seconds: float
) -> CoreReport:
    try:
        engine = peer.find()
    except UnavailableError as error:
        return CoreReport(peer.name, peer.name, available=False, reason=str(error))
    if program.format == "m68k":
        return CoreReport(peer.name, engine, available=False, reason="a PC runs no 68000 program")
    with tempfile.TemporaryDirectory(prefix="ringscope-") as folder:
        image = Path(folder, "disk.img")
        layout = write_image(program, str(image), ram=ram, disk=disk)
        outcome = peer.run(Guest(image, layout.sectors // CYLINDER, ram, input, seconds))
    return _report(peer, engine, outcome)


def _report(peer: Peer, engine: str, outcome: Outcome) -> CoreReport:
    return CoreReport(
        core=peer.name, engine=engine, available=True, reason=outcome.reason, stop=outcome.stop,
        exit_status=outcome.exit_status, console=outcome.console.decode("latin-1"),
        screen=outcome.screen, notes=outcome.notes, seconds=outcome.seconds,
    )  # fmt: skip


def differences(reference: CoreReport, peer: CoreReport) -> tuple[str, ...]:
    """In words, where a peer's outcome is not the reference core's; what is not known is left out."""
    if not peer.available or peer.stop is Stop.ERROR:
        return ()
    found = []
    cut_off = Stop.BUDGET in (reference.stop, peer.stop)
    for name, ours, theirs in (
        ("console", reference.console, peer.console),
        ("screen", reference.screen or "", peer.screen),
    ):
        if theirs is None or ours == theirs:
            continue
        if cut_off and (name == "screen" or ours.startswith(theirs) or theirs.startswith(ours)):
            continue
        found.append(f"its {name} is not {reference.core}'s: {_first_difference(ours, theirs)}")
    if {reference.stop, peer.stop} <= _ENDINGS and not _ended_alike(reference, peer):
        found.append(f"it ended with {_ending(peer)}, {reference.core} with {_ending(reference)}")
    return tuple(found)


def _ended_alike(reference: CoreReport, peer: CoreReport) -> bool:
    """Bochs knows neither the exit port nor the power-off: there both come to the final HLT. QEMU
    shows the low byte of the exit status."""
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
