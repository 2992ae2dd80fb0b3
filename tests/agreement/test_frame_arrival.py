"""A frame may come at any instruction of the guest that waits for it."""

from __future__ import annotations

from contextlib import closing

import pytest
from machine_lab import needs_assembler

from cores.lockstep.options import Options
from cores.lockstep.session import start
from cores.pc.network.spec import NetSpec
from cores.pc.platform import MIB
from cores.pc.stop import Stop
from cores.programs.loader import assemble_program
from cores.programs.shipped import ASSETS

SENDS = "        out     dx, al\n        ret\n\n# Waits for the next frame"
DELAYS = range(60, 115)
"""Instructions between a frame and the first look for its answer, which comes 100 later: before the
look, at each instruction of it, and during the HLT after it."""


@needs_assembler
@pytest.mark.parametrize("guest", ["ping", pytest.param("www", marks=pytest.mark.full)])
def test_any_instruction(guest: str) -> None:
    """`ping` and `www` end well wherever in their look at the card's page 1 its interrupt comes."""
    source = (ASSETS / "guests" / f"{guest}.s").read_text()
    assert source.count(SENDS) == 1
    options = Options(cores=("interpreter",), nets=(NetSpec("user"),))
    ended = {}
    for delay in DELAYS:
        idle = "        nop\n" * delay + SENDS.removeprefix("        out     dx, al\n")
        text = source.replace(SENDS, f"        out     dx, al\n{idle}")
        program = assemble_program(text.encode(), f"{guest}.s", 16 * MIB)
        with closing(start(program, "interpreter", options)) as machine:
            for _ in range(20_000):
                if machine.stop is not None:
                    break
                machine.step()
            ended[delay] = machine.stop, machine.vmm.exit_status
    assert {delay: end for delay, end in ended.items() if end != (Stop.EXIT, 0)} == {}
