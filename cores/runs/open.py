"""The platform of a program, decided once: a PC, or the Motorola 68000 machine.

A platform runs a program on its cores, traces it on one of them, and opens a session for a user. A
further platform is one more ``Platform`` here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cores.debugging.live_session import LiveSession
from cores.engines import registry
from cores.lockstep.options import Options
from cores.m68k import session as m68k
from cores.m68k.session import ForeignSession
from cores.machine.report import CoreReport, TraceLine
from cores.programs.program import Program
from cores.runs import pc
from cores.runs.pc import Outcome

__all__ = ["ForeignSession", "LiveSession", "OpenSession", "open_session", "platform_of"]

OpenSession = LiveSession | ForeignSession
"""A session of either platform; its snapshots are ``SessionSnapshot``."""


@dataclass(frozen=True, slots=True)
class Platform:
    """run: on all cores asked for, to the end. trace: the arguments are those of
    cores/runs/trace.py. session: the machines under a user's control. All raise InputError and
    UnavailableError."""

    run: Callable[[Program, Options], Outcome]
    trace: Callable[[Program, str, Options, bool], Iterator[TraceLine | CoreReport]]
    session: Callable[[Program, Options], OpenSession]


def _run_on_m68k(program: Program, options: Options) -> Outcome:
    """One core can run the program, and nothing is compared."""
    absent = m68k.refusals(options)
    asked = map(registry.resolve, options.asked)
    runs = set(asked) - {core.core for core in absent}
    return Outcome(absent, (m68k.run(program, options),) if runs else ())


PC = Platform(pc.run, pc.trace, LiveSession)
M68K = Platform(_run_on_m68k, m68k.trace, ForeignSession)


def platform_of(program: Program) -> Platform:
    """The platform that ``program`` is for."""
    return M68K if program.format == "m68k" else PC


def open_session(program: Program, options: Options) -> OpenSession:
    """A session with ``program`` on its platform. Raises InputError, UnavailableError."""
    return platform_of(program).session(program, options)
