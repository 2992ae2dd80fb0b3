"""The exits of a run, as `trace` gives them."""

from __future__ import annotations

import pytest

from cores.engines import registry
from cores.lockstep.options import Options
from cores.machine.report import CoreReport, ExitLine
from cores.programs.loader import assemble_program
from cores.runs.trace import trace

SOURCE = b"""
_start:
    cli
asleep:
    hlt
    nop
"""


@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("core", ["trap:native", "trap:portable", "kvm"])
def test_hlt_has_its_own_address(core: str, free: bool) -> None:
    """The exit of an HLT names HLT and its address, also where the CPU itself has completed it and
    stands behind it."""
    here = registry.availability(core)
    if not here.available:
        pytest.skip(here.reason or "")
    program = assemble_program(SOURCE, "asleep.s")
    asleep = next(address for name, address in program.symbols.items() if name == "asleep")
    found = [
        (line.rip, line.asm)
        for line in trace(program, core, Options(free=free), steps=False)
        if not isinstance(line, CoreReport) and isinstance(line, ExitLine) and line.reason == "hlt"
    ]
    assert found == [(asleep, "hlt")]
