"""`compare`: runs one program on every core and reports whether they agree."""

from __future__ import annotations

from cores import peers
from cores.engines import registry
from cores.lockstep.options import DEFAULT_SECONDS, Options
from cores.machine.report import CompareReport, CoreReport
from cores.programs.program import Program
from cores.runs.pc import Outcome
from cores.runs.platform import platform_of


def compare(program: Program, options: Options) -> CompareReport:
    """Run ``program`` on each core, compare them, and run it on the peers that were asked for. Raises
    InputError, UnavailableError."""
    report = _report(program, options, platform_of(program).run(program, options))
    if not options.peers:
        return report
    seconds = options.budget if options.free and options.budget else DEFAULT_SECONDS
    return peers.join(
        report, options.peers, program, ram=options.ram or program.ram, disk=options.disk,
        input=options.input, seconds=seconds,
        network=bool(options.nets) and "net" not in options.virtio,
    )  # fmt: skip


def _report(program: Program, options: Options, outcome: Outcome) -> CompareReport:
    """The report on all cores asked for, in that order."""
    by_core = {report.core: report for report in outcome.reports}
    for absent in outcome.absent:
        by_core[absent.core] = CoreReport(
            absent.core, absent.engine, available=False, reason=absent.reason
        )
    asked = tuple(dict.fromkeys(map(registry.resolve, options.asked)))
    cores = tuple(by_core[core] for core in asked)
    return CompareReport(
        path=program.path, format=program.format, entry=program.entry, size=program.size,
        sha256=program.sha256, mode="free" if options.free else "exact", equivalent=outcome.equivalent,
        divergence=outcome.divergence, cores=cores,
        unmet=_unmet(cores, named=options.cores is not None),
        left=tuple(core.core for core in cores if core.failed and options.cores is None),
        stretches=outcome.stretches, led=outcome.led, recognized=program.recognized,
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
