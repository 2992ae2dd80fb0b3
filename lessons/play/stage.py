"""The machines of a lesson: a session, how it was made, and the means to move it and to look at it.

``Stage`` has the PC's session (cores/debugging/live_session.py), ``ForeignStage`` that of the 68000
(cores/m68k/session.py). As with a session, every call comes from the thread that made it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import NamedTuple, assert_never

from cores.engines import registry
from cores.errors import InputError
from cores.lockstep.options import Options
from cores.machine.machine import Machine
from cores.machine.report import SessionSnapshot
from cores.pc.network import spec
from cores.programs.loader import load_program
from cores.programs.program import Program
from cores.runs.open import ForeignSession, LiveSession, open_session
from cores.x86.faults import GuestFault
from cores.x86.isa.instruction import Reason
from lessons.format.expressions import ExpressionError
from lessons.format.script import Setup
from lessons.play.moves import Moves
from lessons.play.values import short


class Place(NamedTuple):
    """A moment of a lesson's machines, to come back to."""

    setup: Setup
    instructions: int


class Stage:
    """The PC's machines. session: the same one for as long as the stage lives; ``load`` gives it other
    machines. setup: how the present ones were made. moves: see ``Moves``."""

    def __init__(self, setup: Setup, session: LiveSession) -> None:
        self.setup = setup
        self.session = session
        self.moves = Moves(self)

    def load(self, setup: Setup) -> None:
        """Other machines instead of these. Raises InputError for a guest that cannot be loaded, and for
        one that no PC can boot: a foreign machine needs a lesson of its own."""
        program = load_program(setup.guest, setup.ram)
        self.session.begin_with(program, _options(setup, program))
        self.setup = setup

    @property
    def cores(self) -> frozenset[str]:
        """The cores that run here, by their short names."""
        return frozenset(short(machine.core) for machine in self.session.machines)

    def snapshot(self) -> SessionSnapshot:
        return self.session.snapshot()

    def place(self) -> Place:
        """The present moment of the machines."""
        return Place(self.setup, self.done())

    def return_to(self, place: Place) -> None:
        """Be there again, whatever has been done to the machines meanwhile."""
        if place.setup != self.setup:
            self.load(place.setup)
        elif self.session.mode == "free" or place.instructions < self.session.begins:
            self.session.restart()
        self.go_to(place.instructions)

    def close(self) -> None:
        self.session.close()

    # For moves (``Ground``)

    def done(self) -> int:
        return self.session.instructions

    def exits(self, reason: Reason | None) -> int:
        return self.session.exits(reason)

    def next_address(self) -> int:
        return self.session.machines[0].cpu.rip

    def printed(self) -> bytearray:
        return self.session.machines[0].board.console

    def address(self, where: str) -> int:
        return _address(self.session.program, where)

    def advance(self, seconds: float, reached: Callable[[], bool], *, led: bool = False) -> bool | None:
        return self.session.advance(seconds, reached, led=led)

    def run_free(self, seconds: float) -> bool:
        return self.session.run_free(seconds)

    def running(self) -> int:
        return sum(machine.stop is None for machine in self.session.machines)

    def go_to(self, instruction: int) -> None:
        self.session.go_to(instruction)

    # Looking

    def line_address(self, number: int) -> int | None:
        """Address of the guest's source line ``number``, None where it has no instructions."""
        lines = self.session.program.lines
        return min((address for address, line in lines.items() if line == number), default=None)

    def peek(self, core: str, where: str, length: int) -> bytes:
        """Guest memory through the guest's own page tables. Raises ExpressionError."""
        address = self.address(where)
        try:
            return self.machine(core).vmm.mmu.peek(address, length)
        except GuestFault:
            raise ExpressionError(f"nothing is mapped at {address:#x} on {core}") from None

    def machine(self, core: str) -> Machine:
        """The machine of that core. Raises ExpressionError when it is not here."""
        for machine in self.session.machines:
            if short(machine.core) == core:
                return machine
        raise ExpressionError(f"{core} is not here")


class ForeignStage:
    """The 68000's machine: one core, no symbols, no pages."""

    cores = frozenset({"interpreter"})

    def __init__(self, setup: Setup, session: ForeignSession) -> None:
        self.setup = setup
        self.session = session
        self.moves = Moves(self)

    def load(self, setup: Setup) -> None:
        raise InputError("a lesson on a foreign machine keeps its guest", setup.guest)

    def snapshot(self) -> SessionSnapshot:
        return self.session.snapshot()

    def place(self) -> Place:
        return Place(self.setup, self.done())

    def return_to(self, place: Place) -> None:
        self.go_to(place.instructions)

    def close(self) -> None:
        self.session.close()

    def done(self) -> int:
        return self.session.instructions

    def exits(self, reason: Reason | None) -> int:
        return 0

    def next_address(self) -> int:
        return self.session.machine.cpu.pc

    def printed(self) -> bytearray:
        return self.session.machine.bus.console

    def address(self, where: str) -> int:
        return _address(self.session.program, where)

    def advance(self, seconds: float, reached: Callable[[], bool], *, led: bool = False) -> bool | None:
        return self.session.advance(seconds, reached)

    def run_free(self, seconds: float) -> bool:
        return self.session.run_free(seconds)

    def running(self) -> int:
        return 1

    def go_to(self, instruction: int) -> None:
        self.session.go_to(instruction)

    def line_address(self, number: int) -> int | None:
        return None

    def peek(self, core: str, where: str, length: int) -> bytes:
        at = self.address(where)
        return bytes(self.session.machine.bus.view[at : at + length])

    def machine(self, core: str) -> Machine:
        raise ExpressionError("this machine has no page tables to show")


AnyStage = Stage | ForeignStage


def open_stage(setup: Setup) -> AnyStage:
    """The machines that a lesson begins with. Raises InputError, UnavailableError."""
    program = load_program(setup.guest, setup.ram)
    session = open_session(program, _options(setup, program))
    match session:
        case LiveSession():
            return Stage(setup, session)
        case ForeignSession():
            return ForeignStage(setup, session)
        case _:
            assert_never(session)


def _address(program: Program, where: str) -> int:
    """Address of a symbol, or a number as text. Raises ExpressionError."""
    if where in program.symbols:
        return program.symbols[where]
    try:
        address = int(where, 0)
    except ValueError:
        close = difflib.get_close_matches(where, program.symbols, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ExpressionError(f"the guest has no symbol {where!r}{hint}") from None
    if not 0 <= address < 1 << 64:
        raise ExpressionError(f"no address: {address:#x}")
    return address


def _options(setup: Setup, program: Program) -> Options:
    """Without cores that cannot run this guest here: it would stop before its first instruction."""
    legacy = program.format in ("multiboot", "disk", "rom")
    cores = tuple(core for core in setup.cores if not legacy or _runs_legacy_code(core))
    return Options(
        cores=cores, pure=setup.pure, disks=(setup.disk,) if setup.disk else (), ram=setup.ram,
        input=setup.input.encode("latin-1", "replace"), nets=tuple(map(spec.parse, setup.nets)),
        virtio=setup.virtio, poll=setup.poll, give=setup.give,
    )  # fmt: skip


def _runs_legacy_code(core: str) -> bool:
    return not registry.availability(core).available or registry.runs_legacy_code(core)
