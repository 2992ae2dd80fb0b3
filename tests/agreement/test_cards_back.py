"""Going back and coming again, and saved sessions, with network cards, disks and an IOMMU."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from test_guests import CASES

from cores.debugging import saved_session
from cores.debugging.live_session import LiveSession
from cores.lockstep.session import start
from cores.machine.machine import Machine
from cores.programs.loader import load_program
from cores.programs.shipped import ASSETS
from cores.time_travel.history import History


def everything(machine: Machine) -> tuple[object, ...]:
    return machine.cpu.state(), machine.memory_image().sha256(), machine.board.save()


@pytest.mark.parametrize(("guest", "poll"), [("ping.s", False), ("vping.s", True), ("dma.s", False)])
def test_back_and_again(guest: str, poll: bool) -> None:
    """The same instruction has the same state whenever it is reached: queues, rings, frames on their
    way, mappings, RAM and registers."""
    options = replace(CASES[guest].options, poll=poll, cores=("interpreter",))
    program = load_program(str(ASSETS / "guests" / guest))
    with closing(start(program, "interpreter", options)) as machine:
        history, seen = History(machine), {}
        while machine.stop is None:
            history.step()
            if machine.vmm.instructions % 97 == 0:
                seen[machine.vmm.instructions] = everything(machine)
        marks = list(seen)
        for instruction in (marks[len(marks) // 2], marks[0], marks[len(marks) // 3]):
            history.seek(instruction)
            assert everything(machine) == seen[instruction]


@pytest.mark.parametrize("guest", ["ping.s", "vping.s", "dma.s"])
def test_saved(guest: str, tmp_path: Path) -> None:
    """A saved session opens with the devices as they were."""
    options = replace(CASES[guest].options, cores=("interpreter",))
    path = str(tmp_path / "session")
    with closing(LiveSession(load_program(str(ASSETS / "guests" / guest)), options)) as session:
        for _ in range(420):
            session.step()
        saved_session.save(session, path)
        with closing(saved_session.reopen(path)) as again:
            assert everything(again.machines[0]) == everything(session.machines[0])
