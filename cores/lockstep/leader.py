"""Leader and followers: lockstep without single steps.

Machines can be compared wherever they have completed equally many instructions. The interpreter, which
counts exactly at full speed, is the leader: it runs to the next instruction that is sensitive, or
faults, or at which a timer is due. The others follow:

    checkpoint (all states, all RAM)              rendezvous
    interpreter  o======== full speed, counted ========>o- step ->
    trap core    o======== full speed, patched ========>o- step ->  the trap itself stops it
    real CPUs    o===>:===>:=== breakpoint passed =====>o- step ->  where nothing traps, until its
                 ^                                      |           registers are the leader's
                 |                                      | equal: go on from here
                 +------ all go back and step <---------+ else: so a step names every divergence

All machines step the instruction at the rendezvous as in exact mode, so exits, their order and their
counts are those of exact mode. Where a trap has stopped a machine there, its step begins with that
exit, and does not enter the guest once more. 1,000,000 instructions of a loop take 0.1 s in place of
80.

After trouble (a difference, a lost follower, an unusual exit) all machines go back to the last
checkpoint and advance half as far at a time, with all of RAM compared each time, until a few hundred
instructions remain to the place of the trouble. These are stepped. So a divergence is always reported
by a step; 4 billion instructions are halved 23 times, where to step them takes days. A stretch may end
anywhere: where it ends inside a loop, a follower's own process finds the right pass
(cores/vmm/conditional_stop.py).

Flags that the SDM leaves undefined keep each CPU's own value in a stretch, while a step sets them to
the platform's, 0. So the last instructions before a timer event or a budget are stepped, and status
flags that differ before these are cleared. Where flags differ at an instruction that has ended a
stretch by itself, all machines go back and step to it, once; if that shows no divergence, these flags
are undefined there, and are cleared from then on. A guest that reads such flags differs, is stepped,
and is found equal; or all machines agree on another value.
"""

from __future__ import annotations

from time import perf_counter, perf_counter_ns
from typing import Protocol

from cores.engines.base import BudgetSpent, Fault, Intercept
from cores.errors import EngineError
from cores.lockstep.comparison import Lockstep
from cores.lockstep.follower import RUN_NS, WAIT_NS, Follower, LostError, accesses_device
from cores.machine.machine import Machine, MachineState
from cores.pc.ram_image import RamImage
from cores.pc.stop import Stop
from cores.vmm.free_run import Alarm
from cores.vmm.vmm import UNKNOWN, Vmm
from cores.x86.faults import GuestFault, Unsupported
from cores.x86.isa.accesses import next_accesses
from cores.x86.isa.instruction import Sensitivity
from cores.x86.registers import ARITHMETIC_FLAGS, Flag

WARM_UP = 2_000
"""Instructions that are stepped first. Most guests are shorter, and are never led."""
SHORTEST = 64
"""A stretch of fewer instructions is stepped: to lead costs as much as some ten steps."""
LONGEST = 4_000_000_000
SLICE = 50_000_000
"""Instructions that the leader runs at once: some tenths of a second, in which Ctrl-C waits."""
CHECKPOINT_SECONDS = 0.25
"""Least time between checkpoints: each copies all RAM that was touched, some 0.2 ms a MiB and
machine."""
MOST_DISCRIMINATING = 8
"""Limit of pages compared to distinguish one pass through the rendezvous from another."""
TAIL = 16
"""Instructions that are stepped before an end that no instruction makes: in most code some of them set
all flags."""
FEW = 512
"""Instructions before trouble that are stepped: to compare all of RAM once more costs as much."""
AFTER_TROUBLE, MOST_STEPS = 1_000, 64_000
"""Steps after trouble before the next stretch, and the most: doubled each time that there is trouble
again before as many instructions behind it have been led."""


class Retreat(Protocol):
    """Checkpoints of all machines, to go back to after trouble."""

    def keep(self, *, led: bool, soon: bool, now: bool) -> bool:
        """Take a checkpoint before a stretch, if it is time. led: machines have been led since the last
        one, so RAM has to be compared. soon: take it early, after trouble; now: take it whatever it
        costs. True: one was taken here, and all of RAM is equal. Raises LostError where RAM differs
        between machines."""

    def room(self) -> int:
        """The most instructions that the stretch may have."""

    def go_back(self) -> int:
        """Restore the last good checkpoint; gives the instructions completed there."""


