"""Machines for tests of the VMM's parts, from a short source, on real engines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from cores.engines import registry
from cores.lockstep.options import Options
from cores.lockstep.session import start
from cores.machine.machine import Machine
from cores.programs.assembler import keystone as assembler
from cores.programs.loader import assemble_program
from cores.programs.program import Program

CORES = registry.CORE_NAMES
TRAPS = ("trap:native", "trap:portable")
RAM = 2 << 20
DATA = 0x50000
EXIT = "mov al, 0\nout 0xf4, al\ncli\nhlt\n"

needs_assembler = pytest.mark.skipif(not assembler.installed(), reason="Keystone is not installed")


def program(source: str, ram: int = RAM) -> Program:
    return assemble_program(source.encode(), "test.s", ram)


def require(core: str) -> None:
    """Skip with the reason where this core cannot run."""
    here = registry.availability(core)
    if not here.available:
        pytest.skip(f"{core}: {here.reason}")


@contextmanager
def booted(
    core: str,
    source: str,
    *,
    ram: int = RAM,
    pure: bool = False,
    input: bytes = b"",
    slow: bool = False,
) -> Iterator[Machine]:
    """A machine with this source, ready to run."""
    require(core)
    options = Options(ram=ram, pure=pure, input=input, slow=slow)
    with closing(start(program(source, ram), core, options)) as machine:
        yield machine


def run(machine: Machine, steps: int = 20_000) -> Machine:
    """Run to the end, or for so many steps."""
    for _ in range(steps):
        if machine.stop is not None:
            break
        machine.step()
    return machine
