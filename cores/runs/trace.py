"""`trace`: runs one machine and yields each exit, and on request each instruction."""

from __future__ import annotations

from collections.abc import Iterator

from cores.engines import registry
from cores.lockstep.options import Options
from cores.machine.report import CoreReport, TraceLine
from cores.programs.program import Program
from cores.runs.platform import platform_of


def trace(
    program: Program, core: str, options: Options, steps: bool
) -> Iterator[TraceLine | CoreReport]:
    """Run ``program`` and yield its exits in order, then the machine's report.

    steps: also yield each completed instruction (exact mode only). Raises UnavailableError when the
    core cannot run here. Closing the iterator early releases the machine."""
    registry.resolve(core)
    yield from platform_of(program).trace(program, core, options, steps)
