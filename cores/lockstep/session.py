"""Several machines with the same guest, side by side.

One thread owns a session and all its machines: lockstep needs them in turn, and ptrace binds a
vCPU process to the thread that seized it. Only ``interrupt`` may be called from another.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

from cores import peers
from cores.engines import registry
from cores.errors import EngineError, UnavailableError
from cores.lockstep.comparison import Lockstep
from cores.lockstep.leader import Copies, Lead
from cores.machine.machine import Machine
from cores.machine.report import CompareReport, CoreReport, Divergence
from cores.pc.devices.storage.disk import Disk
from cores.pc.stop import Stop
from cores.programs.program import Program

DEFAULT_CORES = ("interpreter", "trap", "kvm")
DEFAULT_STEPS = 1_000_000
DEFAULT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Options:
    """How a program is to be run (contract.md, Commands).

    cores: as named by the user; None: all, each where it can. budget: instructions in exact mode,
    seconds in free. ram: bytes. input: for keyboard and UART. peers: real systems to run it on too.
    """

    cores: tuple[str, ...] | None = None
    free: bool = False
    pure: bool = False
    budget: float | None = None
    ram: int = 16 << 20
    disk: str | None = None
    disk_write: bool = False
    input: bytes = b""
    peers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Absent:
    """A core that cannot run here. core: its resolved name."""

    core: str
    engine: str
    reason: str


def start(program: Program, core: str, options: Options) -> Machine:
    """A booted machine. Raises UnavailableError when the core cannot run here."""
    disk = Disk(options.disk, write_through=options.disk_write) if options.disk else None
    try:
        return Machine(
            program, registry.create(core), ram=options.ram, disk=disk, input=options.input,
            pure=options.pure,
        )  # fmt: skip
    except BaseException:
        if disk is not None:
            disk.close()
        raise


class Session:
    """The machines of one comparison.

    machines: those that run. absent: cores that cannot run here. lockstep: compares them, and holds
    the first divergence. stretches, led: what was compared without stepping (cores/lockstep/leader.py).
    """

    def __init__(self, program: Program, options: Options) -> None:
        self.program = program
        self.options = options
        self.machines: list[Machine] = []
        self.absent: list[Absent] = []
        self.stretches = self.led = 0
        try:
            for name in dict.fromkeys(map(registry.resolve, options.cores or DEFAULT_CORES)):
                self._start(name)
        except BaseException:
            self.close()
            raise
        self.lockstep = Lockstep([] if options.free else self.machines)

    def _start(self, name: str) -> None:
        here = registry.availability(name)
        if not here.available:
            self.absent.append(Absent(here.core, here.engine, here.reason or ""))
            return
        try:
            machine = start(self.program, name, self.options)
        except UnavailableError as error:
            self.absent.append(Absent(here.core, here.engine, str(error)))
            return
        if not self.options.free:
            budget = self.options.budget
            machine.vmm.budget = int(DEFAULT_STEPS if budget is None else budget)
        self.machines.append(machine)

    @property
    def divergence(self) -> Divergence | None:
        return self.lockstep.divergence

    def step(self) -> None:
        """Every machine completes one more instruction; then they are compared."""
        for machine in self.machines:
            if machine.stop is None:
                machine.step()
        self.compare_step()

    def compare_step(self) -> None:
        """Compare, after every machine has made its step."""
        self._leave_failed()
        if self.lockstep.divergence is None and len(self.lockstep.machines) > 1:
            self.lockstep.after_step()

    def _leave_failed(self) -> None:
        """A machine that the host stopped leaves the comparison, unless it was asked for by name."""
        if self.options.cores is None and any(m.stop is Stop.ERROR for m in self.lockstep.machines):
            self.lockstep.leave([m for m in self.lockstep.machines if m.stop is Stop.ERROR])

    @property
    def ended(self) -> bool:
        return all(machine.stop is not None for machine in self.machines)

    def run_to_end(self) -> None:
        """Exact: in lockstep to the first divergence, then each machine to its own end."""
        while not self.ended and self.divergence is None:
            machines = self.lockstep.machines
            if Lead.may_lead(machines):
                with contextlib.closing(Lead(machines, self.lockstep, Copies(machines))) as lead:
                    self._go_together(lead)
                self.stretches += lead.stretches
                self.led += lead.led
            else:
                self.step()
        for machine in self.machines:
            while machine.stop is None:
                machine.step()
        self.lockstep.at_end()

    def _go_together(self, lead: Lead) -> None:
        """As far as the same machines can be led, and agree."""
        machines = self.lockstep.machines
        while self.lockstep.machines is machines:
            if not self.ended and not lead.stretch():
                self.step()
            if self.ended:
                self.lockstep.at_end()
            agree = self.divergence is None
            if (self.ended and agree) or not (agree or lead.doubt()):
                return

    def run_free(self) -> None:
        """Free: each machine by itself, one after the other, at full speed."""
        seconds = DEFAULT_SECONDS if self.options.budget is None else self.options.budget
        for machine in self.machines:
            machine.run_free(seconds)
            if machine.stop is None:
                machine.vmm.stop = Stop.BUDGET

    def close(self) -> None:
        """Release every machine; no process, descriptor or mapping remains."""
        while self.machines:
            with contextlib.suppress(EngineError):
                self.machines.pop().close()


def compare(program: Program, options: Options) -> CompareReport:
    """Run ``program`` on each core, say whether they agree, and run it on the peers that were asked
    for. Raises InputError, UnavailableError."""
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
    """Did the cores agree up to where the first of them stopped with an error?"""
    if divergence is None:
        return True
    stops = [values.get("stop") for values in divergence.values.values()]
    return Stop.ERROR in stops


def _foreign(program: Program, options: Options) -> CompareReport:
    """A program for another CPU: one core alone can run it, and nothing is compared."""
    from cores.m68k import session as foreign  # it needs this file's Options

    absent = foreign.refusals(options)
    asked = map(registry.resolve, options.cores or DEFAULT_CORES)
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
    asked = tuple(dict.fromkeys(map(registry.resolve, options.cores or DEFAULT_CORES)))
    cores = tuple(by_core[core] for core in asked)
    return CompareReport(
        path=program.path, format=program.format, entry=program.entry, size=program.size,
        sha256=program.sha256, mode="free" if options.free else "exact", equivalent=equivalent,
        divergence=divergence, cores=cores, unmet=_unmet(cores, named=options.cores is not None),
        left=tuple(core.core for core in cores if core.failed and options.cores is None),
    )  # fmt: skip


def _unmet(cores: tuple[CoreReport, ...], *, named: bool) -> tuple[str, ...]:
    """The reasons for exit code 3: a core named by the user that could not run or stopped with an
    error; any core that stopped with an error which is no limit that `doctor` lists; and every core,
    when none of those that ran came to another end."""
    ran = [core for core in cores if core.available]
    refused = bool(ran) and all(core.failed for core in ran)
    return tuple(
        f"{core.core}: {core.reason}"
        for core in cores
        if (core.failed and (named or refused or not core.limit)) or (named and not core.available)
    )


def compare_outcomes(machines: list[Machine], options: Options) -> Divergence | None:
    """Free mode's equivalence: stop, exit status, console and screen; what a time limit cut off is
    compared as far as it goes."""
    compared = [m for m in machines if options.cores is not None or m.stop is not Stop.ERROR]
    if len(compared) < 2:
        return None
    outcomes = {m.core: _outcome(m) for m in compared}
    if any(m.stop is Stop.BUDGET for m in compared):
        consoles = [m.console() for m in compared]
        shortest = min(consoles, key=len)
        if all(console.startswith(shortest) for console in consoles):
            for outcome in outcomes.values():
                del outcome["console"], outcome["screen"]
    first = next(iter(outcomes.values()))
    names = [n for n in first if len({o[n] for o in outcomes.values()}) > 1]
    if not names:
        return None
    values = {core: {n: o[n] for n in names} for core, o in outcomes.items()}
    return Divergence(0, compared[0].cpu.rip, None, tuple(names), values)


def _outcome(machine: Machine) -> dict[str, int | str | None]:
    return {
        "console": machine.console(),
        "screen": machine.board.screen(),
        "stop": machine.vmm.stop,
        "exit_status": machine.vmm.exit_status,
    }
