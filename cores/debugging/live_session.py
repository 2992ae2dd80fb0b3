"""Live session: machines that a user runs, inspects and edits, forwards and backwards in time.

The interface's worker thread owns it (app/session_thread.py). Long work is cut into slices of host
time, so that keys can be answered and snapshots taken between them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter

from cores.debugging.breakpoints import Breakpoint, Watch
from cores.debugging.edits import Poke
from cores.debugging.excursions import excursion, passes
from cores.errors import InputError
from cores.inspection import snapshot as snapshots
from cores.inspection import views as inside
from cores.lockstep.options import Options
from cores.lockstep.session import Session
from cores.machine.isolation_audit import Control
from cores.machine.machine import Machine
from cores.machine.report import Divergence, SessionSnapshot
from cores.pc.network.making import write_captures
from cores.programs.program import Program
from cores.programs.sources import with_sources
from cores.time_travel.fast_forward import FAR, FastForward
from cores.time_travel.history import History
from cores.vmm.trace import Trace
from cores.x86.isa.instruction import Reason

NO_BUDGET = 1 << 62
NOWHERE: frozenset[Breakpoint] = frozenset()
NO_STOPS: frozenset[int] = frozenset()


class LiveSession:
    """Machines in lockstep under a user's control. For threads see cores/lockstep/session.py."""

    def __init__(self, program: Program, options: Options) -> None:
        self._serial = 0
        self._interrupted = False
        program = with_sources(program)
        self._begin(program, options, Session(program, options))

    def _begin(self, program: Program, options: Options, session: Session) -> None:
        self._program, self._options, self._session = program, options, session
        for machine in self._session.machines:
            machine.vmm.budget = NO_BUDGET
        self._histories = [History(machine) for machine in self._session.machines]
        self._mode = "exact"
        self._reached = ""
        self._heading: int | None = None  # the target of a seek under way
        self._replaying = False  # the target lies in the machines' past
        self._searching = False  # the next exit has not been found yet
        self._ahead = FastForward(self._histories, self._session.lockstep)
        self._marks = snapshots.Marks()
        self._sites = [snapshots.Sites() for _ in self._session.machines]
        self._control = Control()
        self._inspector = inside.Inspector(self._session.machines)
        self._listing = snapshots.listing(self._session.machines[0]) if self._session.machines else {}
        self._remember()

    def _remember(self) -> None:
        """Keep the present state, for the next snapshot to show what has changed."""
        self._before = self._states()
        self._since = self.instructions
        self._inspector.remember()

    # Saving and reopening (cores/debugging/saved_session.py)

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
    def reached(self) -> str:
        """The breakpoint that ended the last run, "" without one."""
        return self._reached

    @property
    def divergence(self) -> Divergence | None:
        """The first divergence, None while the machines agree."""
        return self._session.divergence

    @property
    def typed(self) -> tuple[tuple[int, bytes], ...]:
        """(instruction, text) that lies ahead and will be typed again."""
        return tuple(self._histories[0].coming) if self._histories else ()

    @property
    def begins(self) -> int:
        """The earliest instruction that ``seek`` can reach."""
        return max((history.begins for history in self._histories), default=0)

    def begin_here(self, mode: str, typed: tuple[tuple[int, bytes], ...]) -> None:
        """Begin a new history: the machines have been given another state.
        typed: (instruction, text) to be typed from here on."""
        self._mode = mode
        self._histories = [History(machine, typed) for machine in self._session.machines]
        self._ahead.close()
        self._ahead = FastForward(self._histories, self._session.lockstep)
        self._remember()
        self._session.lockstep.resume(self.instructions)

    # Forwards

    def step(self) -> None:
        """Complete one more instruction on all machines, and compare them."""
        self.settle()
        self._remember()
        if not self._session.ended:
            self._step_surely()

    def _step_surely(self) -> None:
        """Step, and verify a divergence by steps from the last checkpoint if machines had been led."""
        there = self.instructions + 1
        self._step()
        if self._session.divergence is not None and self._ahead.roll_back_divergence():
            while self.instructions < there and not self._session.ended:
                self._step()

    def _step(self) -> None:
        for history in self._histories:
            if history.machine.stop is None:
                history.step()
        if self._mode == "exact":
            self._session.compare_step()

    def run(
        self, seconds: float, breakpoints: frozenset[Breakpoint] = NOWHERE, steps: int | None = None
    ) -> bool:
        """Run in exact lockstep for at most ``seconds`` and ``steps``; False when all machines have
        stopped, or one of the breakpoints is reached."""
        return self._run(seconds, breakpoints, lambda: False, steps) is not None

    def next_exit(
        self,
        reason: Reason | None = None,
        limit: float = 0.05,
        breakpoints: frozenset[Breakpoint] = NOWHERE,
    ) -> bool:
        """Run until a machine exits (for ``reason``), or a breakpoint is reached; False when ``limit``
        seconds have passed."""
        before, searching = self.exits(reason), self._searching
        outcome = self._run(
            limit, breakpoints, lambda: self.exits(reason) > before, remember=not searching
        )
        self._searching = outcome is False
        return not self._searching

    def _run(
        self,
        seconds: float,
        breakpoints: frozenset[Breakpoint],
        reached: Callable[[], bool],
        steps: int | None = None,
        remember: bool = True,
    ) -> bool | None:
        """As ``_until``; also None when a breakpoint was reached."""
        self.settle()
        self._reached = ""
        watch = Watch(self._session, breakpoints) if breakpoints else None
        left = NO_BUDGET if steps is None else steps

        def stop() -> bool:
            nonlocal left
            left -= 1
            if watch is not None and (hit := watch.reached()) is not None:
                self._reached = str(hit)
                return True
            return left <= 0 or reached()

        led = steps is None and (watch is None or not watch.each_step)
        leaving = watch is not None and watch.at_address() is not None
        stops = NO_STOPS if watch is None else watch.addresses
        outcome = self._until(seconds, stop, remember, FAR if led else None, stops, leaving)
        return None if self._reached else outcome

    def advance(self, seconds: float, reached: Callable[[], bool], *, led: bool = False) -> bool | None:
        """Step, and call ``reached`` after each step: True when it is true, False when ``seconds`` have
        passed, None when all machines have stopped. led: several steps at a time, as in ``run``."""
        return self._until(seconds, reached, until=FAR if led else None)

    def _until(
        self, seconds: float, reached: Callable[[], bool], remember: bool = True,
        until: int | None = None, stops: frozenset[int] = NO_STOPS, leaving: bool = False,
    ) -> bool | None:  # fmt: skip
        """Keep the present state, then ``_go_on``."""
        self.settle()
        if remember:
            self._remember()
        return self._go_on(seconds, reached, until, stops, leaving)

    def _go_on(
        self, seconds: float, reached: Callable[[], bool], until: int | None = None,
        stops: frozenset[int] = NO_STOPS, leaving: bool = False,
    ) -> bool | None:  # fmt: skip
        """Run until ``reached()`` is true: True; the slice is over: False; all machines have stopped:
        None.

        until: the machines may be led up to there; ``reached`` is then called only where they stop,
        also before instructions at ``stops``. leaving: the machines are at one of them."""
        self._interrupted = False
        end = perf_counter() + seconds
        exact = self._mode == "exact"
        lead = self._ahead.begin(until, stops) if until is not None and exact else None
        try:
            if leaving and not self._session.ended:
                self._step_surely()
                if reached():
                    return True
            while perf_counter() < end and not self._interrupted:
                ended = self._session.ended
                if ended:
                    self._session.lockstep.at_end()
                elif lead is None:
                    self._step_surely()
                elif not lead.stretch():
                    self._step()
                if self._session.divergence is not None:
                    if self._ahead.roll_back_divergence():
                        continue
                    lead = None
                if ended:
                    return None
                again = lead is not None and self.instructions < self._ahead.trouble
                if not again and reached():
                    return True
            return None if self._session.ended else False
        finally:
            self._ahead.pause()

    def exits(self, reason: Reason | None = None) -> int:
        """Number of exits of all machines together, for ``reason`` or for any."""
        traces = [machine.vmm.trace for machine in self._session.machines]
        return sum(t.exits if reason is None else t.by_reason[reason] for t in traces)

    def run_free(self, seconds: float) -> bool:
        """Run each machine by itself at full speed, for a share of the time; False when all have
        stopped.

        From here on nothing is compared, and no earlier instruction can be reached again."""
        self.settle()
        self._reached = ""
        if self._mode == "exact":
            self._mode = "free"
        self._remember()
        going = [machine for machine in self._session.machines if machine.stop is None]
        for machine in going:
            machine.run_free(seconds / len(going))
        return not self._session.ended

    # Backwards, and from the beginning

    @property
    def here(self) -> int:
        """Instructions completed at present, or at the target of a seek under way."""
        return self.instructions if self._heading is None else self._heading

    def exit_before(self) -> int:
        """The newest instruction before ``here`` that caused an exit on any machine; 0 without one."""
        here = self.here
        self.go_to(here)  # finish a seek first: its exits are not recorded yet
        traces = [machine.vmm.trace for machine in self._session.machines]
        return max((_newest_before(here, trace) for trace in traces), default=0)

    def step_back(self) -> None:
        """Go to the state before the last instruction."""
        self.go_to(max(0, self.here - 1))

    def previous_exit(self) -> None:
        """Go to just before the newest instruction that caused an exit on any machine."""
        self.go_to(self.exit_before())

    def go_to(self, instruction: int) -> None:
        """Go to where ``instruction`` instructions are completed on all machines."""
        while not self.seek(instruction, 3600.0):
            pass

    def seek(self, instruction: int, seconds: float) -> bool:
        """Go towards ``instruction`` for ``seconds``; False when it takes more time: call again.
        Raises InputError when it lies before ``begins``.

        Instructions ahead of the machines are run and compared for the first time; those behind are
        re-executed from a checkpoint without comparison."""
        if self._mode == "free":
            return True
        if self._heading != instruction:
            self._set_out(instruction)
        if not self._replaying:
            arrived = self._there(instruction) or (
                self._go_on(seconds, lambda: self._there(instruction), instruction) is not False
            )
        else:
            arrived = self._catch_up(instruction, seconds)
        if arrived:
            self.settle()
        return arrived

    def _there(self, instruction: int) -> bool:
        return self.instructions >= instruction

    def _set_out(self, instruction: int) -> None:
        if instruction < self.begins:
            raise InputError(f"the past that can be gone back to begins at instruction {self.begins:,}")
        self.settle()
        self._remember()
        self._reached = ""
        self._heading = instruction
        self._ahead.trouble = 0
        if instruction < self.instructions:
            self._session.lockstep.pause()
            for history in self._histories:
                history.approach(instruction)
            self._replaying = True

    def _catch_up(self, instruction: int, seconds: float) -> bool:
        """Step each machine through its past; False when the time is up."""
        end = perf_counter() + seconds
        while behind := self._behind(instruction):
            for history in behind:
                history.step()
            if perf_counter() >= end:
                return False
        return True

    def _behind(self, instruction: int) -> list[History]:
        machines = ((history, history.machine) for history in self._histories)
        return [h for h, m in machines if m.stop is None and m.vmm.instructions < instruction]

    def settle(self) -> None:
        """End a seek here, with all machines at the same instruction."""
        self._heading = None
        self._searching = False
        if self._replaying:
            self._replaying = False
            here = self.instructions
            for history in self._histories:
                history.seek(here)
            self._session.lockstep.resume(here)

    def restart(self) -> None:
        """Begin again with the same program and options."""
        self.begin_with(self._program, self._options)

    def begin_with(self, program: Program, options: Options) -> None:
        """Replace the machines by new ones; where these cannot be made, the old ones remain."""
        session = Session(program, options)
        self._release()
        self._begin(program, options, session)

    def key(self, text: str) -> None:
        """Type on the keyboards of all guests."""
        self.settle()
        for history in self._histories:
            history.type_text(text.encode("latin-1", "replace"))

    def poke(self, poke: Poke, core: str | None = None) -> None:
        """Change a register or memory of all machines, or of ``core`` alone, which then diverges from
        the others. Raises InputError before anything is changed."""
        self.settle()
        chosen = [h for h in self._histories if core in (None, h.machine.core)]
        for history in chosen:
            poke.check(history.machine)
        self._remember()
        self._marks.forget_after(self.instructions)
        for history in chosen:
            history.poke(partial(poke.apply, history.machine))

    @property
    def instructions(self) -> int:
        """Instructions completed by the machine that is furthest."""
        return max((m.vmm.instructions for m in self._session.machines), default=0)

    # Snapshots

    def snapshot(self) -> SessionSnapshot:
        """Take a snapshot of all machines."""
        self._serial += 1
        self._control.audit(self._session.machines, self._session.ended)
        machines = tuple(
            snapshots.take(machine, before, sites.update(machine.vmm.trace))
            for machine, before, sites in zip(
                self._session.machines, self._before, self._sites, strict=True
            )
        )
        lockstep = self._session.lockstep
        self._marks.update(machine.vmm.trace for machine in self._session.machines)
        heading = self._heading
        return SessionSnapshot(
            serial=self._serial, path=self._program.path, mode=self._mode, running=False,
            compared=lockstep.compared, divergence=lockstep.divergence, machines=machines,
            unavailable=tuple((absent.core, absent.reason) for absent in self._session.absent),
            symbols=self._program.symbols, reached=self._reached, marks=self._marks.taken,
            progress=None if heading is None else (min(self._done(), heading), heading),
            disk=self._options.disk or "", audits=self._control.audits, escaped=self._control.escaped,
            since=self._since, source=self._program.source, lines=self._program.lines,
            listing=self._listing, files=self._program.files, note=self._program.note,
            mark_counts=self._marks.counts, pure=self._options.pure,
        )  # fmt: skip

    def _done(self) -> int:
        """Instructions completed by the machine that is furthest behind."""
        return min((m.vmm.instructions for m in self._session.machines if m.stop is None), default=0)

    def query(self, query: inside.Query) -> inside.View | None:
        """Inspect one machine; None when it has nothing of the kind asked for."""
        return self._inspector.query(query)

    def around(self, core: str, number: int) -> inside.Around | None:
        """The registers just before and after the event ``number`` (0: the first) of a machine, found
        by executing its instruction again. None where that cannot be done."""
        self.settle()
        history = next((h for h in self._histories if h.machine.core == core), None)
        if history is None or self._mode == "free":
            return None
        with excursion(history, self._session.lockstep):
            return inside.around(history, number)

    def passes(self, addresses: frozenset[int], before: int) -> tuple[list[int], int]:
        """Look for instructions before ``before`` that stood at one of the linear ``addresses``, back
        to the last checkpoint. Gives them, and where that is. Nothing is found in free mode."""
        self.settle()
        if self._mode == "free" or before <= self.begins:
            return [], self.begins
        histories = self._histories
        history = next((h for h in histories if h.machine.engine.traits.leads), histories[0])
        with excursion(history, self._session.lockstep):
            return passes(history, addresses, before)

    def _states(self) -> list[tuple[int, ...]]:
        return [machine.cpu.state() for machine in self._session.machines]

    def interrupt(self) -> None:
        """End the slice under way. May be called from any thread."""
        self._interrupted = True
        if self._mode == "free":  # else a slice is short, and a stretch must not be interrupted
            for machine in tuple(self._session.machines):
                machine.engine.interrupt()

    def close(self) -> None:
        """Release all machines, and write the captures that were asked for. Raises InputError where
        that fails."""
        machines = self._session.machines
        networks = machines[0].board.networks if machines else ()
        self._release()
        if networks:
            write_captures(self._options.nets, networks)

    def _release(self) -> None:
        self._ahead.close()
        self._session.close()


def _newest_before(instruction: int, trace: Trace) -> int:
    """Instruction of the newest exit before ``instruction``, 0 without one."""
    counts = (e.n for e in reversed(trace.events) if e.n is not None and e.n < instruction)
    return next(counts, 0)
