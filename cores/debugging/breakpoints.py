"""Breakpoints: conditions at which a run stops, and their notation.

    100008, start, start+4      before the instruction at that address
    on io, on exit              after an exit for that reason, or for any
    rax = 48, rcx < 10, if != 0 when that register or flag comes to hold it
    divergence                  when the machines diverge

Numbers are hexadecimal, as on the screen; ``0n12`` is decimal. A condition on a register stops when
it becomes true, not for as long as it stays true.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cores.errors import InputError
from cores.x86.isa.instruction import Reason
from cores.x86.mmu.segmentation import code_address
from cores.x86.registers import FLAG_BITS, MASK64, STATE_NAMES

if TYPE_CHECKING:
    from cores.lockstep.session import Session

FLAGS = {name.lower(): bits.bit_length() - 1 for name, bits in FLAG_BITS.items() if name != "FIXED"}
_TESTS: dict[str, Callable[[int, int], bool]] = {
    "=": operator.eq, "==": operator.eq, "!=": operator.ne,
    "<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge,
}  # fmt: skip
_CONDITION = re.compile(r"(\w+)\s*(==|!=|<=|>=|=|<|>)\s*(\S+)")


@dataclass(frozen=True, slots=True)
class AtAddress:
    """Stop before the instruction at ``address``, a linear one. name: as the user wrote it."""

    address: int
    name: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.address:x})" if self.name else f"{self.address:x}"


@dataclass(frozen=True, slots=True)
class OnExit:
    """Stop after an exit of any machine for ``reason``, None for any reason."""

    reason: Reason | None = None

    def __str__(self) -> str:
        return f"on {'exit' if self.reason is None else self.reason.value}"


@dataclass(frozen=True, slots=True)
class When:
    """Stop when the comparison ``test`` of a register or flag with ``value`` becomes true."""

    name: str
    test: str
    value: int

    def __str__(self) -> str:
        return f"{self.name} {self.test} {self.value:x}"


@dataclass(frozen=True, slots=True)
class OnDivergence:
    """Stop when the machines diverge."""

    def __str__(self) -> str:
        return "divergence"


Breakpoint = AtAddress | OnExit | When | OnDivergence


def number(text: str) -> int | None:
    """Parse a hexadecimal number, with or without 0x, or a decimal one after 0n. None: not a number."""
    text = text.replace("_", "").lower()
    try:
        return int(text[2:], 10) if text.startswith("0n") else int(text, 16)
    except ValueError:
        return None


def address(text: str, symbols: Mapping[str, int]) -> int | None:
    """Parse a number or a symbol, either with an offset. None: neither."""
    name, plus, offset = text.partition("+")
    base = symbols.get(name.strip(), number(name.strip()))
    more = number(offset.strip()) if plus else 0
    return None if base is None or more is None else base + more & MASK64


def parse(text: str, symbols: Mapping[str, int]) -> Breakpoint:
    """Parse a condition that the user has typed. Raises InputError."""
    words = text.strip()
    if words.lower() in ("divergence", "on divergence"):
        return OnDivergence()
    if words.lower().startswith("on "):
        wanted = words[3:].strip().lower()
        if wanted == "exit":
            return OnExit()
        if wanted not in set(Reason):
            raise InputError(f"nothing exits for {wanted!r}; reasons are {', '.join(sorted(Reason))}")
        return OnExit(Reason(wanted))
    if match := _CONDITION.fullmatch(words):
        name, test, right = match[1].lower(), match[2], number(match[3])
        if name not in STATE_NAMES and name not in FLAGS:
            raise InputError(f"{match[1]!r} is no register or flag")
        if right is None:
            raise InputError(f"{match[3]!r} is no number (they are hexadecimal; 0n12 is decimal)")
        return When(name, "=" if test == "==" else test, right & MASK64)
    at = address(words, symbols)
    if at is None:
        raise InputError(f"{words!r} is no address, symbol or condition")
    return AtAddress(at, "" if number(words) is not None and words not in symbols else words)


class Watch:
    """Checks after each step of a session whether one of the conditions has become true.

    addresses: before whose instructions the session has to stop. each_step: it must be checked after
    each step, and not only where machines stop."""

    def __init__(self, session: Session, breakpoints: Iterable[Breakpoint]) -> None:
        points = sorted(breakpoints, key=str)
        self._session = session
        self._addresses = {p.address: p for p in points if isinstance(p, AtAddress)}
        self._exits = [p for p in points if isinstance(p, OnExit)]
        self._whens = [p for p in points if isinstance(p, When)]
        self._apart = next((p for p in points if isinstance(p, OnDivergence)), None)
        self._counts = {p: self._count(p) for p in self._exits}
        self._held = {p for p in self._whens if self._holds(p)}
        self._parted = session.divergence is not None
        self.addresses = frozenset(self._addresses)
        self.each_step = bool(self._whens)

    def reached(self) -> Breakpoint | None:
        """The first condition that the last step has made true."""
        if self._apart is not None and not self._parted and self._session.divergence is not None:
            self._parted = True
            return self._apart
        if (here := self.at_address()) is not None:
            return here
        for on in self._exits:
            if (count := self._count(on)) > self._counts[on]:  # machines may have gone back
                self._counts[on] = count
                return on
        for when in self._whens:
            if not self._holds(when):
                self._held.discard(when)
            elif when not in self._held:
                self._held.add(when)
                return when
        return None

    def at_address(self) -> AtAddress | None:
        """The address, of those to stop at, that a machine is at now."""
        for machine in self._session.machines if self._addresses else ():
            at = code_address(machine.cpu, machine.cpu.rip)
            if at in self._addresses and machine.stop is None:
                return self._addresses[at]
        return None

    def _count(self, on: OnExit) -> int:
        traces = (machine.vmm.trace for machine in self._session.machines)
        if on.reason is None:
            return sum(trace.exits for trace in traces)
        return sum(trace.by_reason[on.reason] for trace in traces)

    def _holds(self, when: When) -> bool:
        """Evaluate the condition on the first machine that can still go on."""
        machine = next((m for m in self._session.machines if m.stop is None), self._session.machines[0])
        if when.name in FLAGS:
            value = machine.cpu.rflags >> FLAGS[when.name] & 1
        else:
            value = machine.cpu.state()[STATE_NAMES.index(when.name)]
        return _TESTS[when.test](value, when.value)
