"""`compare`: runs one program on every core and reports whether they agree."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import replace

from cores import peers
from cores.engines import registry
from cores.lockstep.options import DEFAULT_SECONDS, Absent, Options
from cores.lockstep.session import Session, compare_outcomes
from cores.m68k import session as foreign
from cores.machine.report import CompareReport, CoreReport, Divergence
from cores.pc.stop import Stop
from cores.programs.program import Program


def compare(program: Program, options: Options) -> CompareReport:
    """Run ``program`` on each core, compare them, and run it on the peers that were asked for. Raises
    InputError, UnavailableError."""
    report = _compare_cores(program, options)
    if not options.peers:
        return report
    seconds = options.budget if options.free and options.budget else DEFAULT_SECONDS
    return peers.join(
        report, options.peers, program, ram=options.ram, disk=options.disk, input=options.input,
        seconds=seconds,
    )  # fmt: skip


def _compare_cores(program: Program, options: Options) -> CompareReport:
    if program.format == "m68k":
        return _foreign(program, options)
    with contextlib.closing(Session(program, options)) as session:
        if options.free:
            session.run_free()
            divergence = compare_outcomes(session.machines, options)
        else:
            session.run_to_end()
            divergence = session.divergence
        reports = [machine.report() for machine in session.machines]
        compared = [r for r in reports if options.cores is not None or not r.failed]
        if all(r.failed for r in reports) and _by_failure(divergence):
            compared, divergence = [], None  # each core refused the guest, wherever that was
        equivalent = divergence is None if len(compared) > 1 else None
        report = _in_order(program, options, session.absent, reports, equivalent, divergence)
        return replace(report, stretches=session.stretches, led=session.led)


def _by_failure(divergence: Divergence | None) -> bool:
    """Did the cores agree until the first of them stopped with an error?"""
    if divergence is None:
        return True
    stops = [values.get("stop") for values in divergence.values.values()]
    return Stop.ERROR in stops


def _foreign(program: Program, options: Options) -> CompareReport:
    """Report a program for another CPU: only one core can run it, and nothing is compared."""
    absent = foreign.refusals(options)
    asked = map(registry.resolve, options.asked)
    runs = set(asked) - {core.core for core in absent}
    reports = [foreign.run(program, options)] if runs else []
    return _in_order(program, options, absent, reports, None, None)


def _in_order(
    program: Program, options: Options, absences: Iterable[Absent], reports: list[CoreReport],
    equivalent: bool | None, divergence: Divergence | None,
) -> CompareReport:  # fmt: skip
    by_core = {report.core: report for report in reports}
    for absent in absences:
        by_core[absent.core] = CoreReport(
            absent.core, absent.engine, available=False, reason=absent.reason
        )
    asked = tuple(dict.fromkeys(map(registry.resolve, options.asked)))
    cores = tuple(by_core[core] for core in asked)
    return CompareReport(
        path=program.path, format=program.format, entry=program.entry, size=program.size,
        sha256=program.sha256, mode="free" if options.free else "exact", equivalent=equivalent,
        divergence=divergence, cores=cores, unmet=_unmet(cores, named=options.cores is not None),
        left=tuple(core.core for core in cores if core.failed and options.cores is None),
    )  # fmt: skip


def _unmet(cores: tuple[CoreReport, ...], *, named: bool) -> tuple[str, ...]:
    """The reasons for exit code 3: a core named by the user that could not run or stopped with an
    error; any core that stopped with an error that is not a limit listed by `doctor`; and every core
    that ran, when all of them stopped with an error."""
    ran = [core for core in cores if core.available]
    refused = bool(ran) and all(core.failed for core in ran)
    return tuple(
        f"{core.core}: {core.reason}"
        for core in cores
        if (core.failed and (named or refused or not core.limit)) or (named and not core.available)
    )
