"""What a signal stop says about the guest: from the kernel's words back to the CPU's exception.

Linux turns exceptions of ring 3 into signals (arch/x86/kernel/traps.c). Most can be turned back; for
the few pairs that look alike the kernel has to be asked for the vector (``VcpuProcess.last_trap``).
"""

from __future__ import annotations

import signal

from ...x86.registers import Vector
from ..base import Fault
from . import sys_linux as linux

FOREIGN = -1
"""A signal that no exception made: a kick, or somebody's kill(1). To be ignored."""

UNCLEAR = -2
"""An exception whose vector only the kernel can tell."""

NO_MEMORY = -3
"""The host has no page left for the guest's RAM (SIGBUS, BUS_ADRERR)."""


def vector(stop: int, code: int) -> int:
    """The exception behind signal number ``stop`` with this si_code; or FOREIGN, UNCLEAR, NO_MEMORY.

    SIGTRAP with TRAP_TRACE or TRAP_HWBKPT is #DB, which the engine's own stepping makes too.
    """
    if code <= 0:  # SI_USER, SI_TKILL, SI_QUEUE: sent by a process
        return FOREIGN
    match stop:
        case signal.SIGSEGV:
            if code != linux.SI_KERNEL:
                return Vector.PF
            return UNCLEAR  # #GP mostly, but also the trap of `int 4` (#OF)
        case signal.SIGBUS:
            if code == linux.BUS_ADRALN:
                return Vector.AC
            return UNCLEAR if code == linux.SI_KERNEL else NO_MEMORY  # #SS or #NP
        case signal.SIGILL:
            return Vector.UD
        case signal.SIGFPE:
            return Vector.DE if code == linux.FPE_INTDIV else UNCLEAR  # #MF or #XM
        case signal.SIGTRAP:
            return Vector.BP if code == linux.SI_KERNEL else Vector.DB
        case _:
            return FOREIGN


def fault(vector: int, error: int | None, address: int) -> Fault:
    """The exit for an exception. error: None where the kernel was not asked.

    Error codes as ring 3 saw them: for #GP usually 0, since privileged instructions have none.
    """
    if vector == Vector.PF:
        return Fault(Vector.PF, error, address)
    if vector in _WITH_ERROR_CODE:
        return Fault(vector, error or 0)
    return Fault(vector)


_WITH_ERROR_CODE = frozenset({Vector.TS, Vector.NP, Vector.SS, Vector.GP, Vector.AC})


INT_4 = b"\xcd\x04"
ONE_BYTE_TRAPS = (b"\xcc", b"\xf1")
"""int3 and int1; Linux reports these and `int 3`, `int 4` with RIP behind them."""

_PREFIXES = frozenset(bytes.fromhex("26 2e 36 3e 64 65 66 67 f2 f3"))
_STRING_OPCODES = frozenset(bytes.fromhex("6c 6d 6e 6f a4 a5 a6 a7 aa ab ac ad ae af"))


def repeated_string_length(code: bytes) -> int:
    """The length of the instruction when it is a string instruction with a REP prefix, else 0.

    Asked when a step left RIP where it was: was that one iteration, or a jump to itself?
    """
    at = 0
    while at < len(code) and code[at] in _PREFIXES:
        at += 1
    repeated = b"\xf2" in code[:at] or b"\xf3" in code[:at]
    if at < len(code) and code[at] & 0xF0 == 0x40:  # REX
        at += 1
    return at + 1 if repeated and at < len(code) and code[at] in _STRING_OPCODES else 0
