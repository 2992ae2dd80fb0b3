"""Exceptions of a 68000: which there are, and how one enters its handler (M68000UM/AD, 6).

The handler's address stands in the vector table at 0, four bytes a vector. SR and PC go to the
supervisor's stack; bus and address errors put there also what was being done:

    short frame            long frame
    +0  SR                 +0  status: read/write, instruction or not, function code
    +2  PC                 +2  the address accessed
                           +6  the instruction's first word
                           +8  SR
                           +10 PC
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from .registers import SUPERVISOR, TRACE, M68kCpu

if TYPE_CHECKING:
    from .bus import Bus


class Vector(IntEnum):
    """M68000UM/AD, table 6-2."""

    INITIAL_SSP = 0
    INITIAL_PC = 1
    BUS_ERROR = 2
    ADDRESS_ERROR = 3
    ILLEGAL_INSTRUCTION = 4
    ZERO_DIVIDE = 5
    CHK = 6
    TRAPV = 7
    PRIVILEGE_VIOLATION = 8
    TRACE = 9
    LINE_A = 10
    LINE_F = 11
    TRAP = 32


LAST_TRAP = Vector.TRAP + 15
LONG_FRAME = (Vector.BUS_ERROR, Vector.ADDRESS_ERROR)
AFTER_INSTRUCTION = frozenset({Vector.ZERO_DIVIDE, Vector.CHK, Vector.TRAPV, *range(32, 48)})
"""These stack the address of the next instruction; faults that of their own."""


class M68kException(Exception):
    """An exception of the guest's CPU. It ends in a handler of the guest's, never in ours.

    address: what was accessed, by bus and address errors. write: it was a write. fetch: of code.
    """

    def __init__(
        self, vector: int, address: int = 0, *, write: bool = False, fetch: bool = False
    ) -> None:
        super().__init__(vector, address, write, fetch)
        self.vector, self.address, self.write, self.fetch = vector, address, write, fetch

    def words(self) -> str:
        """ "divide by zero", "address error at 0x1001", "trap #3"."""
        if self.vector in LONG_FRAME:
            access = "fetch" if self.fetch else "write" if self.write else "read"
            return f"{_NAMES[self.vector]} ({access} of {self.address:#x})"
        if Vector.TRAP <= self.vector <= LAST_TRAP:
            return f"trap #{self.vector - Vector.TRAP}"
        return _NAMES.get(self.vector, f"exception {self.vector}")


_NAMES: dict[int, str] = {
    **{vector: vector.name.lower().replace("_", " ") for vector in Vector},
    Vector.ZERO_DIVIDE: "divide by zero",
    Vector.LINE_A: "line A instruction",
    Vector.LINE_F: "line F instruction",
}


def deliver(cpu: M68kCpu, bus: Bus, exception: M68kException, opcode: int) -> str:
    """Enter the handler. cpu.pc: the address that shall be stacked. opcode: the first word of the
    instruction. Returns "", or in words why the machine shuts down instead."""
    vector, sr, pc = exception.vector, cpu.sr, cpu.pc
    handler = bus.read(4 * vector, 4)
    if not handler:
        return (
            f"{exception.words()} at {pc:#x}, and no handler for it: vector {vector}, at"
            f" {4 * vector:#x}, is 0"
        )
    cpu.set_sr((sr | SUPERVISOR) & ~TRACE)
    try:
        _push(cpu, bus, 4, pc)
        _push(cpu, bus, 2, sr)
        if vector in LONG_FRAME:
            _push(cpu, bus, 2, opcode)
            _push(cpu, bus, 4, exception.address)
            _push(cpu, bus, 2, _status(exception, sr))
            bus.read(handler, 2, fetch=True)
    except M68kException as second:
        if vector in LONG_FRAME:
            return (
                f"{second.words()} while entering the handler of a {exception.words()}: a double bus"
                " fault, at which a 68000 halts"
            )
        return deliver(cpu, bus, second, opcode)
    cpu.pc = handler
    return ""


def _push(cpu: M68kCpu, bus: Bus, length: int, value: int) -> None:
    address = (cpu.a[7] - length) & 0xFFFF_FFFF
    bus.write(address, length, value)
    cpu.a[7] = address


def _status(exception: M68kException, sr: int) -> int:
    """The first word of a long frame (M68000UM/AD, figure 6-7): R/W in bit 4, 1 for a read; I/N in
    bit 3, 0 as an instruction was being executed; the function code."""
    space = 2 if exception.fetch else 1
    mode = 4 if sr & SUPERVISOR else 0
    return (0 if exception.write else 0x10) | mode | space
