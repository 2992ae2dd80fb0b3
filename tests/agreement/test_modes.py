"""Guests that leave 64-bit mode (modes/*.s): on all cores in lockstep and free, and on QEMU and Bochs.

Each begins in long mode, as every guest does, and writes to the console what it has come to.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from agreement_lab import free, lockstep, skip_unless_assembled

from cores.engines import registry
from cores.engines.base import DeprivilegedEngine
from cores.lockstep.options import Options
from cores.pc.stop import Stop
from cores.programs.loader import load_program

pytestmark = skip_unless_assembled()
HERE = Path(__file__).parent
GUESTS = sorted(path.stem for path in (HERE / "modes").glob("*.s"))
OPTIONS = Options(ram=8 << 20)


@cache
def legacy_cores() -> list[str]:
    """The cores here that execute 16- and 32-bit code."""
    found = ["interpreter"]
    for core in ("trap:native", "trap:portable"):
        if registry.availability(core).available:
            engine = registry.create(core)
            if isinstance(engine, DeprivilegedEngine) and engine.executes_legacy_code:
                found.append(core)
            engine.close()
    return found


def expected(name: str) -> str:
    """The console that a guest's first comment line gives behind "console:"."""
    first = (HERE / "modes" / f"{name}.s").read_text().splitlines()[0]
    return first.partition("console: ")[2]


@pytest.mark.parametrize("name", GUESTS)
def test_exact(name: str) -> None:
    """All cores have one state after each instruction, in every mode."""
    program = load_program(str(HERE / "modes" / f"{name}.s"))
    for outcome in lockstep(program, OPTIONS, legacy_cores()):
        assert (outcome.stop, outcome.console.decode()) == (Stop.EXIT, expected(name)), outcome.reason


@pytest.mark.parametrize("name", GUESTS)
def test_free(name: str) -> None:
    """In free mode every core ends with the same console."""
    program = load_program(str(HERE / "modes" / f"{name}.s"))
    for core in legacy_cores():
        outcome = free(program, OPTIONS, core)
        assert (outcome.stop, outcome.console.decode()) == (Stop.EXIT, expected(name)), outcome.reason
