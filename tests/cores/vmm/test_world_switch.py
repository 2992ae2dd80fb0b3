"""The way into the guest and out of it: its length, and its time."""

from __future__ import annotations

import sys
from time import perf_counter_ns
from types import FrameType

import pytest
from machine_lab import CORES, DATA, EXIT, booted, needs_assembler, run

from cores.machine.machine import Machine

pytestmark = needs_assembler

MOST_CALLS, MOST_FILES = 30, 12


def calls_of_a_step(machine: Machine) -> list[str]:
    """The file of each Python function that one step calls."""
    files: list[str] = []

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            files.append(frame.f_code.co_filename)

    sys.setprofile(note)
    try:
        machine.step()
    finally:
        sys.setprofile(None)
    return files


def test_an_exit_passes_few_hands() -> None:
    """One OUT on trap:native, from the machine's step to the device and back, is at most 30 Python
    calls in 12 files, which a reader has to follow and which are most of an exit's cost."""
    with booted("trap:native", "1: out 0xe9, al\njmp 1b\n") as machine:
        run(machine, 40)
        outs = []
        for _ in range(10):  # the fewest: the vCPU's timer or the garbage collector may come between
            calls = calls_of_a_step(machine)
            assert machine.vmm.last is not None
            if machine.vmm.last.mnemonic == "out":
                outs.append(calls)
        assert len(outs) == 5
        assert min(map(len, outs)) <= MOST_CALLS
        assert min(len(set(calls)) for calls in outs) <= MOST_FILES


SILENT_AND_NOT = "mov al, 65\nout 0xe9, al\npushfq\nmov eax, [0xb8000]\nud2\n"


@pytest.mark.parametrize("free", [False, True], ids=["exact", "free"])
@pytest.mark.parametrize("core", CORES)
def test_the_time_of_an_exit(core: str, free: bool) -> None:
    """In both modes the time of an exit is the VMM's part plus the calibrated world switch, and the
    VMM's parts fit into the time of the run."""
    began = perf_counter_ns()
    with booted(core, SILENT_AND_NOT) as machine:
        if free:
            machine.run_free(30)
        else:
            run(machine)
        trace = machine.vmm.trace
        assert (trace.world_switch > 0) is (core != "interpreter")
        assert trace.pending is None
        assert bool(trace.events) is (core != "interpreter")
        assert all(e.ns == e.vmm_ns + trace.world_switch and e.vmm_ns > 0 for e in trace.events)
        assert sum(e.vmm_ns for e in trace.events) <= perf_counter_ns() - began
        assert sum(trace.ns_by_reason.values()) == sum(e.ns for e in trace.events)


@pytest.mark.parametrize("core", CORES)
def test_calibration_leaves_nothing_behind(core: str) -> None:
    """Calibration before the guest begins changes neither RAM, CPU, devices nor the log of exits."""
    with booted(core, f"mov rax, [0x16000]\nmov [{DATA}], rax\n" + EXIT) as machine:
        trace = machine.vmm.trace
        assert (trace.exits, trace.events, machine.board.accesses, machine.vmm.instructions) == (
            0,
            [],
            0,
            0,
        )
        assert not machine.board.console
        assert run(machine).vmm.exit_status == 0
        assert bytes(machine.memory.view[DATA : DATA + 8]) == bytes(8)
