"""Exceptions of a 68000: their vectors and parameters (M68000UM/AD, 6)."""

from __future__ import annotations

from enum import IntEnum


class Vector(IntEnum):
    """Vector numbers (M68000UM/AD, table 6-2)."""

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
"""Exceptions that push the address of the next instruction; the others push that of their own."""


class M68kException(Exception):
    """An exception of the guest's CPU, which the monitor delivers to the guest's handler.

    address: the accessed address, for bus and address errors. write: the access was a write. fetch: it
    was an instruction fetch.
    """

    def __init__(
        self, vector: int, address: int = 0, *, write: bool = False, fetch: bool = False
    ) -> None:
        super().__init__(vector, address, write, fetch)
        self.vector, self.address, self.write, self.fetch = vector, address, write, fetch

    def words(self) -> str:
        """The exception in words: "divide by zero", "address error (read of 0x1001)", "trap #3"."""
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
