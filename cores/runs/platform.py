"""The platform of a program, decided once: a PC, or the Motorola 68000 machine.

A platform runs a program on its cores, and traces it on one of them. A further platform is one more
``Platform`` here, and its session one more in cores/runs/open.py. The 68000 is loaded where it is asked
for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cores.engines import registry
from cores.lockstep.options import Options
from cores.machine.report import CoreReport, TraceLine
from cores.programs.program import Program
from cores.runs import pc
from cores.runs.pc import Outcome


@dataclass(frozen=True, slots=True)
class Platform:
    """run: on all cores asked for, to the end. trace: the arguments are those of
    cores/runs/trace.py. Both raise InputError and UnavailableError."""

    run: Callable[[Program, Options], Outcome]
    trace: Callable[[Program, str, Options, bool], Iterator[TraceLine | CoreReport]]


def _run_on_m68k(program: Program, options: Options) -> Outcome:
    """One core can run the program, and nothing is compared."""
    from cores.m68k import session as m68k

    absent = m68k.refusals(options)
    asked = map(registry.resolve, options.asked)
    runs = set(asked) - {core.core for core in absent}
    return Outcome(absent, (m68k.run(program, options),) if runs else ())


def _trace_on_m68k(
    program: Program, core: str, options: Options, steps: bool
) -> Iterator[TraceLine | CoreReport]:
    from cores.m68k import session as m68k

    return m68k.trace(program, core, options, steps)


PC = Platform(pc.run, pc.trace)
M68K = Platform(_run_on_m68k, _trace_on_m68k)


def platform_of(program: Program) -> Platform:
    """The platform that ``program`` is for."""
    return M68K if program.format == "m68k" else PC
