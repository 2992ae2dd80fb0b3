"""Two machines on a hub: the same on every core, in each run, and after going back."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from machine_lab import needs_assembler, require

from cores.debugging import saved_session
from cores.debugging.live_session import LiveSession
from cores.engines.registry import availability
from cores.errors import InputError
from cores.lockstep.options import Options
from cores.pc.network.spec import NetSpec
from cores.pc.stop import Stop
from cores.programs.loader import assemble_program
from cores.programs.program import Program
from cores.runs.compare import compare

CORES = tuple(core for core in ("interpreter", "trap:native") if availability(core).available)
SOURCE = Path(__file__).with_name("cable.s").read_text()
HUB = (NetSpec("hub"),)
SECONDS = 300.0
"""Host time of a free run, on a computer however busy. Both guests end by themselves."""


@cache
def guest(first: bool, head: str = "") -> Program:
    return assemble_program(f"FIRST = {int(first)}\n{head}\n{SOURCE}".encode(), "cable.s", 2 << 20)


def options(other: Program, cores: tuple[str, ...] = CORES) -> Options:
    return Options(cores=cores, ram=2 << 20, nets=HUB, other=other, budget=100_000)


@needs_assembler
def test_the_same_on_every_core() -> None:
    """They answer one another by turns; both ends are the same on each core."""
    report = compare(guest(True), options(guest(False)))
    assert report.equivalent
    for core in report.cores:
        assert core.other is not None
        assert (core.console, core.stop, core.exit_status) == ("BDF", Stop.EXIT, 7)
        assert (core.other.console, core.other.stop, core.other.exit_status) == ("ACE", Stop.EXIT, 7)
    assert (
        len({(core.instructions, core.other.instructions) for core in report.cores if core.other}) == 1
    )


@needs_assembler
@pytest.mark.parametrize("core", [*CORES, "kvm"])
def test_running_freely(core: str) -> None:
    """Both get every frame and answer it, however long either of them has to wait for the host: the
    first frame is repeated until the other card is set up, and then nothing is lost."""
    require(core)
    rounds = 10
    head = f"REPEAT = 1\nROUNDS = {rounds}"
    asked = replace(options(guest(False, head), (core,)), free=True, budget=SECONDS)
    (report,) = compare(guest(True, head), asked).cores
    assert report.other is not None
    letters = "".join(chr(ord("A") + n) for n in range(2 * rounds))
    assert (report.console, report.stop, report.exit_status) == (letters[1::2], Stop.EXIT, 7)
    assert (report.other.console, report.other.exit_status) == (letters[::2], 7)


@needs_assembler
def test_silence_ends() -> None:
    """Where nobody begins, both sleep for good, and the session ends."""
    report = compare(guest(False), options(guest(False), CORES[:1]))
    (core,) = report.cores
    assert core.other is not None
    assert (core.stop, core.other.stop) == (Stop.HALTED, Stop.HALTED)


@needs_assembler
def test_a_different_other_machine_is_a_divergence() -> None:
    """The other machines are compared, too: what one core's has written by the end is named."""
    second = guest(False)
    with closing(LiveSession(guest(True), options(second))) as session:
        session.machines[-1].pair.second.memory.write(0x90000, b"x")  # type: ignore[union-attr]
        session.run(60.0)
        session._session.run_to_end()
        divergence = session._session.divergence
    if len(CORES) > 1:
        assert divergence is not None
        assert divergence.differs == ("with:memory_sha256",)


@needs_assembler
def test_going_back() -> None:
    """Back before the first answer and forward again: the same frames come at the same instructions,
    and the other machine, which has gone on, is not asked again."""
    with closing(LiveSession(guest(True), options(guest(False)))) as session:
        session.run(60.0)
        states = [(m.cpu.state(), m.board.accesses, m.vmm.ticks) for m in session.machines]
        end, log = session.instructions, list(session.machines[0].board.networks[0].packets)
        session.go_to(150)
        assert session.machines[0].console() == ""
        session.go_to(end)
        assert [(m.cpu.state(), m.board.accesses, m.vmm.ticks) for m in session.machines] == states
        assert session.machines[0].board.networks[0].packets == log
        assert session.machines[0].console() == "BDF"
        with pytest.raises(InputError, match="two machines on a hub cannot be saved"):
            saved_session.save(session, "/nowhere/x")
