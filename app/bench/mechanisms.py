"""Exits by kind, shadow fills, loads of CR3; runs of any size; other emulators on the same guest."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from itertools import pairwise
from statistics import median
from time import perf_counter, perf_counter_ns

from cores import peers
from cores.engines import registry
from cores.lockstep.options import Options
from cores.lockstep.session import Session, start
from cores.pc.ram import MIB
from cores.pc.stop import Stop
from cores.programs.program import Program
from cores.vmm.trace import ExitEvent, Repeated

from . import bare, guests
from .figures import Figure, Limit, Result, Run, Skipped, Spread, alone, paired, pinned

TURNS = 500
PAGES = guests.PAGES
ROUNDS = 20
LONG, LARGE = 100_000_000, 1 << 30
PEER_TURNS = 500_000_000


class _Clock(list[ExitEvent | Repeated]):
    """A log that keeps no exits, only the nanoseconds at which each was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.at: list[int] = []

    def append(self, event: ExitEvent | Repeated) -> None:
        self.at.append(perf_counter_ns())


def _free(program: Program, core: str, clock: _Clock | None = None, *, callouts: bool = True) -> float:
    """Microseconds of a free run to its end."""
    with closing(start(program, core, Options())) as guest:
        if guest.vmm.callouts is not None:
            guest.vmm.callouts.wanted = callouts
        if clock is not None:
            guest.vmm.trace.log = clock
        guest.run_free(60)
        if guest.stop is not Stop.EXIT:
            raise RuntimeError(f"{core}: the guest ended with {guest.stop}: {guest.vmm.reason}")
        return guest.seconds * 1e6


def _exit_cost(program: Program) -> float:
    """Microseconds from one exit to the next: the median of short batches (``bare.BATCH``)."""
    clock = _Clock()
    _free(program, "trap:native", clock, callouts=False)
    ends = clock.at[4 * bare.BATCH :: bare.BATCH]
    return median(end - begin for begin, end in pairwise(ends)) / bare.BATCH / 1e3


def _bare(loop: bare.PtraceExits) -> tuple[str, Run]:
    """The bare loop to measure against: C's, where there is a compiler."""
    if bare.c_loops():
        return "bare ptrace loop in C", lambda: loop.c(4_000)
    return "bare ptrace loop in Python", lambda: loop.python(4_000)


def _here(name: str) -> list[Result]:
    here = registry.availability("trap:native")
    return [] if here.available else [Skipped(name, here.reason or "it cannot run here")]


def kinds() -> list[Result]:
    """An exit of trap:native for each kind of instruction that has handlers, and for a load of CR3."""
    found = _here("exit:kinds")
    if found:
        return found
    with pinned(), bare.ptrace_exits() as loop:
        label, base = _bare(loop)
        for name, code in guests.KINDS.items():
            limit = Limit("ratio", 3 if name == "mov cr3" else 1.35)
            program = guests.repeated(code, TURNS)
            found += paired(
                "exit:kinds", f"one exit: {name}", "µs", partial(_exit_cost, program),
                {label: (base, limit)}, times=3,
            )  # fmt: skip

        def answered() -> float:
            few, many = (
                _free(guests.repeated("9c9d", turns), "trap:native") for turns in (100, 100_100)
            )
            return (many - few) / (16 * 100)

        what = "no exit: pushf or popf, answered in place"
        found.append(alone("exit:kinds", what, "ns", answered, times=3))
    return found


def shadow() -> list[Result]:
    """Shadow fills: pages read, and stored to, after each load of CR3."""
    found = _here("shadow")
    if found:
        return found
    with pinned(), bare.ptrace_exits() as loop:
        label, base = _bare(loop)
        for what, store in (("read", False), ("stored to before", True)):

            def page(store: bool = store) -> float:
                few, many = (
                    _free(guests.touch(n, store=store), "trap:native") for n in (1, 1 + ROUNDS)
                )
                return (many - few) / (ROUNDS * PAGES)

            found += paired(
                "shadow", f"a filled page, {PAGES} neighbours, {what}", "µs", page,
                {label: (base, Limit("ratio", 1))}, times=3,
            )  # fmt: skip
    return found


def sizes() -> list[Result]:
    """What must not grow: comparing a long loop exactly, and opening a session with much RAM."""
    cores = ("interpreter", "trap:native")
    for core in cores:
        here = registry.availability(core)
        if not here.available:
            return [Skipped("sizes", here.reason or "it cannot run here")]

    def compared(budget: int) -> float:
        with closing(Session(guests.spin(LONG), Options(cores=cores, budget=budget))) as session:
            began = perf_counter()
            session.run_to_end()
            if session.divergence is not None:
                raise RuntimeError(f"they diverge: {session.divergence}")
            return perf_counter() - began

    def opened(ram: int) -> float:
        began = perf_counter()
        Session(guests.spin(1), Options(cores=cores, ram=ram)).close()
        return (perf_counter() - began) * 1e3

    return [
        *paired(
            "sizes", f"{2 * LONG:.0e} instructions compared exactly".replace("e+0", "e"), "s",
            lambda: compared(4 * LONG),
            {"the interpreter alone, free": (
                lambda: _free(guests.spin(LONG), "interpreter") / 1e6, Limit("ratio", 2.5))},
            times=3,
        ),
        alone("sizes", f"the same to a budget of {LONG:.0e}".replace("e+0", "e"), "s",
              lambda: compared(LONG), times=3),
        *paired("sizes", "a session opened, 1 GiB of RAM", "ms", lambda: opened(LARGE),
                {"with 16 MiB": (lambda: opened(16 * MIB), Limit("ratio", 3))}, times=3),
    ]  # fmt: skip


def _spun(core: str) -> float:
    """Seconds of the guest that emulators run too."""
    return _free(guests.spin(PEER_TURNS), core) / 1e6


def emulators() -> list[Result]:
    """The same guest on our cores and on other emulators, their firmware's start included."""
    what = f"{PEER_TURNS:.0e} turns of dec/jnz".replace("e+0", "e")
    found: list[Result] = []
    for core in ("trap:native", "interpreter"):
        if registry.availability(core).available:
            found.append(alone("peers", f"{what}, {core}, free", "s", partial(_spun, core), times=3))
    for name, kind in peers.PEERS.items():
        report = peers.run(kind(), guests.spin(PEER_TURNS), ram=16 * MIB, disk=None, input=b"",
                           seconds=120)  # fmt: skip
        if report.available and report.stop in (Stop.EXIT, Stop.HALTED):
            what_there = f"{what}, {name}, its firmware included"
            found.append(Figure("peers", what_there, "s", Spread.of([report.seconds])))
        else:
            found.append(Skipped("peers", report.reason or f"{name} ended with {report.stop}"))
    return found
