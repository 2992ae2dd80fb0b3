"""Two machines on one cable (``--net hub --with OTHER``): when the second one runs.

The session runs the first as any machine. Whenever it has to know what has arrived, the second is run
up to the first one's time, and no further: until then nothing that the first sends can reach it. So
their instructions interleave in the same way in each exact run and on each core. A second machine that
sleeps waits at that time, its HLT not yet over.

In free mode, each runs for a slice of host time in turn, and one that sleeps for good, for all that it
knows, is woken by the next frame.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from cores.machine.machine import Machine
from cores.pc.devices.board import NEVER
from cores.pc.network.hub import LATENCY, HubEnd, join
from cores.pc.stop import Stop

SLICE = 0.002
"""Seconds of host time that one machine runs before the other, in free mode."""


class Pair:
    """first: the session's machine. second: the other one, which belongs to it, and is closed with
    it."""

    def __init__(self, first: Machine, second: Machine) -> None:
        self.first, self.second = first, second
        self._free = False
        self._ends = _end(first), _end(second)
        join(*self._ends)
        ours, theirs = self._ends
        ours.run_other, ours.horizon = self._run_second, self._horizon
        theirs.horizon = lambda: None if second.board.horizon == NEVER else second.board.horizon
        ours.mode = f"hub: the other machine runs {second.program.path}"
        theirs.mode = f"hub: the other machine runs {first.program.path}"
        first.pair = self

    # Exact mode

    def _run_second(self, now: int) -> None:
        """Let the second machine reach tick ``now``."""
        vmm = self.second.vmm
        if vmm.stop is not None or vmm.ticks >= now or self._free:
            return
        began = perf_counter()
        vmm.budget = self.first.vmm.budget
        self.second.board.horizon = now
        while vmm.stop is None and vmm.ticks < now:
            self._step_second()
        self.first.seconds -= perf_counter() - began

    def _step_second(self) -> None:
        vmm = self.second.vmm
        if vmm.emulator.halted:
            with self.second.failing_alone():
                vmm.delivery.sleep()
        else:
            self.second.step()

    def _horizon(self) -> int | None:
        vmm = self.second.vmm
        if (
            vmm.stop is not None
            or self._free
            or (vmm.emulator.halted and self.second.board.sleeps_for_good())
        ):
            return None
        return vmm.ticks + LATENCY

    def finish(self, late: Callable[[], bool]) -> None:
        """The first machine has stopped: run the second to its end, or until ``late()``."""
        vmm = self.second.vmm
        vmm.budget = self.first.vmm.budget
        self.second.board.horizon = NEVER
        while vmm.stop is None and not late():
            self._step_second()

    # Free mode

    def run_free(self, seconds: float) -> None:
        """Run both machines for ``seconds`` altogether, or until both have stopped."""
        self._free, self.second.board.horizon = True, NEVER
        end = perf_counter() + seconds
        machines = self.first, self.second
        while (left := end - perf_counter()) > 0:
            going = False
            for machine in machines:
                asleep = machine.stop is Stop.HALTED and machine.vmm.emulator.halted
                if not machine.board.sleeps_for_good() and asleep:  # asks anew in any case
                    machine.vmm.stop = None
                if machine.stop is None:
                    machine.run_alone(min(SLICE, left))
                    going = True
            if not going:
                break
        self._free = False


def _end(machine: Machine) -> HubEnd:
    return next(link for link in machine.board.networks if isinstance(link, HubEnd))
