"""Runs on the PC: one program on all cores compared, or one machine followed exit by exit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from time import perf_counter

from cores.lockstep.options import DEFAULT_STEPS, Absent, Options
from cores.lockstep.session import Session, compare_outcomes, start
from cores.machine.machine import Machine
from cores.machine.report import CoreReport, Divergence, ExitLine, StepLine, TraceLine
from cores.pc.network.making import write_captures
from cores.pc.stop import Stop
from cores.programs.program import Program
from cores.programs.sources import with_sources
from cores.vmm.trace import ExitEvent
from cores.x86.faults import GuestFault
from cores.x86.isa.decoder import Truncated, decode, text
from cores.x86.registers import STATE_NAMES

SLICE = 0.05
"""Seconds of a free run between two reads of its exits."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one program on the cores of its platform.

    absent: cores that could not run. reports: of the others. equivalent: None where nothing was
    compared. stretches, led: see ``Lead``."""

    absent: tuple[Absent, ...]
    reports: tuple[CoreReport, ...]
    equivalent: bool | None = None
    divergence: Divergence | None = None
    stretches: int = 0
    led: int = 0


def run(program: Program, options: Options) -> Outcome:
    """Run ``program`` on each core and compare them. Raises InputError, UnavailableError."""
    with contextlib.closing(Session(program, options)) as session:
        if options.free:
            session.run_free()
            divergence = compare_outcomes(session.machines, options)
            others = [m.pair.second for m in session.machines if m.pair is not None]
            divergence = divergence or compare_outcomes(others, options)
        else:
            session.run_to_end()
            divergence = session.divergence
        if session.machines:
            write_captures(options.nets, session.machines[0].board.networks)
        reports = tuple(machine.report(image=options.images) for machine in session.machines)
        compared = [r for r in reports if options.cores is not None or not r.failed]
        if all(r.failed for r in reports) and _by_failure(divergence):
            compared, divergence = [], None  # each core refused the guest, wherever that was
        equivalent = divergence is None if len(compared) > 1 else None
        return Outcome(
            tuple(session.absent), reports, equivalent, divergence, session.stretches, session.led
        )


def _by_failure(divergence: Divergence | None) -> bool:
    """Did the cores agree until the first of them stopped with an error?"""
    if divergence is None:
        return True
    stops = [values.get("stop") for values in divergence.values.values()]
    return Stop.ERROR in stops


def trace(
    program: Program, core: str, options: Options, steps: bool
) -> Iterator[TraceLine | CoreReport]:
    """See cores/runs/trace.py."""
    program = with_sources(program, texts=False)
    with contextlib.closing(start(program, core, options)) as machine:
        yield from _free(machine, options) if options.free else _exact(machine, options, steps)
        if machine.pair is not None:
            machine.pair.finish(lambda: options.free)
        write_captures(options.nets, machine.board.networks)
        yield machine.report()


def _exact(machine: Machine, options: Options, steps: bool) -> Iterator[TraceLine]:
    vmm, events = machine.vmm, _Events(machine)
    vmm.budget = int(DEFAULT_STEPS if options.budget is None else options.budget)
    vmm.watching = steps
    end = perf_counter() + (options.timeout or inf)
    while machine.stop is None:
        if perf_counter() >= end:
            vmm.stop = Stop.BUDGET
            break
        before = machine.cpu.state() if steps else ()
        machine.step()
        yield from events.new()
        if steps and vmm.last is not None:
            rip, insn = vmm.last_rip, vmm.last
            yield StepLine(
                vmm.instructions - 1, rip, insn.code, text(insn, rip), _changes(machine, before)
            )


def _free(machine: Machine, options: Options) -> Iterator[TraceLine]:
    events = _Events(machine)
    left = options.seconds
    while machine.stop is None and left > 0:
        machine.run_free(min(SLICE, left))
        left -= SLICE
        yield from events.new()
    if machine.stop is None:
        machine.vmm.stop = Stop.BUDGET


def _changes(machine: Machine, before: tuple[int, ...]) -> dict[str, int | bytes]:
    after = machine.cpu.state()
    changed: dict[str, int | bytes] = {
        name: int(new) for name, old, new in zip(STATE_NAMES, before, after, strict=True) if old != new
    }
    for gpa, length in machine.vmm.stored:
        changed[f"mem:{gpa:#x}"] = bytes(machine.memory.view[gpa : gpa + length])
    return changed


class _Events:
    """Reads the machine's log of exits as it grows, and empties it: a long run needs no more memory."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def new(self) -> Iterator[ExitLine]:
        for event in self._machine.vmm.trace.take():
            yield exit_line(self._machine.program, event)


def exit_line(program: Program, event: ExitEvent) -> ExitLine:
    """An event as `trace` shows it."""
    code, asm = event.code, ""
    if code:
        with contextlib.suppress(Truncated, GuestFault):
            asm = text(decode(code, event.place.bits), event.rip)
    return ExitLine(
        event.n, event.rip, code, asm, event.place.mode, str(event.reason), event.detail, event.handled,
        event.ring, event.ns, event.vmm_ns, program.source_of(event.rip), event.place.linear,
    )  # fmt: skip
