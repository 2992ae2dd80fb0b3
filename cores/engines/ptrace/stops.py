"""What a signal stop says about the guest: from the kernel's words back to the CPU's exception.

Linux turns exceptions of ring 3 into signals (arch/x86/kernel/traps.c). Most can be turned back; for
the few pairs that look alike the kernel has to be asked for the vector (``VcpuProcess.last_trap``).
"""

from __future__ import annotations

import signal

from cores.engines.ptrace import linux

from ...x86.registers import VECTOR_NAMES, Vector, canonical
from ..base import Fault

STOPPED = 0x7F
"""The low byte of a wait status that is a stop; the signal stands above it."""

RIP = 16
"""Place of RIP in ``linux.USER_REGS``."""

FOREIGN = -1
"""A signal that no exception made: a kick, or somebody's kill(1). To be ignored."""

UNCLEAR = -2
"""An exception whose vector only the kernel can tell."""

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

    #DB by TRAP_TRACE or TRAP_HWBKPT is what the engine's own stepping makes, too.
    """
    return _VECTORS.get((stop, code), FOREIGN)


_WITH_ERROR_CODE = (Vector.TS, Vector.NP, Vector.SS, Vector.GP, Vector.AC)
_PLAIN = {v: Fault(v, 0 if v in _WITH_ERROR_CODE else None) for v in VECTOR_NAMES}
GENERAL_PROTECTION = _PLAIN[Vector.GP]
"""What a privileged instruction gives."""


def fault(vector: int, error: int | None, address: int) -> Fault:
    """The exit for an exception. error: None where the kernel was not asked.

    Of #GP the error code is 0 unless asked for: an instruction that has another, a selector's or a
    gate's, is one that the VMM completes by itself.
    """
    if vector == Vector.PF:
        return Fault(Vector.PF, error, address)
    if error:
        return Fault(vector, error)
    return _PLAIN[vector]  # made ahead: a frozen dataclass costs a microsecond


def refused_branch(rip: int) -> Fault | None:
    """A step has ended at ``rip``. Where that is no canonical address it was a branch, which the
    platform's CPU refuses with #GP(0) before it leaves (SDM vol. 2, JMP, CALL, RET). A CPU with 5-level
    paging arrives, since it has 57 linear bits; so do some others, and fault there."""
    return None if canonical(rip) else GENERAL_PROTECTION


INT_4 = 0x04CD
"""`int 4`, CD 04, as a number."""
LONGEST = 15
"""Bytes of the longest instruction."""

_PREFIXES = frozenset(bytes.fromhex("26 2e 36 3e 64 65 66 67 f2 f3"))
_STRING_OPCODES = frozenset(bytes.fromhex("6c 6d 6e 6f a4 a5 a6 a7 aa ab ac ad ae af"))


def trap_starts(vector: int, rip: int, before: bytes, behind: bytes) -> tuple[int, ...]:
    """Where the instruction may begin that has trapped in a run: #BP, #OF, or #DB by INT1.

    rip: as the stop reports it. before, behind: the bytes that end and begin there.
    INT3, INT 3 and INT 4 are reported with RIP behind them. So is INT1 by a CPU itself (SDM vol. 3,
    6.4.4), but with RIP at it where a hypervisor on AMD has intercepted #DB, which it does as a fault
    (APM vol. 2, 15.12.2): the bytes tell which. Two places where they fit both: INT1 after INT1."""
    if vector == Vector.DB:
        at = _behind_prefixes(behind)
        places = (rip - 1,) if before.endswith(b"\xf1") else ()
        return (*places, rip) if behind[at : at + 1] == b"\xf1" else places or (rip,)
    return (rip - 1 if vector == Vector.BP and before.endswith(b"\xcc") else rip - 2,)


def repeated_string_length(code: bytes) -> int:
    """The length of the instruction when it is a string instruction with a REP prefix, else 0.

    Asked when a step left RIP where it was: was that one iteration, or a jump to itself?
    """
    at = _behind_prefixes(code)
    repeated = b"\xf2" in code[:at] or b"\xf3" in code[:at]
    return at + 1 if repeated and at < len(code) and code[at] in _STRING_OPCODES else 0


def _behind_prefixes(code: bytes) -> int:
    """Offset of the first byte that is no prefix, neither a legacy one nor REX."""
    at = 0
    while at < len(code) and (code[at] in _PREFIXES or code[at] & 0xF0 == 0x40):
        at += 1
    return at