class Copies:
    """One checkpoint of all machines with a copy of their RAM, replaced from time to time."""

    def __init__(self, machines: list[Machine]) -> None:
        self._machines = machines
        self._states: tuple[MachineState, ...] = ()
        self._ram: tuple[RamImage, ...] = ()
        self._due = self._soon_due = 0.0

    def keep(self, *, led: bool, soon: bool, now: bool) -> bool:
        began = perf_counter()
        if self._states and not now and began < (self._soon_due if soon else self._due):
            return False
        first = RamImage.of(self._machines[0].ram, self._ram[0] if self._ram else None)
        ram = (first, *(RamImage.of(m.ram, first) for m in self._machines[1:]))
        for machine, image in zip(self._machines[1:], ram[1:], strict=True):
            if not Lockstep.same_pages(image.differing_pages(first), self._machines[0], machine):
                raise LostError
        self._states, self._ram = tuple(m.save() for m in self._machines), ram
        ended = perf_counter()
        self._due = ended + max(CHECKPOINT_SECONDS, 20 * (ended - began))
        self._soon_due = ended + 3 * (ended - began)
        return True

    def room(self) -> int:
        return LONGEST

    def go_back(self) -> int:
        if not self._states:
            return self._machines[0].vmm.instructions
        for machine, state, ram in zip(self._machines, self._states, self._ram, strict=True):
            ram.put_back(machine.ram)
            machine.restore(state)
        done, self._states = self._states[0].instructions, ()
        return done


