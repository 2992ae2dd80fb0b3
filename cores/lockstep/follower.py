"""Follower: runs one machine at full speed to the place that the leader has reached, and no further
(cores/lockstep/leader.py)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from time import perf_counter_ns

from cores.engines.base import (
    BUDGET_SPENT,
    INTERRUPTED,
    STEPPED,
    Exit,
    Fault,
    Intercept,
    Interrupted,
)
from cores.lockstep.comparison import Lockstep
from cores.machine.machine import Machine
from cores.vmm.conditional_stop import ConditionalStop
from cores.vmm.free_run import Alarm
from cores.vmm.host_mappings import HostMappings
from cores.vmm.state import GuestContext
from cores.x86.faults import GuestFault
from cores.x86.isa.instruction import Sensitivity
from cores.x86.mmu.paging import PAGE, walk
from cores.x86.mmu.segmentation import code_address, unchecked
from cores.x86.mode import stack_bits
from cores.x86.registers import RSP, SS, Vector

WAIT_NS, RUN_NS, PASS_NS = 2_000_000_000, 100, 200_000
"""Nanoseconds after which a follower is lost: the first, and for each instruction the second, or the
third where it may pass a breakpoint at each of them."""
MOST_WAIT_NS = 60_000_000_000
"""Upper limit of the wait. After a timeout the run is retried in shorter stretches."""


FEW_PASSES = 32
"""Passes through the rendezvous that a breakpoint may stop at; then the stop is made conditional."""
MOST_WORDS = 4
"""Words of memory that it compares: those of a loop's counters, and of outer loops'."""


class LostError(Exception):
    """A follower has not reached the rendezvous, or RAM differs there."""


class Follower:
    """Takes one machine to the leader's instruction (the rendezvous).

    trapped: the instruction there makes a trap core exit: the next step begins with that exit
    (``GuestContext.stopped_by``). discriminating: pages (GPA) that must equal the leader's there.
    unmet: those that did not, the last time that the registers did."""

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
        self._stop: ConditionalStop | None = None
        self._may_plant = machine.vmm.patched is not None
        self._alike = 0  # passes with the leader's registers, but not its memory

    def go(self, count: int, gpr: list[int], wait_ns: int) -> None:
        """Complete ``count`` instructions and arrive with these general registers. Raises LostError
        when the machine arrives elsewhere, or not in time; wait_ns: the least time that it has, in
        ns."""
        each = RUN_NS if self._trapped or self._engine.traits.counts else PASS_NS
        self._alarm.set(perf_counter_ns() + min(wait_ns + each * count, MOST_WAIT_NS))
        try:
            self._go(count, gpr)
        finally:
            self._alarm.set(None)
            if self._stop is not None:
                self._stop.remove()

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
                self._alike += 1
                if self._alike == FEW_PASSES:
                    self._plant(gpr)
                continue
            if exit is BUDGET_SPENT and count > FEW_PASSES:
                count -= FEW_PASSES
                self._plant(gpr)
                continue
            trapped = self._trapped and cpu.rip == self._rip
            if (trapped and self._at_device(exit)) or self._stays(exit):
                if not trapped:
                    break
                if isinstance(exit, Fault):
                    vmm.stopped_by = exit
                return
            count -= self._completed
            if self._completed and not counts and self._arrived(gpr):
                return
        raise LostError

    def _arrived(self, gpr: list[int]) -> bool:
        """Has an instruction that the VMM completed led to the rendezvous? (No breakpoint stops
        there.)"""
        return self._cpu.rip == self._rip and self._cpu.gpr == gpr and self._met()

    def _met(self) -> bool:
        """Is this the leader's pass through the instruction? Registers are equal: compare the
        discriminating pages, and the stack's."""
        self.unmet = {page for page in self._discriminating if not self._same(page)}
        return not self.unmet and all(map(self._same, self._looked_at()))

    def _top_of_stack(self) -> int:
        cpu = self._cpu
        return unchecked(cpu, SS, cpu.gpr[RSP] & (1 << stack_bits(cpu)) - 1)

    def _same(self, page: int) -> bool:
        return Lockstep.same_page(page, self._machine, self._leader)

    def _enter(self, count: int, gpr: list[int]) -> Exit:
        enter, engine, patched = self._vmm.enter, self._engine, self._vmm.patched
        if patched is not None and not patched.suits():
            raise LostError  # such code is stepped
        if engine.traits.counts:
            return enter(engine.run, count)
        if self._trapped:
            return enter(engine.run)
        if self._stop is not None and self._stop.stands:
            return self._enter_planted(self._stop)
        return enter(engine.reach, self._rip, gpr, min(count, FEW_PASSES))

    def _plant(self, gpr: list[int]) -> None:
        """The rendezvous lies in a loop: let the guest's own process compare the registers, and what
        has told its passes apart so far."""
        vmm = self._vmm
        if self._stop is not None:
            self._stop.remove()
        if self._may_plant and vmm.patched is not None and vmm.shadow is not None:
            try:
                words = dict(islice(self._telling_words(vmm.shadow.host), MOST_WORDS))
                stop = ConditionalStop(vmm, vmm.patched, vmm.shadow, self._rip, gpr, words)
                stop.plant()
                self._stop = stop
            except ValueError:
                self._may_plant = False

    def _telling_words(self, host: HostMappings) -> Iterator[tuple[int, int]]:
        """Words by which this pass differs from the leader's, with the leader's values: address (GVA)
        and value, of pages that are looked at anyway (``_met``)."""
        ours, theirs = self._machine.memory, self._leader.memory
        for page in self._looked_at():
            for gva in (page,) if host.is_ahead(page) else host.here().leading_to(page):
                for at in range(0, PAGE, 4):
                    value = theirs.view[page + at : page + at + 4]
                    if ours.view[page + at : page + at + 4] != value:
                        yield gva + at, int.from_bytes(value, "little")
                break

    def _looked_at(self) -> Iterator[int]:
        yield from sorted(self._discriminating)
        with suppress(GuestFault):
            yield self._vmm.mmu.locate(self._top_of_stack()) & -PAGE

    def _enter_planted(self, stop: ConditionalStop) -> Exit:
        stop.enter_at()
        exit = self._vmm.enter(self._engine.run)
        if stop.left_at():
            stop.passing = True
            return STEPPED
        if isinstance(exit, Fault) and exit.address is not None and exit.address in stop.room:
            stop.remove()  # its page has been dropped with others
        if not stop.stands:  # the guest has run into it, or its code has changed
            self._stop, self._may_plant = None, False
            stop.remove()
            return INTERRUPTED
        return exit

    def _at_device(self, exit: Exit) -> bool:
        """Has the guest been stopped by an access to a device in memory?"""
        if not isinstance(exit, Fault) or exit.address is None:
            return False
        return accesses_device(self._vmm, exit.address)

    def _stays(self, exit: Exit) -> bool:
        """Has the guest exited for a reason of its own? False: the exit has been handled, such as a
        page not mapped yet; ``_completed`` then says whether an instruction was completed."""
        vmm = self._vmm
        self._completed = False
        if isinstance(exit, Interrupted):
            return False
        if not isinstance(exit, Fault | Intercept) or vmm.trap is None:
            return True
        try:
            insn = vmm.fetch()
            reached = vmm.trap.reaches(
                code_address(self._cpu, self._cpu.rip), insn.length
            )  # else the VMM completes it at once
            if insn.sensitivity is Sensitivity.ORDINARY or (_is_page_fault(exit) and reached):
                self._completed = vmm.handle_exit(exit, insn)
                return False
        except GuestFault:
            return True
        assert vmm.patched is not None
        return not (vmm.patched.at_patch() and vmm.patched.discover())


def accesses_device(guest: GuestContext, address: int) -> bool:
    """Do the guest's tables lead from this linear address to a place without RAM?"""
    try:
        gpa = walk(guest.memory, guest.cpu, address, mark=False).gpa
    except GuestFault:
        return False
    return not guest.memory.is_ram(gpa & -PAGE, PAGE)


def _is_page_fault(exit: Exit) -> bool:
    return isinstance(exit, Fault) and exit.vector == Vector.PF
