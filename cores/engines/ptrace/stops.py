"""Signal stops, decoded to the CPU's exceptions.

Linux turns exceptions of ring 3 into signals (arch/x86/kernel/traps.c). Signal and si_code identify
most of them; for the few pairs that look alike the vector is read from a signal frame
(``VcpuProcess.last_trap``).
"""

from __future__ import annotations

import signal

from cores.engines.ptrace import linux

from ...x86.registers import VECTOR_NAMES, Vector, canonical
from ..base import Fault

STOPPED = 0x7F
"""The low byte of a wait status that is a stop; the next byte is the signal."""

RIP = 16
"""Index of RIP in ``linux.USER_REGS``."""

FOREIGN = -1
"""A signal without an exception: a kick, or one sent by kill(1). It is ignored."""

UNCLEAR = -2
"""An exception whose vector signal and si_code do not determine."""

NO_MEMORY = -3
"""The host has no page left for the guest's RAM (SIGBUS, BUS_ADRERR)."""


_VECTORS: dict[tuple[int, int], int] = {
    (signal.SIGSEGV, linux.SEGV_MAPERR): Vector.PF,
    (signal.SIGSEGV, linux.SEGV_ACCERR): Vector.PF,
    (signal.SIGSEGV, linux.SEGV_PKUERR): Vector.PF,
    (signal.SIGSEGV, linux.SI_KERNEL): UNCLEAR,  # #GP mostly, but also the trap of `int 4`, #OF
    (signal.SIGBUS, linux.BUS_ADRALN): Vector.AC,
    (signal.SIGBUS, linux.BUS_ADRERR): NO_MEMORY,
    (signal.SIGBUS, linux.SI_KERNEL): UNCLEAR,  # #SS or #NP
    **{(signal.SIGILL, code): Vector.UD for code in (*range(1, 12), linux.SI_KERNEL)},
    **{(signal.SIGFPE, code): UNCLEAR for code in (*range(2, 16), linux.SI_KERNEL)},  # #MF or #XM
    (signal.SIGFPE, linux.FPE_INTDIV): Vector.DE,
    (signal.SIGTRAP, linux.SI_KERNEL): Vector.BP,
    (signal.SIGTRAP, linux.TRAP_BRKPT): Vector.DB,
    (signal.SIGTRAP, linux.TRAP_TRACE): Vector.DB,
    (signal.SIGTRAP, linux.TRAP_HWBKPT): Vector.DB,
}


def vector(stop: int, code: int) -> int:
    """The exception behind signal number ``stop`` with this si_code; or FOREIGN, UNCLEAR, NO_MEMORY.

    #DB by TRAP_TRACE or TRAP_HWBKPT may also come from the engine's own stepping.
    """
    return _VECTORS.get((stop, code), FOREIGN)


_WITH_ERROR_CODE = (Vector.TS, Vector.NP, Vector.SS, Vector.GP, Vector.AC)
_PLAIN = {v: Fault(v, 0 if v in _WITH_ERROR_CODE else None) for v in VECTOR_NAMES}
GENERAL_PROTECTION = _PLAIN[Vector.GP]
"""The fault of a privileged instruction."""


def fault(vector: int, error: int | None, address: int) -> Fault:
    """The exit for an exception. error: None where ``last_trap`` was not called.

    The error code of #GP is then 0: the VMM itself completes the instructions that give another, a
    selector's or a gate's.
    """
    if vector == Vector.PF:
        return Fault(Vector.PF, error, address)
    if error:
        return Fault(vector, error)
    return _PLAIN[vector]  # made in advance: that saves a microsecond


def refused_branch(rip: int) -> Fault | None:
    """The #GP(0) of a step that ended at a non-canonical ``rip``, else None. Such a step was a branch,
    which faults on the platform's CPU before it jumps (SDM vol. 2, JMP, CALL, RET). A CPU with 5-level
    paging does jump, since it has 57 linear bits; some others jump, too, and fault at the target."""
    return None if canonical(rip) else GENERAL_PROTECTION


INT_4 = 0x04CD
"""`int 4`, CD 04, as a number."""
LONGEST = 15
"""Bytes of the longest instruction."""

_PREFIXES = frozenset(bytes.fromhex("26 2e 36 3e 64 65 66 67 f2 f3"))
_STRING_OPCODES = frozenset(bytes.fromhex("6c 6d 6e 6f a4 a5 a6 a7 aa ab ac ad ae af"))


def trap_starts(vector: int, rip: int, before: bytes, behind: bytes) -> tuple[int, ...]:
    """Possible addresses of the instruction that has trapped in a run: #BP, #OF, or #DB by INT1.

    rip: as the stop reports it. before, behind: the bytes that end and begin there.
    INT3, INT 3 and INT 4 are reported with RIP behind them. So is INT1 by a CPU itself (SDM vol. 3,
    6.4.4), but with RIP at it where a hypervisor on AMD has intercepted #DB, which it does as a fault
    (APM vol. 2, 15.12.2): the bytes tell which. Two addresses where both fit: INT1 after INT1."""
    if vector == Vector.DB:
        at = _behind_prefixes(behind)
        places = (rip - 1,) if before.endswith(b"\xf1") else ()
        return (*places, rip) if behind[at : at + 1] == b"\xf1" else places or (rip,)
    return (rip - 1 if vector == Vector.BP and before.endswith(b"\xcc") else rip - 2,)


def repeated_string_length(code: bytes) -> int:
    """The length of the instruction when it is a string instruction with a REP prefix, else 0.

    Called when a step has left RIP unchanged, to tell one iteration from a jump to itself.
    """
    at = _behind_prefixes(code)
    repeated = b"\xf2" in code[:at] or b"\xf3" in code[:at]
    return at + 1 if repeated and at < len(code) and code[at] in _STRING_OPCODES else 0


def is_bound(code: bytes) -> bool:
    """Whether 16- or 32-bit code is BOUND, whose #BR Linux reports as it does a #GP."""
    at = 0
    while at < len(code) and code[at] in _PREFIXES:
        at += 1
    return code[at : at + 1] == b"\x62"


def _behind_prefixes(code: bytes) -> int:
    """Offset of the first byte that is neither a legacy prefix nor REX."""
    at = 0
    while at < len(code) and (code[at] in _PREFIXES or code[at] & 0xF0 == 0x40):
        at += 1
    return at
