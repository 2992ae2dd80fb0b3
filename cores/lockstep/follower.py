"""One machine on its way to where the leader is (cores/lockstep/leader.py): at full speed, and no
further."""

from __future__ import annotations

from contextlib import suppress
from time import perf_counter_ns

from cores.engines.base import BUDGET_SPENT, STEPPED, Exit, Fault, Intercept, Interrupted
from cores.lockstep.comparison import Lockstep
from cores.machine.machine import Machine
from cores.vmm.free_run import Alarm
from cores.x86.faults import GuestFault
from cores.x86.isa.instruction import Sensitivity
from cores.x86.mmu.paging import PAGE
from cores.x86.registers import RSP, Vector

WAIT_NS, RUN_NS, PASS_NS = 2_000_000_000, 100, 200_000
"""A follower that stays away for longer is lost: so long, and for each instruction the first, or where
it may pass a breakpoint at each of them, the second."""
MOST_WAIT_NS = 60_000_000_000
"""But no longer: who is lost for no other reason finds the way in shorter stretches."""


class LostError(Exception):
    """A follower has not come to the meeting place."""


class Follower:
    """One machine on its way to the leader. trapped: what stands there makes a trap core leave.
    discriminating: pages (GPA) that must equal the leader's. unmet: those that did not, the last time
    that the registers did."""

    def __init__(
        self,
        machine: Machine,
        leader: Machine,
        alarm: Alarm,
        discriminating: set[int],
        *,
        trapped: bool,
    ) -> None:
        self._vmm = machine.vmm
        self._engine = machine.engine
        self._cpu = machine.cpu
        self._rip = leader.cpu.rip
        self._machine, self._leader = machine, leader
        self._discriminating = discriminating
        self.unmet: set[int] = set()
        self._alarm = alarm
        self._trapped = trapped and machine.vmm.trap is not None

    def go(self, count: int, gpr: list[int], wait_ns: int) -> None:
        """Complete ``count`` instructions and have these general registers. Raises LostError when it
        comes elsewhere, or stays away; wait_ns: how long it may at least, in ns."""
        each = RUN_NS if self._trapped or self._engine.traits.counts else PASS_NS
        self._alarm.set(perf_counter_ns() + min(wait_ns + each * count, MOST_WAIT_NS))
        try:
            self._go(count, gpr)
        finally:
            self._alarm.set(None)

    def _go(self, count: int, gpr: list[int]) -> None:
        vmm, cpu, counts = self._vmm, self._cpu, self._engine.traits.counts
        while vmm.stop is None and not self._alarm.rang:
            exit = self._enter(count, gpr)
            if counts:
                count -= self._engine.executed or 0
            if exit is STEPPED or (counts and exit is BUDGET_SPENT):
                if cpu.rip != self._rip:
                    break
                if counts or self._met():
                    return
                count -= 1  # each pass completes an instruction at least, so they come to an end
                if count < 1:
                    break
                continue
            if self._stays(exit):
                if self._trapped and cpu.rip == self._rip:
                    return
                break
            count -= self._completed
            if self._completed and not counts and self._arrived(gpr):
                return
        raise LostError

    def _arrived(self, gpr: list[int]) -> bool:
        """Has an instruction that the VMM completed led to the meeting place? No breakpoint tells."""
        return self._cpu.rip == self._rip and self._cpu.gpr == gpr and self._met()

    def _met(self) -> bool:
        """At the right pass? Registers tell most of it, the stack's page more."""
        self.unmet = {page for page in self._discriminating if not self._same(page)}
        if self.unmet:
            return False
        with suppress(GuestFault):
            return self._same(self._vmm.mmu.locate(self._cpu.gpr[RSP]) & -PAGE)
        return True

    def _same(self, page: int) -> bool:
        return Lockstep.same_page(page, self._machine, self._leader)

    def _enter(self, count: int, gpr: list[int]) -> Exit:
        enter, engine = self._vmm.enter, self._engine
        if engine.traits.counts:
            return enter(engine.run, count)
        if self._trapped:
            return enter(engine.run)
        return enter(engine.reach, self._rip, gpr, count)

    def _stays(self, exit: Exit) -> bool:
        """Has the guest left for something of its own? False: it has been served unseen, as a page
        that was not mapped yet; then ``_completed`` says whether that took an instruction."""
        vmm = self._vmm
        self._completed = False
        if isinstance(exit, Interrupted):
            return False
        if not isinstance(exit, Fault | Intercept) or vmm.trap is None:
            return True
        try:
            insn = vmm.fetch()
            reached = vmm.trap.reaches(self._cpu.rip, insn.length)  # else the VMM completes it at once
            if insn.sensitivity is Sensitivity.ORDINARY or (_is_page_fault(exit) and reached):
                self._completed = vmm.handle_exit(exit, insn)
                return False
        except GuestFault:
            return True
        assert vmm.patched is not None
        return not (vmm.patched.at_patch() and vmm.patched.discover())


def _is_page_fault(exit: Exit) -> bool:
    return isinstance(exit, Fault) and exit.vector == Vector.PF
