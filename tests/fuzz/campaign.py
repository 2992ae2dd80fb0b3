"""Random guests on all cores, compared in lockstep; what fails is shrunk and saved.

``python -m tests.fuzz --seconds 600 --seed 1`` runs one; a seed names the guests that it makes, so
each failure can be had again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from cores.engines import registry
from cores.engines.kvm.eventfds import IRQFD
from cores.errors import EngineError, InputError
from cores.lockstep.comparison import Lockstep
from cores.lockstep.options import Options
from cores.lockstep.session import start
from cores.machine.machine import ACCESSED_AND_DIRTY, Machine
from cores.machine.report import Divergence
from cores.pc.stop import Stop
from cores.programs.loader import assemble_program
from cores.programs.program import Program
from cores.x86.isa.decoder import text
from cores.x86.isa.instruction import Reason
from cores.x86.mmu.paging import PAGE
from cores.x86.mmu.table_pages import table_pages

from . import straightline
from .known import known
from .paging import paging
from .privileged import RandomGuest, privileged
from .rare import rare

LEVELS = (1, 2, 3, 4)
NATIVE_LEVEL = 5
"""For cores that Unicorn has no part in."""
BUDGET = 3_000
OPTIONS = Options(ram=4 << 20)


@dataclass(frozen=True)
class Failure:
    """The failure of one guest. words: for people. key: failures with the same key are the same."""

    words: str
    key: tuple[str, ...]


def cores_here(names: tuple[str, ...] | None = None) -> list[str]:
    """The cores asked for, or all that can run every guest: no KVM that lacks abilities."""
    if names is not None:
        return [registry.resolve(name) for name in names]
    here = [core for core in registry.CORE_NAMES if registry.availability(core).available]
    if "kvm" in here:
        abilities = registry.availability("kvm", detailed=True).abilities
        if not all(present for name, present, _ in abilities if name != IRQFD):
            here.remove("kvm")
    return here


def make(level: int, seed: int) -> RandomGuest:
    """The guest of a seed."""
    if level == 2:
        return privileged(seed)
    if level == 3:
        return paging(seed)
    if level in (4, NATIVE_LEVEL):
        return rare(seed, native=level == NATIVE_LEVEL)
    random = Random(seed)
    source = random.choice((straightline.integer, straightline.floating))(random, 60)
    return RandomGuest(1, seed, tuple(source.split("\n")))


def run(source: str, cores: list[str], budget: int = BUDGET) -> Failure | None:
    """Run the guest step for step on these cores. None: they agree, or differ as known.py says."""
    program = assemble_program(source.encode(), "random.s", OPTIONS.ram)
    failure, wild = _attempt(program, cores, budget, forgetful=False)
    if failure and wild and _attempt(program, cores, budget, forgetful=True)[0] is None:
        return None  # known.py: what a TLB may keep, and need not
    return failure


def _attempt(
    program: Program, cores: list[str], budget: int, *, forgetful: bool
) -> tuple[Failure | None, bool]:
    """The failure, if any, and whether the guest stored to its page tables at random. forgetful: no TLB
    keeps an entry from one instruction to the next."""
    machines: list[Machine] = []
    tables = _Tables()
    try:
        for core in cores:
            machines.append(start(program, core, OPTIONS))
        return _lockstep(machines, budget, tables, forgetful), tables.wild
    except EngineError as error:
        return Failure(f"{type(error).__name__}: {error}", (type(error).__name__,)), tables.wild
    finally:
        for machine in reversed(machines):
            machine.close()


class _Tables:
    """Watches a machine's page tables. wild: an instruction other than the generator's own, which are
    followed by INVLPG, has stored to them."""

    def __init__(self) -> None:
        self.wild = False
        self._roots: set[int] = set()
        self._pages: dict[int, bytes] = {}

    def look(self, machine: Machine) -> None:
        """Check the tables after a step."""
        if self.wild:
            return
        view, insn = machine.memory.view, machine.vmm.last
        if machine.roots != self._roots:
            self._roots = set(machine.roots)
            pages = table_pages(machine.memory, self._roots)
            self._pages |= {page: bytes(view[page : page + PAGE]) for page in pages}
        sanctioned = insn is not None and insn.mnemonic == "mov" and "rip" in text(insn, 0)
        for page, before in self._pages.items():
            if view[page : page + PAGE] != before:
                self._pages[page] = bytes(view[page : page + PAGE])
                self.wild |= not (sanctioned or _only_marked(before, self._pages[page]))


def _only_marked(before: bytes, now: bytes) -> bool:
    """Do two tables differ in A and D bits alone?"""
    return all((a ^ b) & ~ACCESSED_AND_DIRTY == 0 for a, b in zip(before, now, strict=True))


def _lockstep(machines: list[Machine], budget: int, tables: _Tables, forgetful: bool) -> Failure | None:
    for machine in machines:
        machine.vmm.budget = budget
    compared = Lockstep(list(machines))
    while compared.divergence is None and any(m.stop is None for m in machines):
        for machine in machines:
            if machine.stop is None:
                if forgetful:
                    machine.vmm.flush(None)
                machine.step()
        tables.look(machines[0])
        compared.after_step()
        if any(m.stop is Stop.ERROR for m in machines) and compared.divergence is None:
            return None  # all of them: the platform's limit
    compared.at_end()
    if compared.divergence is not None:
        return _told(compared.divergence)
    traps = [m for m in machines if m.vmm.trap]
    reasons = [dict(m.vmm.trace.by_reason) for m in traps]
    for counts in reasons:  # of two pages one CPU fills both, another finds the second missing first
        counts.pop(Reason.SHADOW, None)
    if any(r != reasons[0] for r in reasons):
        words = "; ".join(f"{m.core} {dict(m.vmm.trace.by_reason)}" for m in traps)
        return Failure(f"exits differ: {words}", ("exits",))
    return None


def run_free(source: str, cores: list[str], seconds: float = 1.0) -> Failure | None:
    """Run the guest freely on each core. None: all that ended ended alike."""
    program = assemble_program(source.encode(), "random.s", OPTIONS.ram)
    ends: dict[str, tuple[Stop, int | None]] = {}
    for core in cores:
        machine = start(program, core, OPTIONS)
        try:
            machine.run_free(seconds)
            if machine.stop is not None:  # a timer as fast as its handler keeps some for ever
                ends[core] = machine.stop, machine.vmm.exit_status
        except EngineError as error:
            return Failure(f"{core}: {type(error).__name__}: {error}", (type(error).__name__,))
        finally:
            machine.close()
    if len(set(ends.values())) > 1:
        words = "; ".join(f"{core}: {stop}, {status}" for core, (stop, status) in ends.items())
        return Failure(f"running freely: {words}", ("free", *map(str, sorted(set(ends.values())))))
    return None


def _told(divergence: Divergence) -> Failure | None:
    if known(divergence):
        return None
    values = "; ".join(
        f"{core}: "
        + ", ".join(f"{n}={v:#x}" if isinstance(v, int) else f"{n}={v}" for n, v in row.items())
        for core, row in divergence.values.items()
    )
    asm = divergence.asm or "?"
    words = f"after {divergence.instruction} instructions, {asm} at {divergence.rip:#x}: {values}"
    return Failure(words, (asm.split()[0], *divergence.differs))


def shrink(guest: RandomGuest, fails: Callable[[RandomGuest], bool]) -> RandomGuest:
    """Leave out steps, in ever smaller groups, while the guest still fails."""
    steps = guest.steps
    size = max(1, len(steps) // 2)
    while True:
        at = 0
        while at < len(steps):
            fewer = steps[:at] + steps[at + size :]
            if fewer and fails(guest.without(fewer)):
                steps = fewer
            else:
                at += size
        if size == 1:
            return guest.without(steps)
        size //= 2


Runner = Callable[[str, list[str]], Failure | None]


def still_fails(
    cores: list[str], failure: Failure, runner: Runner = run
) -> Callable[[RandomGuest], bool]:
    """Does a smaller guest fail in the same way?"""

    def fails(guest: RandomGuest) -> bool:
        try:
            found = runner(guest.source(), cores)
        except InputError:
            return False
        return found is not None and found.key[0] == failure.key[0]

    return fails
