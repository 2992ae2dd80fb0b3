"""The way into the guest and out of it: short, and the same for all."""

from __future__ import annotations

import sys
from types import FrameType

from machine_lab import booted, needs_assembler, run

pytestmark = needs_assembler

MOST_CALLS, MOST_FILES = 30, 12


def test_an_exit_passes_few_hands() -> None:
    """From the step of a machine to the device and back, one OUT on trap:native is at most 30 Python
    calls in 12 files: that is what a reader has to follow, and most of what an exit costs."""
    with booted("trap:native", "1: out 0xe9, al\njmp 1b\n") as machine:
        run(machine, 40)
        calls: list[str] = []

        def note(frame: FrameType, event: str, argument: object) -> None:
            if event == "call":
                calls.append(frame.f_code.co_filename)

        sys.setprofile(note)
        try:
            machine.step()
        finally:
            sys.setprofile(None)
        assert machine.vmm.last is not None
        assert machine.vmm.last.mnemonic == "out"
        assert len(calls) <= MOST_CALLS
        assert len(set(calls)) <= MOST_FILES
