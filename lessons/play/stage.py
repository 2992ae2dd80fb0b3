"""The machines of a lesson: a live session that can be sent to a place, and be given another guest."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from time import perf_counter
from typing import NamedTuple

from cores.debugging.live_session import LiveSession
from cores.errors import InputError
from cores.lockstep.session import Options
from cores.m68k.session import ForeignSession
from cores.machine.machine import Machine
from cores.programs.loader import load_program
from cores.programs.program import Program
from cores.x86.faults import GuestFault
from cores.x86.isa.instruction import Reason
from lessons.format.expressions import ExpressionError
from lessons.format.script import Setup
from lessons.play.moves import Moves
from lessons.play.values import short


class Place(NamedTuple):
    """Where the machines of a lesson stand, to come back to."""

    setup: Setup
    instructions: int


class Stage(LiveSession, Moves):
    """See ``LiveSession`` for threads. setup: how the present machines were made."""

    def __init__(self, setup: Setup, program: Program | None = None) -> None:
        program = program or load_program(setup.guest, setup.ram)
        if program.format == "m68k":
            raise InputError("this needs a ForeignStage", setup.guest)
        self.setup = setup
        super().__init__(program, _options(setup))

    def load(self, setup: Setup) -> None:
        """Other machines instead of these. Raises InputError for a guest that cannot be loaded."""
        program = load_program(setup.guest, setup.ram)
        if program.format == "m68k":
            raise InputError("a foreign machine needs a lesson of its own", setup.guest)
        self.begin_with(program, _options(setup))
        self.setup = setup

    @property
    def cores(self) -> frozenset[str]:
        """The cores that run here, by their short names."""
        return frozenset(short(machine.core) for machine in self.machines)

    def place(self) -> Place:
        return Place(self.setup, self._now())

    def return_to(self, place: Place) -> None:
        """Be there again, whatever has been done to the machines meanwhile."""
        if place.setup != self.setup:
            self.load(place.setup)
        elif self.mode == "free" or place.instructions < self.begins:
            self.restart()
        self.go_to(place.instructions)

    # For moves

    def done(self) -> int:
        return self._now()

    def exits(self, reason: Reason | None) -> int:
        return self._exits(reason)

    def next_address(self) -> int:
        return self.machines[0].cpu.rip

    def printed(self) -> bytearray:
        return self.machines[0].board.console

    def advance(self, seconds: float, reached: Callable[[], bool]) -> bool | None:
        return self._until(seconds, reached)

    # Looking

    def address(self, where: str) -> int:
        return _address(self._program, where)

    def line_address(self, number: int) -> int | None:
        """Where the guest's source line ``number`` begins, if it has instructions."""
        found = (address for address, line in self._program.lines.items() if line == number)
        return min(found, default=None)

    def peek(self, core: str, where: str, length: int) -> bytes:
        """Guest memory through the guest's own page tables. Raises ExpressionError."""
        address = self.address(where)
        try:
            return self.machine(core).vmm.mmu.peek(address, length)
        except GuestFault:
            raise ExpressionError(f"nothing is mapped at {address:#x} on {core}") from None

    def machine(self, core: str) -> Machine:
        """The machine of that core. Raises ExpressionError when it is not here."""
        for machine in self.machines:
            if short(machine.core) == core:
                return machine
        raise ExpressionError(f"{core} is not here")


class ForeignStage(ForeignSession, Moves):
    """The same for the machine that is no PC: one core, no symbols, no pages."""

    def __init__(self, setup: Setup, program: Program) -> None:
        self.setup = setup
        super().__init__(program, _options(setup))

    def load(self, setup: Setup) -> None:
        raise InputError("a lesson on a foreign machine keeps its guest", setup.guest)

    @property
    def cores(self) -> frozenset[str]:
        return frozenset({"interpreter"})

    def place(self) -> Place:
        return Place(self.setup, self.done())

    def return_to(self, place: Place) -> None:
        self.go_to(place.instructions)

    def done(self) -> int:
        return self._machine.vmm.instructions

    def exits(self, reason: Reason | None) -> int:
        return 0

    def next_address(self) -> int:
        return self._machine.cpu.pc

    def printed(self) -> bytearray:
        return self._machine.bus.console

    def advance(self, seconds: float, reached: Callable[[], bool]) -> bool | None:
        self._set_out(None)
        end = perf_counter() + seconds
        while self._machine.stop is None and perf_counter() < end:
            self._history.step()
            if reached():
                return True
        return False if self._machine.stop is None else None

    def address(self, where: str) -> int:
        return _address(self._program, where)

    def line_address(self, number: int) -> int | None:
        return None

    def peek(self, core: str, where: str, length: int) -> bytes:
        at = self.address(where)
        return bytes(self._machine.bus.view[at : at + length])

    def machine(self, core: str) -> Machine:
        raise ExpressionError("this machine has no page tables to show")


AnyStage = Stage | ForeignStage


def open_stage(setup: Setup) -> AnyStage:
    """The machines that a lesson begins with. Raises InputError, UnavailableError."""
    program = load_program(setup.guest, setup.ram)
    if program.format == "m68k":
        return ForeignStage(setup, program)
    return Stage(setup, program)


def _address(program: Program, where: str) -> int:
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


def _options(setup: Setup) -> Options:
    return Options(
        cores=setup.cores, pure=setup.pure, disk=setup.disk, ram=setup.ram,
        input=setup.input.encode("latin-1", "replace"),
    )  # fmt: skip
