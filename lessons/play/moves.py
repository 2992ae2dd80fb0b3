"""Moves of a lesson's machines: the condition that ends one, and making it in slices of time."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum
from typing import Protocol

from cores.x86.isa.instruction import Reason
from lessons.format.script import Move, Until

LONGEST_FREE_RUN = 20.0
"""Seconds after which a guest that runs freely will not end by itself."""


class Progress(Enum):
    """The state of a move after a slice."""

    MOVING = "moving"
    ARRIVED = "arrived"
    MISSED = "missed"
    """The place was never reached: all machines have stopped, or the limit is spent."""


class Ground(Protocol):
    """The machines that a move is made with (lessons/play/stage.py)."""

    def done(self) -> int:
        """Instructions completed."""

    def exits(self, reason: Reason | None) -> int:
        """Exits of all machines together, for that reason or for any."""

    def next_address(self) -> int:
        """Address of the instruction that the reference machine executes next."""

    def printed(self) -> bytearray:
        """Console output of the reference machine so far."""

    def address(self, where: str) -> int:
        """Address of a symbol, or a number as text. Raises ExpressionError."""

    def advance(self, seconds: float, reached: Callable[[], bool], *, led: bool = False) -> bool | None:
        """Step until ``reached()``: True; the slice is over: False; all have stopped: None. led: the
        machines may go further between two calls of ``reached`` than one instruction."""

    def run_free(self, seconds: float) -> bool:
        """Run at full speed, sharing so many seconds; False when all machines have stopped."""

    def running(self) -> int:
        """The number of machines that have not stopped."""

    def go_to(self, instruction: int) -> None:
        """Go to where so many instructions are completed."""


class Moves:
    """The move under way. ``begin`` prepares it; ``work`` makes it, slice by slice."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._goal: Callable[[], bool] = lambda: True
        self._backwards = 0
        self._free_left = 0.0
        self._to_the_end = self._may_lead = self._there_already = self._missed = self._timed = False
        self.observe: Callable[[], None] | None = None
        """Called after each instruction of a move, for those who record it; not in free runs."""

    def begin(self, move: Move, times: int) -> None:
        """Prepare a move; ``work`` makes it. Raises ExpressionError for an unknown symbol."""
        self._backwards = times if move.until is Until.BACK else 0
        self._timed = move.until is Until.SECONDS
        seconds = move.seconds * self._ground.running() if self._timed else LONGEST_FREE_RUN
        self._free_left = seconds if move.free else 0.0
        self._to_the_end = move.until is Until.END
        self._may_lead = move.until in (Until.END, Until.OUTPUT)  # only a step prints
        self._there_already = move.until is Until.INSTRUCTIONS and self._ground.done() >= times
        self._missed = False
        reached = self._condition(move, times)
        end = self._ground.done() + move.limit

        def reached_or_too_far() -> bool:
            if self.observe is not None:
                self.observe()
            if reached():
                return True
            self._missed = self._ground.done() >= end
            return self._missed

        self._goal = reached_or_too_far

    def work(self, seconds: float = math.inf) -> Progress:
        """Go on with the move for at most ``seconds``."""
        if self._backwards:
            self._ground.go_to(max(0, self._ground.done() - self._backwards))
            return Progress.ARRIVED
        if self._there_already:
            return Progress.ARRIVED
        if self._free_left:
            return self._run_freely(min(seconds, self._free_left))
        led = self._may_lead and self.observe is None
        arrived = self._ground.advance(seconds, self._goal, led=led)
        if arrived is None:
            return Progress.ARRIVED if self._to_the_end or self._goal() else Progress.MISSED
        if not arrived:
            return Progress.MOVING
        return Progress.MISSED if self._missed else Progress.ARRIVED

    def _run_freely(self, seconds: float) -> Progress:
        if not self._ground.run_free(seconds):
            return Progress.ARRIVED
        self._free_left = max(0.0, self._free_left - seconds)
        if self._free_left:
            return Progress.MOVING
        return Progress.ARRIVED if self._timed else Progress.MISSED

    def _condition(self, move: Move, times: int) -> Callable[[], bool]:
        """The question asked after each step: is the place reached?"""
        match move.until:
            case Until.STEP:
                goal = self._ground.done() + times
                return lambda: self._ground.done() >= goal
            case Until.INSTRUCTIONS:
                return lambda: self._ground.done() >= times
            case Until.EXIT:
                reason = Reason(move.text) if move.text else None
                return _changes(lambda: self._ground.exits(reason), times)
            case Until.SYMBOL:
                address = self._ground.address(move.text)
                return _passes(lambda: self._ground.next_address() == address, times)
            case Until.OUTPUT:
                begin = len(self._ground.printed())
                wanted = move.text.encode("latin-1", "replace")
                return lambda: self._ground.printed().count(wanted, begin) >= times
            case Until.END | Until.BACK | Until.SECONDS:
                return lambda: False


def _passes(here: Callable[[], bool], times: int) -> Callable[[], bool]:
    """Was ``here`` true after ``times`` steps?"""
    left = times

    def reached() -> bool:
        nonlocal left
        left -= here()
        return left <= 0

    return reached


def _changes(counters: Callable[[], int], times: int) -> Callable[[], bool]:
    """Were there ``times`` steps with an exit? Several machines may leave in one step."""
    before = counters()

    def left() -> bool:
        nonlocal before
        now = counters()
        changed, before = now != before, now
        return changed

    return _passes(left, times)
