"""An exit is recorded in the same words in every mode."""

from __future__ import annotations

import re
from collections import defaultdict
from contextlib import closing
from pathlib import Path

import pytest
from machine_lab import CORES, EXIT, TRAPS, booted, require, run

from cores.lockstep.options import Options
from cores.lockstep.session import start
from cores.machine.machine import Machine
from cores.programs.loader import load_program
from cores.programs.shipped import programs
from cores.vmm.trace import UNCOUNTED, ExitEvent
from cores.x86.isa.instruction import Reason

STEPS, SECONDS = 15_000, 0.5
CONSOLES = {"console #", "UART #"}
GUESTS = [path for path in programs() if path.suffix != ".m68k"]
_VALUE = re.compile(r"0x[0-9a-f]+|\d+|'.'")

Forms = dict[tuple[int, Reason], set[str]]


def form(event: ExitEvent) -> str:
    """An event's detail without the values that depend on time and input."""
    return _VALUE.sub("#", event.detail)


def forms(events: list[ExitEvent]) -> Forms:
    """The forms of the details at each place and for each reason."""
    found: Forms = defaultdict(set)
    for event in events:
        if event.reason not in UNCOUNTED:
            found[event.rip, event.reason].add(form(event))
    return found


def ran(guest: Path, core: str, *, free: bool) -> list[ExitEvent]:
    options = Options(input=b"help\rps\r")
    with closing(start(load_program(str(guest), options.ram), core, options)) as machine:
        if free:
            machine.run_free(SECONDS)
        else:
            run(machine, STEPS)
        return machine.vmm.trace.events


@pytest.mark.parametrize("core", ["trap:native", "trap:portable"])
@pytest.mark.parametrize("guest", GUESTS, ids=lambda path: path.stem)
def test_exact_and_free_say_the_same(guest: Path, core: str) -> None:
    """The record of an exit does not depend on the mode."""
    require(core)
    exact, free = (forms(ran(guest, core, free=free)) for free in (False, True))
    common = exact.keys() & free.keys()
    assert common or not exact or not free
    assert not {at: (exact[at], free[at]) for at in common if not exact[at] & free[at]}


@pytest.mark.parametrize("guest", GUESTS, ids=lambda path: path.stem)
def test_kvm_says_what_a_trap_core_says(guest: Path) -> None:
    """KVM's exits have the emulator's words and their instruction. Strings of ports are not compared:
    KVM exits once an iteration."""
    require("kvm")
    said = {form(e) for e in ran(guest, "trap:portable", free=True) + ran(guest, "kvm", free=False)}
    free = ran(guest, "kvm", free=True)
    assert {form(event) for event in free} <= said | CONSOLES
    assert all(event.code for event in free if event.reason in (Reason.IO, Reason.MMIO))


DEVICES = (
    "mov edi, 0xb8000\nmov eax, [rdi]\nmov [rdi], ax\nmov al, [rdi + 4]\n"
    "mov edx, 0x5e0\nin eax, dx\nmov al, 65\nout 0xe9, al\n"
    "in al, 0x60\n"
)
STRING = "mov esi, 0x100000\nmov ecx, 3\nmov edx, 0xe9\nrep outsb\n"


def details(machine: Machine) -> list[tuple[Reason, str]]:
    return [(e.reason, e.detail) for e in machine.vmm.trace.events if e.reason not in UNCOUNTED]


@pytest.mark.parametrize("core", [core for core in CORES if core != "interpreter"])
def test_device_accesses(core: str) -> None:
    """The words for loads and stores of device memory, ports, and strings of ports."""
    with booted(core, DEVICES + EXIT) as machine:
        exact = details(run(machine))
    with booted(core, DEVICES + EXIT) as machine:
        machine.run_free(30)
        assert details(machine) == exact, core
    assert (Reason.MMIO, "read 0xb8000, 4 bytes") in exact
    assert (Reason.MMIO, "write 0xb8000, 2 bytes") in exact


SOFTWARE = {
    "fldcw [rdi]": "read 0xb8000, 2 bytes",  # reserved bits: bridged where Unicorn executes
    "fxsave [rdi]": "write 0xb8000, 416 bytes",  # CPUs differ: bridged everywhere
    "fnstenv [rdi]": "write 0xb8000, 28 bytes",
    "push 0x7f\nfldcw [rsp]\nstmxcsr [rdi]": "write 0xb8000, 4 bytes",
}


@pytest.mark.parametrize("core", TRAPS)
@pytest.mark.parametrize("source", SOFTWARE)
def test_a_bridged_instruction_on_a_device(source: str, core: str) -> None:
    """An instruction that the VMM completes in the CPU's place leaves the guest where it accesses a
    device, in either mode."""
    source_with_end = f"mov edi, 0xb8000\n{source}\n" + EXIT
    with booted(core, source_with_end) as machine:
        assert (Reason.MMIO, SOFTWARE[source]) in details(run(machine))
        assert machine.board.accesses == 2
    with booted(core, source_with_end) as machine:
        machine.run_free(30)
        assert (Reason.MMIO, SOFTWARE[source]) in details(machine)


@pytest.mark.parametrize("core", [core for core in CORES if core != "interpreter"])
def test_strings_of_ports(core: str) -> None:
    """REP OUTSB is one exit with its iterations, where the VMM completes it."""
    with booted(core, STRING + EXIT) as machine:
        assert (Reason.IO, "3 x 1 byte to console") in details(run(machine))
    if core != "kvm":
        with booted(core, STRING + EXIT) as machine:
            machine.run_free(30)
            assert (Reason.IO, "3 x 1 byte to console") in details(machine)
