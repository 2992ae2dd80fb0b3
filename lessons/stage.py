"""The machines of a lesson: a live session that can be sent to a place, and be given another guest."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from cores.live import LiveSession
from cores.loader import load_program
from cores.machine import Machine
from cores.session import Options
from cores.x86.faults import GuestFault
from cores.x86.instruction import Reason

from .expressions import ExpressionError
from .script import Move, Setup, Until
from .values import short

LONGEST_FREE_RUN = 20.0
"""Seconds after which a guest that runs freely will not end by itself."""


class Progress(Enum):
    """How a move stands."""

    MOVING = "moving"
    ARRIVED = "arrived"
    MISSED = "missed"
    """The place was never reached: all machines have stopped, or the limit is spent."""


class Place(NamedTuple):
    """Where the machines of a lesson stand, to come back to."""

    setup: Setup
    instructions: int


class Stage(LiveSession):
    """See ``LiveSession`` for threads. setup: how the present machines were made."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self._reached: Callable[[], bool] = bool
        self._back = 0
        self._free = 0.0
        self._until_end = self._already = self._missed = False
        super().__init__(load_program(setup.guest, setup.ram), _options(setup))

    def load(self, setup: Setup) -> None:
        """Other machines instead of these. Raises InputError for a guest that cannot be loaded."""
        program = load_program(setup.guest, setup.ram)
        self.close()
        self.setup, self._program, self._options = setup, program, _options(setup)
        self._open()

    @property
    def cores(self) -> frozenset[str]:
        """The cores that run here, by their short names."""
        return frozenset(short(machine.core) for machine in self._session.machines)

    # Moving

    def begin(self, move: Move, times: int) -> None:
        """Get ready for a move; ``work`` makes it. Raises ExpressionError for an unknown symbol."""
        self._back = times if move.until is Until.BACK else 0
        self._free = LONGEST_FREE_RUN if move.free else 0.0
        reached = self._condition(move, times)
        end = self._now() + move.limit
        self._missed = False

        def reached_or_too_far() -> bool:
            if reached():
                return True
            self._missed = self._now() >= end
            return self._missed

        self._reached = reached_or_too_far
        self._until_end = move.until is Until.END
        self._already = move.until is Until.INSTRUCTIONS and self._now() >= times

    def work(self, seconds: float = math.inf) -> Progress:
        """Move on for at most so long."""
        if self._back:
            self.go_to(max(0, self._now() - self._back))
            return Progress.ARRIVED
        if self._already:
            return Progress.ARRIVED
        if self._free:
            return self._run_freely(min(seconds, self._free))
        arrived = self._until(seconds, self._reached)
        if arrived is None:
            return Progress.ARRIVED if self._until_end or self._reached() else Progress.MISSED
        if not arrived:
            return Progress.MOVING
        return Progress.MISSED if self._missed else Progress.ARRIVED

    def _run_freely(self, seconds: float) -> Progress:
        if not self.run_free(seconds):
            return Progress.ARRIVED
        self._free = max(0.0, self._free - seconds)
        return Progress.MOVING if self._free else Progress.MISSED

    def _condition(self, move: Move, times: int) -> Callable[[], bool]:
        """Asked after each step: are we there?"""
        reference = self._session.machines[0]
        match move.until:
            case Until.STEP:
                goal = self._now() + times
                return lambda: self._now() >= goal
            case Until.INSTRUCTIONS:
                return lambda: self._now() >= times
            case Until.EXIT:
                reason = Reason(move.text) if move.text else None
                return _counting(lambda: self._exits(reason), times)
            case Until.SYMBOL:
                address = self.address(move.text)
                passes = _Passes(times)
                return lambda: passes.count(reference.cpu.rip == address)
            case Until.OUTPUT:
                begin = len(reference.board.console)
                wanted = move.text.encode("latin-1", "replace")
                return lambda: reference.board.console.count(wanted, begin) >= times
            case Until.END | Until.BACK:
                return lambda: False

    def place(self) -> Place:
        return Place(self.setup, self._now())

    def return_to(self, place: Place) -> None:
        """Be there again, whatever has been done to the machines meanwhile."""
        if place.setup != self.setup:
            self.load(place.setup)
        elif self._mode == "free":
            self.restart()
        self.go_to(place.instructions)

    # Looking

    def address(self, where: str) -> int:
        """Of a symbol, or a number as text. Raises ExpressionError."""
        symbols = self._program.symbols
        if where in symbols:
            return symbols[where]
        try:
            return int(where, 0)
        except ValueError:
            raise ExpressionError(f"the guest has no symbol {where!r}") from None

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
        for machine in self._session.machines:
            if short(machine.core) == core or not core:
                return machine
        raise ExpressionError(f"{core} is not here")


class _Passes:
    """Counts how often something has come true."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted

    def count(self, here: bool) -> bool:
        self.wanted -= here
        return self.wanted <= 0


def _counting(counters: Callable[[], list[int]], times: int) -> Callable[[], bool]:
    """Has a step with an exit been made so many times? Several machines may leave in one step."""
    passes = _Passes(times)
    before = counters()

    def reached() -> bool:
        nonlocal before
        now = counters()
        left, before = now != before, now
        return passes.count(left)

    return reached


def _options(setup: Setup) -> Options:
    return Options(
        cores=setup.cores, pure=setup.pure, disk=setup.disk, ram=setup.ram,
        input=setup.input.encode("latin-1", "replace"),
    )  # fmt: skip
