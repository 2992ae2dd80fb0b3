"""Sending a session to a place: which condition ends a move, and making it in slices."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import Enum

from cores.x86.isa.instruction import Reason
from lessons.format.script import Move, Until

LONGEST_FREE_RUN = 20.0
"""Seconds after which a guest that runs freely will not end by itself."""


class Progress(Enum):
    """How a move stands."""

    MOVING = "moving"
    ARRIVED = "arrived"
    MISSED = "missed"
    """The place was never reached: all machines have stopped, or the limit is spent."""


class Moves(ABC):
    """What a session needs to be moved by a lesson. The abstract methods are its own."""

    _goal: Callable[[], bool]
    _backwards = 0
    _free_left = 0.0
    _to_the_end = _there_already = _missed = False

    def begin(self, move: Move, times: int) -> None:
        """Get ready for a move; ``work`` makes it. Raises ExpressionError for an unknown symbol."""
        self._backwards = times if move.until is Until.BACK else 0
        self._free_left = LONGEST_FREE_RUN if move.free else 0.0
        self._to_the_end = move.until is Until.END
        self._there_already = move.until is Until.INSTRUCTIONS and self.done() >= times
        self._missed = False
        reached = self._condition(move, times)
        end = self.done() + move.limit

        def reached_or_too_far() -> bool:
            if reached():
                return True
            self._missed = self.done() >= end
            return self._missed

        self._goal = reached_or_too_far

    def work(self, seconds: float = math.inf) -> Progress:
        """Move on for at most so long."""
        if self._backwards:
            self.go_to(max(0, self.done() - self._backwards))
            return Progress.ARRIVED
        if self._there_already:
            return Progress.ARRIVED
        if self._free_left:
            return self._run_freely(min(seconds, self._free_left))
        arrived = self.advance(seconds, self._goal)
        if arrived is None:
            return Progress.ARRIVED if self._to_the_end or self._goal() else Progress.MISSED
        if not arrived:
            return Progress.MOVING
        return Progress.MISSED if self._missed else Progress.ARRIVED

    def _run_freely(self, seconds: float) -> Progress:
        if not self.run_free(seconds):
            return Progress.ARRIVED
        self._free_left = max(0.0, self._free_left - seconds)
        return Progress.MOVING if self._free_left else Progress.MISSED

    def _condition(self, move: Move, times: int) -> Callable[[], bool]:
        """Asked after each step: are we there?"""
        match move.until:
            case Until.STEP:
                goal = self.done() + times
                return lambda: self.done() >= goal
            case Until.INSTRUCTIONS:
                return lambda: self.done() >= times
            case Until.EXIT:
                reason = Reason(move.text) if move.text else None
                return _changes(lambda: self.exits(reason), times)
            case Until.SYMBOL:
                address = self.address(move.text)
                return _passes(lambda: self.next_address() == address, times)
            case Until.OUTPUT:
                begin = len(self.printed())
                wanted = move.text.encode("latin-1", "replace")
                return lambda: self.printed().count(wanted, begin) >= times
            case Until.END | Until.BACK:
                return lambda: False

    # The session's own

    @abstractmethod
    def done(self) -> int:
        """Instructions completed."""

    @abstractmethod
    def exits(self, reason: Reason | None) -> int:
        """Of all machines, for that reason or all."""

    @abstractmethod
    def next_address(self) -> int:
        """Of the instruction that the reference machine executes next."""

    @abstractmethod
    def printed(self) -> bytearray:
        """What the reference machine has put on its console."""

    @abstractmethod
    def address(self, where: str) -> int:
        """Of a symbol, or a number as text. Raises ExpressionError."""

    @abstractmethod
    def advance(self, seconds: float, reached: Callable[[], bool]) -> bool | None:
        """Step until ``reached()``: True; the slice is over: False; all have stopped: None."""

    @abstractmethod
    def run_free(self, seconds: float) -> bool:
        """At full speed; False when all machines have stopped."""

    @abstractmethod
    def go_to(self, instruction: int) -> None:
        """To where so many instructions are completed."""


def _passes(here: Callable[[], bool], times: int) -> Callable[[], bool]:
    """Has it been true after so many steps?"""
    left = times

    def reached() -> bool:
        nonlocal left
        left -= here()
        return left <= 0

    return reached


def _changes(counters: Callable[[], int], times: int) -> Callable[[], bool]:
    """Has a step with an exit been made so many times? Several machines may leave in one step."""
    before = counters()

    def left() -> bool:
        nonlocal before
        now = counters()
        changed, before = now != before, now
        return changed

    return _passes(left, times)
