"""A session with the foreign machine. Only one core runs it, so that nothing is compared.

``run`` is for `compare`, ``trace`` for `trace`, ``ForeignSession`` for the interface
(app/session_thread.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from time import perf_counter

from cores.debugging.breakpoints import AtAddress, Breakpoint
from cores.debugging.edits import Poke
from cores.engines import registry
from cores.inspection.views import CodeQuery, CodeView, MemoryQuery, MemoryView, Query, View
from cores.lockstep.options import DEFAULT_SECONDS, DEFAULT_STEPS, Absent, Options
from cores.m68k.disassembly import code
from cores.machine.report import CoreReport, ExitLine, SessionSnapshot, StepLine
from cores.pc.stop import Stop
from cores.programs.program import Program
from cores.time_travel.history import Past
from cores.x86.isa.instruction import Reason

from ..errors import InputError, UnavailableError
from .decode import text
from .machine import CORE, REFUSAL, M68kMachine, M68kState

NO_BUDGET = 1 << 62
NOWHERE: frozenset[Breakpoint] = frozenset()


def refusals(options: Options) -> tuple[Absent, ...]:
    """The requested cores that cannot run a 68000 program, each with the reason."""
    asked = dict.fromkeys(map(registry.resolve, options.asked))
    here = map(registry.availability, asked)
    return tuple(
        Absent(core.core, core.engine, core.reason or REFUSAL if core.core == CORE else REFUSAL)
        for core in here
        if core.core != CORE or not core.available
    )


def start(program: Program, core: str, options: Options) -> M68kMachine:
    """A machine after its reset. Raises UnavailableError for every core except the interpreter."""
    if registry.resolve(core) != CORE:
        raise UnavailableError(f"{core}: {REFUSAL}")
    ignored = [
        name
        for name, given in (
            ("disk", options.disks),
            ("keyboard", options.input),
            ("network", options.nets),
        )
        if given
    ]
    notes = tuple(f"this machine has no {name}" for name in ignored)
    return M68kMachine(program, ram=options.ram or program.ram, notes=notes)


def run(program: Program, options: Options) -> CoreReport:
    """Run the program to its end, or until the budget is used up."""
    with contextlib.closing(start(program, CORE, options)) as machine:
        if options.free:
            machine.run_free(DEFAULT_SECONDS if options.budget is None else options.budget)
            machine.vmm.stop = machine.vmm.stop or Stop.BUDGET
        else:
            machine.vmm.budget = int(DEFAULT_STEPS if options.budget is None else options.budget)
            while machine.stop is None:
                machine.step()
        return machine.report()


def trace(
    program: Program, core: str, options: Options, steps: bool
) -> Iterator[ExitLine | StepLine | CoreReport]:
    """Run the program and yield its instructions, if ``steps``, and the report at the end; there are no
    exits. Raises UnavailableError for every core except the interpreter."""
    if options.free or not steps:
        start(program, core, options).close()
        yield run(program, options)
        return
    with contextlib.closing(start(program, core, options)) as machine:
        vmm = machine.vmm
        vmm.budget = int(DEFAULT_STEPS if options.budget is None else options.budget)
        while machine.stop is None:
            before = machine.state()
            machine.step()
            if vmm.last is not None:
                insn, changed = vmm.last, _changes(machine, before)
                asm = text(insn, vmm.last_pc)
                yield StepLine(vmm.instructions - 1, vmm.last_pc, insn.code, asm, changed)
        yield machine.report()


def _changes(machine: M68kMachine, before: tuple[int, ...]) -> dict[str, int | bytes]:
    columns = zip(machine.state_names, before, machine.state(), strict=True)
    changed: dict[str, int | bytes] = {name: new for name, old, new in columns if old != new}
    for address, length in machine.vmm.stored:
        changed[f"mem:{address:#x}"] = bytes(machine.bus.view[address : address + length])
    return changed


class ForeignSession:
    """An interactive session with the foreign machine; see
    ``cores.debugging.live_session.LiveSession``."""

    def __init__(self, program: Program, options: Options) -> None:
        self._program = program
        self._options = options
        self._serial = 0
        self._interrupted = False
        self._absent = tuple((absent.core, absent.reason) for absent in refusals(options))
        self._begin(self._made())

    def _made(self) -> M68kMachine:
        asked = self._options.asked
        return start(self._program, CORE if CORE in asked else asked[0], self._options)

    def _begin(self, machine: M68kMachine) -> None:
        self._machine = machine
        self._machine.vmm.budget = NO_BUDGET
        self._history: Past[M68kState] = Past(self._machine)
        self._before, self._since = self._machine.state(), self.instructions
        self._reached = ""
        self._heading: int | None = None  # the instruction that the machine is on the way to

    @property
    def machine(self) -> M68kMachine:
        """The current machine; ``restart`` creates another."""
        return self._machine

    @property
    def program(self) -> Program:
        return self._program

    @property
    def instructions(self) -> int:
        """Instructions completed."""
        return self._machine.vmm.instructions

    def advance(self, seconds: float, reached: Callable[[], bool]) -> bool | None:
        """Step until ``reached`` returns True: True. False after ``seconds``, None when the machine has
        stopped."""
        self._set_out(None)
        end = perf_counter() + seconds
        while self._machine.stop is None and perf_counter() < end:
            self._history.step()
            if reached():
                return True
        return False if self._machine.stop is None else None

    def step(self) -> None:
        """Complete one more instruction."""
        self._set_out(None)
        self._history.step()

    def run(
        self, seconds: float, breakpoints: frozenset[Breakpoint] = NOWHERE, steps: int | None = None
    ) -> bool:
        """Run for at most ``seconds`` and ``steps``. False when the machine has stopped, or has reached
        an address of ``breakpoints``; their other conditions are ignored here."""
        self._set_out(None)
        self._interrupted, self._reached = False, ""
        stops = {point.address: point for point in breakpoints if isinstance(point, AtAddress)}
        end, left = perf_counter() + seconds, NO_BUDGET if steps is None else steps
        while self._machine.stop is None and not self._interrupted and perf_counter() < end and left:
            self._history.step()
            left -= 1
            if stops and self._machine.cpu.pc in stops:
                self._reached = str(stops[self._machine.cpu.pc])
                return False
        return self._machine.stop is None

    def run_free(self, seconds: float) -> bool:
        """``run``: there is no faster way, since the 68000's rules are checked at each instruction."""
        return self.run(seconds)

    def next_exit(
        self,
        reason: Reason | None = None,
        limit: float = 0.05,
        breakpoints: frozenset[Breakpoint] = NOWHERE,
    ) -> bool:
        """Run to the end, since there are no exits. False when ``limit`` seconds were over before."""
        return not self.run(limit, breakpoints)

    @property
    def here(self) -> int:
        """Instructions completed; during a ``seek``, the position that it is to reach."""
        return self._machine.vmm.instructions if self._heading is None else self._heading

    def exit_before(self) -> int:
        """0, the beginning: there are no exits."""
        return 0

    def step_back(self) -> None:
        """Go to the state before the last instruction."""
        self.go_to(max(0, self.here - 1))

    def go_to(self, instruction: int) -> None:
        """Go to the state after ``instruction`` completed instructions."""
        while not self.seek(instruction, 3600.0):
            pass

    def seek(self, instruction: int, seconds: float) -> bool:
        """Work towards ``instruction`` for ``seconds``; False when it takes more time: call again.
        Raises InputError when it lies before the oldest checkpoint."""
        if self._heading != instruction:
            if instruction < self._history.begins:
                raise InputError(
                    f"the past that can be gone back to begins at {self._history.begins:,}"
                )
            self._set_out(instruction)
            self._history.approach(instruction)
        end = perf_counter() + seconds
        while self._machine.stop is None and self._machine.vmm.instructions < instruction:
            self._history.step()
            if perf_counter() >= end:
                return False
        self._heading = None
        return True

    def _set_out(self, instruction: int | None) -> None:
        """Begin to move: keep the registers, to mark those that change."""
        self._before, self._since = self._machine.state(), self.instructions
        self._heading = instruction

    def poke(self, poke: Poke, core: str | None = None) -> None:
        """Raises InputError: this machine's state cannot be edited."""
        raise InputError("the state of a 68000 cannot be changed by hand")

    def query(self, query: Query) -> View | None:
        """Show its code or its memory, by physical addresses: it has no others."""
        if isinstance(query, CodeQuery):
            start = self._program.start
            return CodeView(code(self._machine.bus, query.address, start))
        if not isinstance(query, MemoryQuery):
            return None
        names = dict(zip(self._machine.state_names, self._machine.state(), strict=True))
        target = query.where if isinstance(query.where, int) else names.get(query.where, names["a7"])
        start = max(0, (target & -16) + query.offset)
        known = self._machine.bus.view[start : min(start + query.length, self._machine.bus.size)]
        data = (*known, *[None] * (query.length - len(known)))
        return MemoryView(start, target, data, frozenset())

    def around(self, core: str, number: int) -> None:
        """None: there are no exits."""

    def restart(self) -> None:
        """Start again with a new machine."""
        machine = self._made()  # if this raises, the old one remains
        self.close()
        self._begin(machine)

    def key(self, text: str) -> None:
        """Ignored: this machine has no keyboard."""

    def snapshot(self) -> SessionSnapshot:
        """The machine at this moment."""
        self._serial += 1
        return SessionSnapshot(
            serial=self._serial, path=self._program.path, mode="exact", running=False, compared=0,
            divergence=None, machines=(self._machine.snapshot(self._before),), unavailable=self._absent,
            reached=self._reached, since=self._since,
        )  # fmt: skip

    def interrupt(self) -> None:
        """End the current slice. May be called from any thread."""
        self._interrupted = True

    def close(self) -> None:
        """Release the machine."""
        self._machine.close()
