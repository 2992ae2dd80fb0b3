"""Excursions: one machine goes back into its past to look at something, and returns.

The others stay where they are, and nothing is compared meanwhile.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from cores.lockstep.comparison import Lockstep
from cores.time_travel.history import History
from cores.x86.mmu.segmentation import code_address


@contextlib.contextmanager
def excursion(history: History, lockstep: Lockstep) -> Iterator[None]:
    """In the block the machine of ``history`` may go anywhere in its past; behind it, machine, log,
    counters and comparison are as before."""
    machine = history.machine
    vmm, seconds = machine.vmm, machine.seconds
    now, compared, divergence = vmm.instructions, lockstep.compared, lockstep.divergence
    last, last_rip, log = vmm.last, vmm.last_rip, vmm.trace
    vmm.trace = log.copy()
    lockstep.pause()
    try:
        with history.excursion():
            yield
    finally:
        vmm.trace, vmm.last, vmm.last_rip = log, last, last_rip
        machine.seconds = seconds
        lockstep.resume(now)
        lockstep.compared, lockstep.divergence = compared, divergence
        if divergence is not None:
            lockstep.pause()


def passes(history: History, addresses: frozenset[int], before: int) -> tuple[list[int], int]:
    """Go to the last checkpoint before instruction ``before``, and from there up to it. Gives the
    instructions on this way that stood at one of the linear ``addresses``, in order; and where the way
    began. The machine stays there: call it in an excursion."""
    history.approach(before - 1)
    machine, found = history.machine, []
    begin = machine.vmm.instructions
    while machine.stop is None and (n := machine.vmm.instructions) < before:
        if code_address(machine.cpu, machine.cpu.rip) in addresses:
            found.append(n)
        history.step()
    return found, begin
