"""Exceptions of the guest's CPU, raised while the VMM executes on the guest's behalf."""

from __future__ import annotations

from .registers import Vector


class GuestFault(Exception):
    """An exception of the instruction being emulated; the VMM catches it and delivers it to the guest.

    It never leaves the VMM: a guest cannot raise a Python exception through it.

    vector: the exception (SDM vol. 3, table 6-1).
    error: its error code, None where the exception has none.
    address: the linear address for CR2 (page faults only).
    """

    def __init__(self, vector: int, error: int | None = None, address: int | None = None) -> None:
        super().__init__(f"#{vector} error={error} address={address}")
        self.vector = vector
        self.error = error
        self.address = address


def general_protection(error: int = 0) -> GuestFault:
    return GuestFault(Vector.GP, error)


def undefined_opcode() -> GuestFault:
    return GuestFault(Vector.UD)


def page_fault(error: int, address: int) -> GuestFault:
    return GuestFault(Vector.PF, error, address)


def invalid_tss(error: int) -> GuestFault:
    return GuestFault(Vector.TS, error)


def segment_not_present(error: int) -> GuestFault:
    return GuestFault(Vector.NP, error)


def stack_fault(error: int = 0) -> GuestFault:
    return GuestFault(Vector.SS, error)


class Unsupported(Exception):
    """The guest did something lawful that the platform does not support, such as switching tasks.

    The machine stops and shows the text, a sentence for the user, rather than run on with wrong
    results.
    """


class Refused(Unsupported):
    """``Unsupported`` by an instruction of the guest: the VMM adds which one it is, and where."""
