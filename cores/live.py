"""A session that is looked at while it runs: in slices, forwards and backwards.

The interface's worker thread owns it (app/worker.py). Work that may take long is cut into slices
of host time, so that between two of them a key can be answered and a picture taken.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from . import picture
from .errors import EngineError
from .history import History
from .machine import Machine
from .program import Program
from .report import SessionSnapshot, Stop
from .session import Options, Session
from .x86.instruction import Reason
from .x86.registers import STATE_NAMES

NO_BUDGET = 1 << 62


class LiveSession:
    """Machines side by side, under a user's hands. See ``cores.session.Session`` for threads."""

    def __init__(self, program: Program, options: Options) -> None:
        self._program = program
        self._options = options
        self._serial = 0
        self._interrupted = False
        self._open()

    def _open(self) -> None:
        self._session = Session(self._program, self._options)
        for machine in self._session.machines:
            machine.vmm.budget = NO_BUDGET
        self._histories = [History(machine) for machine in self._session.machines]
        self._mode = "exact"
        self._before = self._states()

    # What is saved and reopened (cores/saved.py)

    @property
    def machines(self) -> tuple[Machine, ...]:
        return tuple(self._session.machines)

    @property
    def program(self) -> Program:
        return self._program

    @property
    def options(self) -> Options:
        return self._options

    @property
    def mode(self) -> str:
        return self._mode

    @property
    def typed(self) -> tuple[tuple[int, bytes], ...]:
        """(instruction, text) of all that has been typed."""
        return tuple(self._histories[0].typed) if self._histories else ()

    def begin_here(self, mode: str, typed: tuple[tuple[int, bytes], ...]) -> None:
        """The machines have been put into another state: there is no past before it."""
        self._mode = mode
        self._histories = [History(machine, typed) for machine in self._session.machines]
        self._before = self._states()
        self._session.lockstep.resume(self._now())

    # Forwards

    def step(self) -> None:
        """All machines complete one more instruction, and are compared."""
        self._before = self._states()
        self._step()

    def _step(self) -> None:
        for history in self._histories:
            if history.machine.stop is None:
                try:
                    history.step()
                except EngineError as error:
                    history.machine.vmm.stop = Stop.ERROR
                    history.machine.vmm.reason = str(error)
        if self._mode == "exact":
            self._session.compare_step()

    def run(self, seconds: float) -> bool:
        """Exact lockstep for so long; False when all machines have stopped."""
        return self._until(seconds, lambda: False) is not None

    def next_exit(self, reason: Reason | None = None, limit: float = 0.05) -> bool:
        """Go on until a machine has left its guest (for that reason); False when the time was up."""
        before = self._exits(reason)
        return self._until(limit, lambda: self._exits(reason) != before) is not False

    def _until(self, seconds: float, reached: Callable[[], bool]) -> bool | None:
        """Step until ``reached()``: True; the slice is over: False; all have stopped: None."""
        self._before = self._states()
        self._interrupted = False
        end = perf_counter() + seconds
        while perf_counter() < end and not self._interrupted:
            if self._session.ended:
                return None
            self._step()
            if reached():
                return True
        return None if self._session.ended else False

    def _exits(self, reason: Reason | None) -> list[int]:
        traces = [machine.vmm.trace for machine in self._session.machines]
        return [t.exits if reason is None else t.by_reason[reason] for t in traces]

    def run_free(self, seconds: float) -> bool:
        """Full speed, each machine by itself, for a share of the time; False when all have stopped.

        Nothing is compared from here on, and the past before it cannot be gone back to."""
        if self._mode == "exact":
            self._mode = "free"
        self._before = self._states()
        going = [machine for machine in self._session.machines if machine.stop is None]
        for machine in going:
            try:
                machine.run_free(seconds / len(going))
            except EngineError as error:
                machine.vmm.stop, machine.vmm.reason = Stop.ERROR, str(error)
        return not self._session.ended

    # Backwards, and over again

    def step_back(self) -> None:
        """To the state before the last instruction."""
        self.go_to(max(0, self._now() - 1))

    def previous_exit(self) -> None:
        """To just before the last instruction, so far, that left the guest on any machine."""
        now = self._now()
        events = (e.n for m in self._session.machines for e in m.vmm.trace.events if e.n < now)
        self.go_to(max(events, default=0))

    def go_to(self, instruction: int) -> None:
        """To where so many instructions are completed, on all machines together."""
        if self._mode == "free":
            return
        self._before = self._states()
        lockstep = self._session.lockstep
        lockstep.pause()
        for history in self._histories:
            history.seek(instruction)
        lockstep.resume(instruction)

    def restart(self) -> None:
        """Everything from the beginning."""
        self.close()
        self._open()

    def key(self, text: str) -> None:
        """Type on the guests' keyboards, all alike."""
        for history in self._histories:
            history.type_text(text.encode("latin-1", "replace"))

    def _now(self) -> int:
        return max((m.vmm.instructions for m in self._session.machines), default=0)

    # The picture

    def snapshot(self) -> SessionSnapshot:
        """All machines at this moment."""
        self._serial += 1
        after = self._states()
        machines = tuple(
            picture.take(
                machine,
                frozenset(
                    n for n, a, b in zip(STATE_NAMES, old, new, strict=True) if a != b and n != "rip"
                ),
            )
            for machine, old, new in zip(self._session.machines, self._before, after, strict=True)
        )
        lockstep = self._session.lockstep
        return SessionSnapshot(
            serial=self._serial, path=self._program.path, mode=self._mode, running=False,
            compared=lockstep.compared, divergence=lockstep.divergence, machines=machines,
            unavailable=tuple((absent.core, absent.reason) for absent in self._session.absent),
        )  # fmt: skip

    def _states(self) -> list[tuple[int, ...]]:
        return [machine.cpu.state() for machine in self._session.machines]

    def interrupt(self) -> None:
        """From any thread: end the slice under way."""
        self._interrupted = True
        for machine in tuple(self._session.machines):
            machine.engine.interrupt()

    def close(self) -> None:
        """Release all machines."""
        self._session.close()
