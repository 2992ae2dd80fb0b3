"""Sessions: the machines of a program under a user's control, on the program's platform."""

from __future__ import annotations

from cores.debugging.live_session import LiveSession
from cores.lockstep.options import Options
from cores.m68k.session import ForeignSession
from cores.programs.program import Program
from cores.runs.platform import M68K, platform_of

__all__ = ["ForeignSession", "LiveSession", "OpenSession", "open_session"]

OpenSession = LiveSession | ForeignSession
"""A session of either platform; its snapshots are ``SessionSnapshot``."""


def open_session(program: Program, options: Options) -> OpenSession:
    """A session with ``program`` on its platform. Raises InputError, UnavailableError."""
    if platform_of(program) is M68K:
        return ForeignSession(program, options)
    return LiveSession(program, options)