class Lead:
    """Advances machines in lockstep by stretches of many instructions.

    stretches, led: number of stretches, and instructions completed in them. took: seconds of the last
    stretch that ran to its limit; 0 when its reader has used it.
    """

    def __init__(self, machines: list[Machine], lockstep: Lockstep, retreat: Retreat) -> None:
        """machines: as ``may_lead`` says."""
        self.machines = machines
        self.stretches = self.led = 0
        self.took = 0.0
        self._lockstep = lockstep
        self._retreat = retreat
        self._leader = next(m for m in machines if m.engine.traits.leads)
        self._followers = [m for m in machines if m is not self._leader]
        self._alarms: dict[Machine, Alarm] = {}
        self._leading = False  # machines have been led since RAM was last compared
        self._steps = WARM_UP  # steps to make before the next stretch
        self._after_trouble = AFTER_TROUBLE
        self._furthest = 0  # instructions before the furthest trouble
        self._traps = False  # the instruction at the rendezvous makes a trap core exit
        self._longest = LONGEST  # the longest stretch: less after trouble
        self._trouble = 0  # trouble was met before this many instructions
        self._tried = 0, 0  # the last trouble: its checkpoint, and the distance from there
        self._again = False  # it was met twice from one checkpoint, and has not been passed
        self._kept = 0, 0, 0  # instructions, stretches and led at the last checkpoint
        self._met = False  # machines are at an instruction that each has to step
        self._undefined: dict[int, int] = {}  # RIP -> status flags that are undefined there
        self._asks = 0  # the count at which steps have to show that some are, 0: nowhere
        self._discriminating: set[int] = set()  # pages that differed at a false rendezvous
        self._never_equal: set[int] = set()  # such pages that kept a follower from arriving

    @staticmethod
    def may_lead(machines: list[Machine]) -> bool:
        """Can exactly one of them lead, and all others follow?"""
        leaders = [m for m in machines if m.engine.traits.leads]
        following = [m.engine.traits.follows for m in machines if m not in leaders]
        return len(leaders) == 1 and bool(following) and all(following)

    def stop_before(self, addresses: frozenset[int]) -> None:
        """End stretches before instructions at these linear addresses, too."""
        self._leader.engine.stops = addresses

    def close(self) -> None:
        """Return to exact mode and release the alarms."""
        for alarm in self._alarms.values():
            alarm.close()
        self.pause()

    def pause(self) -> None:
        """Return to exact mode where the machines are."""
        self._met = False
        for machine in self.machines:
            machine.vmm.stopped_by = None
            if machine.vmm.patched is not None and machine.stop is not Stop.ERROR:
                with machine.failing_alone():
                    machine.vmm.patched.go_exact()

    def stretch(self) -> bool:
        """Advance all machines by one stretch. False: a single step has to be made instead."""
        if self._stretch():
            return True
        if self._leader.vmm.pure:  # a trap core shall execute what a patch would catch
            self.pause()
        return False

    def _stretch(self) -> bool:
        if self._steps > 0:
            self._steps -= 1
            return False
        try:
            here = self._leader.vmm.instructions
            since = here - self._kept[0]
            soon = self._longest < LONGEST and since >= FEW
            now = self._again and since >= max(FEW, self._trouble - here)  # half-way to the trouble
            if self._retreat.keep(led=self._leading, soon=soon, now=now):
                self._leading = False
                self._kept = here, self.stretches, self.led
        except (LostError, EngineError):
            self._go_back(false_rendezvous=True)
            return True
        if self._met:
            self._met = False
            return False
        limit = min(self._retreat.room(), *(_room(machine.vmm) for machine in self.machines))
        if limit < SHORTEST:
            return False
        limit = min(limit, self._longest)
        self._again &= here < self._trouble
        if (left := self._trouble - here) > 0:
            limit = min(limit, left // 2)
            if left < FEW:
                if self._trouble == self._asks:
                    self._trouble, self._asks, self._steps = 0, 0, left
                else:
                    self._step_on(left)
                return False
        if any(m.vmm.patched is not None and not m.vmm.patched.suits() for m in self._followers):
            return False
        if limit > 4 * TAIL:
            limit -= TAIL
        try:
            began = perf_counter()
            self._leading = True
            for machine in self._followers:
                if machine.vmm.patched is not None:
                    machine.vmm.patched.go_free(silent=True)
            self._go(limit)
            if not self._met:
                self.took, self._steps = perf_counter() - began, TAIL
        except (LostError, GuestFault, Unsupported, EngineError):
            self._go_back(false_rendezvous=self._lockstep.divergence is not None)
        return True

    def roll_back_divergence(self) -> bool:
        """After a divergence: go back to the last checkpoint and step from there, since stretches may
        have caused it (True). False: only steps led to it, and it stands."""
        if not self._leading:
            return False
        self._go_back(false_rendezvous=True)
        return True

    # One stretch

    def _go(self, limit: int) -> None:
        leader = self._leader
        vmm, accesses = leader.vmm, leader.board.accesses
        began = perf_counter()
        alarm = self._alarm(leader)  # with some code Unicorn translates for ever
        done = 0
        while True:
            part = min(limit - done, SLICE)
            alarm.set(perf_counter_ns() + self._wait_ns() + RUN_NS * part)
            exit = vmm.enter(leader.engine.lead, part)
            alarm.set(None)
            done += leader.engine.executed or 0
            if done == limit or not isinstance(exit, BudgetSpent):
                break
        leader.seconds += perf_counter() - began
        vmm.instructions += done
        vmm.ticks += done
        vmm.last_rip = UNKNOWN
        self._met = isinstance(exit, Intercept | Fault)
        self._traps = isinstance(exit, Fault) or (self._met and _traps(vmm))
        if leader.board.accesses != accesses or not isinstance(exit, Intercept | Fault | BudgetSpent):
            raise LostError  # steps find out which instruction accessed a device
        if done:
            for machine in self._followers:
                self._follow(machine, leader, done)
            self._compare()
            self.stretches += 1
            self.led += done
            if vmm.instructions >= self._trouble:
                self._longest = min(2 * self._longest, LONGEST)
            if vmm.instructions >= self._furthest + self._after_trouble:
                self._after_trouble = AFTER_TROUBLE

    def _compare(self) -> None:
        """Compare the machines at the rendezvous. Raises LostError where they differ."""
        cpus = [machine.cpu for machine in self.machines]
        first, differing = cpus[0], 0
        for cpu in cpus:
            differing |= (cpu.rflags ^ first.rflags) & ARITHMETIC_FLAGS
        if differing:
            undefined = self._undefined.get(first.rip, 0)
            if not self._met or differing & ~undefined == 0:
                for cpu in cpus:
                    cpu.rflags &= ~differing
            else:
                self._undefined[first.rip] = undefined | differing  # steps will show
        self._lockstep.after_stretch()
        if self._lockstep.divergence is not None:
            if self._lockstep.divergence.differs == ("rflags",) and self._met:
                self._asks = self._leader.vmm.instructions
            raise LostError

    def _follow(self, machine: Machine, leader: Machine, done: int) -> None:
        """Run a machine to the leader's instruction. Raises LostError."""
        began = perf_counter()
        alarm = self._alarm(machine)
        follower = Follower(machine, leader, alarm, self._discriminating, trapped=self._traps)
        try:
            follower.go(done, leader.cpu.gpr, self._wait_ns())
        except LostError:
            self._never_equal |= follower.unmet
            self._discriminating -= follower.unmet
            raise
        machine.seconds += perf_counter() - began
        machine.vmm.instructions += done
        machine.vmm.ticks += done
        machine.vmm.last_rip = UNKNOWN

    def _wait_ns(self) -> int:
        """Least wait for a follower, in ns; less after trouble, when a timeout costs one more
        stretch."""
        return WAIT_NS if self._longest == LONGEST else WAIT_NS // 8

    def _alarm(self, machine: Machine) -> Alarm:
        alarm = self._alarms.get(machine)
        if alarm is None:
            alarm = self._alarms[machine] = Alarm(machine.engine)
        return alarm

    def _go_back(self, *, false_rendezvous: bool = False) -> None:
        """Go back to the checkpoint, and plan shorter stretches up to the trouble met here and steps
        past it. false_rendezvous: the registers were equal and something else was not; if a page is
        found that distinguishes the right pass, the same stretch is tried again."""
        there = self._leader.vmm.instructions
        self._furthest = max(self._furthest, there)
        learned = false_rendezvous and self._learn()
        self.pause()
        back = self._retreat.go_back()
        self._leading = False
        self._lockstep.resume(back)
        _, self.stretches, self.led = self._kept
        if learned:
            return
        if there == self._asks and there != self._trouble:  # once
            self._trouble = there
            return
        far = there - back
        before, tried = self._tried
        if back == before and self._again:
            far = min(far, tried // 2)  # half as far each time, or this might never end
        self._again = back == before
        self._tried = back, far
        if far >= FEW:
            self._trouble, self._longest = back + far, far // 2
        else:
            self._step_on(there - back)

    def _step_on(self, distance: int) -> None:
        """Step this many instructions, and some more, before the next stretch."""
        self._trouble, self._longest = 0, min(self._longest, FEW)
        self._steps = distance + self._after_trouble
        self._after_trouble = min(2 * self._after_trouble, MOST_STEPS)

    def _learn(self) -> bool:
        """After a false rendezvous (in a recursion, say) find the first page that differs and add it to
        the discriminating ones. False: there is none, or it is known, or there are too many."""
        if len(self._discriminating) + len(self._never_equal) >= MOST_DISCRIMINATING:
            return False
        ours = RamImage.of(self._leader.ram)
        for machine in self._followers:
            for page in RamImage.of(machine.ram, ours).differing_pages(ours):
                if page in self._never_equal or Lockstep.same_page(page, self._leader, machine):
                    continue
                if page in self._discriminating:
                    return False
                self._discriminating.add(page)
                return True
        return False


def _traps(vmm: Vmm) -> bool:
    """Does the instruction at RIP make a trap core exit: is it sensitive, or accesses a device?"""
    insn = vmm.fetch()
    return insn.sensitivity is not Sensitivity.ORDINARY or any(
        accesses_device(vmm, gva) for gva, _, _ in next_accesses(insn, vmm.cpu)
    )


def _room(vmm: Vmm) -> int:
    """Instructions until an interrupt, a device event or the budget is due; 0 when one is due now."""
    cpu, board = vmm.cpu, vmm.board
    if vmm.stop is not None or cpu.rflags & (Flag.TF | Flag.RF) or cpu.interrupt_shadow:
        return 0
    if board.nmi_pending or (board.interrupt_pending and cpu.rflags & Flag.IF):
        return 0
    return min(vmm.budget - vmm.instructions - vmm.deliveries, board.deadline - vmm.ticks)
