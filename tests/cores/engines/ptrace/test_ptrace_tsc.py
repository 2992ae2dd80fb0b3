"""RDTSC at ring 3: trapped where that is cheap, and virtual time in either case."""

from __future__ import annotations

from contextlib import closing

import pytest
from ptrace_lab import Guest

from cores.engines.base import STEPPED, Fault
from cores.engines.ptrace import host_support
from cores.engines.ptrace.engine import PtraceEngine
from cores.machine.machine import Machine
from cores.pc.ram import MIB
from cores.programs.program import LOAD_ADDRESS, Program, Segment
from cores.x86.isa.instruction import Reason
from cores.x86.registers import RAX, RDX, Vector

CODE = bytes.fromhex("0f31 0f01f9 e6f4")
"""`rdtsc; rdtscp; out 0xf4, al`."""


@pytest.fixture(params=[False, True], ids=["silent", "trapped"])
def traps(request: pytest.FixtureRequest, guest: Guest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Each kind of host in turn. guest: a host that has this engine."""
    traps = bool(request.param)
    monkeypatch.setattr(host_support, "tsc_traps_cheaply", lambda: traps)
    return traps


def machine(*, pure: bool = False) -> Machine:
    segment = Segment(LOAD_ADDRESS, CODE, len(CODE))
    program = Program("tsc", "flat", LOAD_ADDRESS, (segment,), "")
    return Machine(program, PtraceEngine(), ram=4 * MIB, pure=pure)


@pytest.mark.parametrize("pure", [False, True])
def test_exact_mode_gives_virtual_time(traps: bool, pure: bool) -> None:
    """A step gives 1000 counts a tick, whether the CPU would have trapped or not, and one exit each."""
    with closing(machine(pure=pure)) as guest:
        guest.step()
        assert guest.cpu.gpr[RDX] << 32 | guest.cpu.gpr[RAX] == 0
        guest.step()
        assert guest.cpu.gpr[RDX] << 32 | guest.cpu.gpr[RAX] == 1000
        assert guest.vmm.trace.by_reason == {Reason.TSC: 2}


def test_free_mode_gives_virtual_time(traps: bool) -> None:
    """In free mode it is patched: two exits, and the counter of a machine that has just begun."""
    with closing(machine()) as guest:
        guest.run_free(10)
        assert guest.stop == "exit"
        assert guest.vmm.trace.by_reason[Reason.TSC] == 2
        assert guest.cpu.gpr[RDX] << 32 | guest.cpu.gpr[RAX] < 10 * 10**9


@pytest.mark.parametrize("code", [b"\x0f\x31", b"\x0f\x01\xf9"])
def test_the_process_traps_it_only_where_asked(traps: bool, code: bytes) -> None:
    """By itself the process executes it, or faults where PR_SET_TSC is set."""
    with closing(machine()) as guest:
        guest.memory.write(LOAD_ADDRESS, code)
        exit = guest.engine.step(guest.cpu)
        assert exit == (Fault(Vector.GP, 0) if traps else STEPPED)


def test_the_survey_finds_that_it_can_be_trapped(traps: bool) -> None:
    """The ring 3 survey asks for traps, so that it finds the same on every host."""
    from cores.engines import ring3_survey

    (found,) = [f for f in ring3_survey.probe() if f.entry.name == "rdtsc, rdtscp"]
    assert (found.outcome, found.vector) == ("traps", "#GP")
