"""Lead and follow: lockstep without stepping.

Two machines can be compared wherever they have completed equally many instructions; that takes no
single steps. The interpreter, which counts exactly at full speed, leads: it runs to the next
instruction that is sensitive, or faults, or at which a timer is due. The others follow:

    checkpoint (all states, all RAM)              meeting place
    interpreter  o======== full speed, counted ========>o- step ->
    trap core    o======== full speed, patched ========>o- step ->  the trap itself stops it
    real CPUs    o===>:===>:=== breakpoint passed =====>o- step ->  where nothing traps, until its
                 ^                                      |           registers are the leader's
                 |                                      | equal: go on from here
                 +------ all go back and step <---------+ else: so a step names every divergence

The instruction at the meeting place is stepped by all of them as ever, so exits, their order and
their counts are those of exact mode. 1,000,000 instructions of a loop take 0.1 s in place of 80.

Where anything is unusual, or differs, nothing is concluded: all machines go back to the last
checkpoint, and come half as far at a time, with all of RAM compared each time, until what is left to
where it was met are a few hundred instructions. These are stepped. So it is always a step that names
a divergence; 20 million instructions are halved 15 times, where to step them takes half an hour.

What is lost: flags that the SDM leaves undefined are each CPU's own here, while a step settles them.
A guest that looks at them differs, is stepped, and is found equal; or all agree on another value.
"""

from __future__ import annotations

from time import perf_counter, perf_counter_ns
from typing import Protocol

from cores.engines.base import BudgetSpent, Fault, Intercept
from cores.errors import EngineError
from cores.lockstep.comparison import Lockstep
from cores.lockstep.follower import RUN_NS, WAIT_NS, Follower, LostError
from cores.machine.machine import Machine, MachineState
from cores.pc.ram_image import RamImage
from cores.pc.stop import Stop
from cores.vmm.free_run import Alarm
from cores.vmm.vmm import Vmm
from cores.x86.faults import GuestFault, Unsupported
from cores.x86.isa.instruction import Sensitivity
from cores.x86.registers import Flag

WARM_UP = 2_000
"""Instructions that are stepped first: most guests are shorter, and stay as simple as they are."""
SHORTEST = 64
"""A stretch of fewer instructions is stepped: to lead costs as much as some ten steps."""
LONGEST = 20_000_000
CHECKPOINT_SECONDS = 0.25
"""Between checkpoints at least: one copies all RAM that was touched, some 0.2 ms a MiB and machine."""
MOST_DISCRIMINATING = 8
"""Pages that may have to tell one pass from another."""
FEW = 512
"""So few instructions before trouble are stepped: to compare all of RAM once more costs as much."""
AFTER_TROUBLE, MOST_STEPS = 1_000, 64_000
"""Steps before leading is tried again: twice as many each time that it fails at once."""


class Retreat(Protocol):
    """Where machines go back to when to lead them has failed."""

    def keep(self, *, led: bool, soon: bool) -> bool:
        """A stretch is about to begin: take a checkpoint if it is time. led: what has come since the
        last was not all stepped, so that RAM has to be compared. soon: there was trouble, so now would
        be better than later. True: one was taken here, and all of RAM is equal.
        Raises LostError where RAM differs from machine to machine."""

    def room(self) -> int:
        """How many instructions the stretch may have."""

    def go_back(self) -> int:
        """To the last checkpoint at which all was well; gives the instructions completed there."""


class Copies:
    """One checkpoint of all machines, with a copy of their RAM, and a new one now and then."""

    def __init__(self, machines: list[Machine]) -> None:
        self._machines = machines
        self._states: tuple[MachineState, ...] = ()
        self._ram: tuple[RamImage, ...] = ()
        self._due = 0.0

    def keep(self, *, led: bool, soon: bool) -> bool:
        began = perf_counter()
        if self._states and began < self._due and not soon:
            return False
        first = RamImage.of(self._machines[0].ram, self._ram[0] if self._ram else None)
        ram = (first, *(RamImage.of(m.ram, first) for m in self._machines[1:]))
        if any(image != ram[0] for image in ram[1:]) and not self._alike():
            raise LostError
        self._states, self._ram = tuple(m.save() for m in self._machines), ram
        now = perf_counter()
        self._due = now + max(CHECKPOINT_SECONDS, 10 * (now - began))
        return True

    def _alike(self) -> bool:
        """Is all of RAM equal but for what only a CPU's own pace decides?"""
        first = self._machines[0].memory_image()
        return all(machine.memory_image(first) == first for machine in self._machines[1:])

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
    """Takes machines that are in lockstep further than a step.

    stretches, led: how many there were, and the instructions completed in them. took: seconds of
    the last that nothing but its limit has ended; 0 when that is known.
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
        self._leading = False  # have they been led since RAM was last compared?
        self._steps = WARM_UP  # to go before the next stretch
        self._after_trouble = AFTER_TROUBLE
        self._traps = False  # of what stands at the meeting place: does it leave a trap core?
        self._longest = LONGEST  # that a stretch may be: less after trouble
        self._trouble = 0  # it was met before so many instructions were completed
        self._tried = 0, 0  # the last trouble: where all went back to, and how far it was from there
        self._kept = 0, 0, 0  # instructions, stretches and led at the last checkpoint
        self._met = False  # at an instruction that every machine has to step
        self._discriminating: set[int] = set()  # pages that differed where only the registers had met
        self._never_equal: set[int] = set()  # such pages that have kept a follower from arriving

    @staticmethod
    def may_lead(machines: list[Machine]) -> bool:
        """Is one of them able to lead, and all others to follow?"""
        leaders = [m for m in machines if m.engine.traits.leads]
        following = [m.engine.traits.follows for m in machines if m not in leaders]
        return len(leaders) == 1 and bool(following) and all(following) and not machines[0].vmm.pure

    def close(self) -> None:
        """Back to exact mode, for good."""
        for alarm in self._alarms.values():
            alarm.close()
        self.pause()

    def pause(self) -> None:
        """Back to exact mode, where the machines are."""
        self._met = False
        for machine in self.machines:
            if machine.vmm.patched is not None and machine.stop is not Stop.ERROR:
                with machine.failing_alone():
                    machine.vmm.patched.go_exact()

    def stretch(self) -> bool:
        """Go on together for as long as nothing happens. False: a single step has to be made now."""
        if self._steps > 0:
            self._steps -= 1
            return False
        try:
            here = self._leader.vmm.instructions
            soon = self._longest < LONGEST and here - self._kept[0] >= FEW
            if self._retreat.keep(led=self._leading, soon=soon):
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
        if (left := self._trouble - here) > 0:
            limit = min(limit, left // 2)
            if left < FEW:
                self._step_on(left)
                return False
        try:
            began = perf_counter()
            self._leading = True
            for machine in self._followers:
                if machine.vmm.patched is not None:
                    machine.vmm.patched.go_free(silent=True)
            self._go(limit)
            if not self._met:
                self.took = perf_counter() - began
        except (LostError, GuestFault, Unsupported, EngineError):
            self._go_back(false_rendezvous=self._lockstep.divergence is not None)
        return True

    def roll_back_divergence(self) -> bool:
        """A divergence has been found. True: it may be the leading's own, so that all machines are at
        the last checkpoint again, and step from there. False: it was found by steps alone."""
        if not self._leading:
            return False
        self._go_back(false_rendezvous=True)
        return True

    # One stretch

    def _go(self, limit: int) -> None:
        leader = self._leader
        vmm, accesses = leader.vmm, leader.board.accesses
        began = perf_counter()
        alarm = self._alarm(leader)  # some code keeps Unicorn translating for ever
        alarm.set(perf_counter_ns() + self._wait_ns() + RUN_NS * limit)
        exit = leader.engine.lead(leader.cpu, limit)
        alarm.set(None)
        leader.seconds += perf_counter() - began
        done = leader.engine.executed or 0
        vmm.instructions += done
        vmm.ticks += done
        self._met = isinstance(exit, Intercept | Fault)
        self._traps = isinstance(exit, Fault) or (self._met and _is_sensitive(vmm))
        if leader.board.accesses != accesses or not isinstance(exit, Intercept | Fault | BudgetSpent):
            raise LostError  # which instruction it was that asked a device is found out step by step
        if done:
            for machine in self._followers:
                self._follow(machine, leader, done)
            self._lockstep.after_stretch()
            if self._lockstep.divergence is not None:
                raise LostError
            self.stretches += 1
            self.led += done
            if vmm.instructions >= self._trouble:
                self._longest = min(2 * self._longest, LONGEST)
            if done >= self._after_trouble:
                self._after_trouble = AFTER_TROUBLE

    def _follow(self, machine: Machine, leader: Machine, done: int) -> None:
        """Take a machine to where the leader is. Raises LostError."""
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

    def _wait_ns(self) -> int:
        """Less after trouble: who is given up too early only has to come by two stretches."""
        return WAIT_NS if self._longest == LONGEST else WAIT_NS // 8

    def _alarm(self, machine: Machine) -> Alarm:
        alarm = self._alarms.get(machine)
        if alarm is None:
            alarm = self._alarms[machine] = Alarm(machine.engine)
        return alarm

    def _go_back(self, *, false_rendezvous: bool = False) -> None:
        """To the checkpoint, and on in shorter stretches until what was met here is near, then by
        steps until it is behind. false_rendezvous: they have met, it seemed; so they are led once more
        when something tells the right pass from that one."""
        there = self._leader.vmm.instructions
        learned = false_rendezvous and self._learn()
        self.pause()
        back = self._retreat.go_back()
        self._leading = False
        self._lockstep.resume(back)
        _, self.stretches, self.led = self._kept
        if learned:
            return
        far = there - back
        before, tried = self._tried
        if back == before:
            far = min(far, tried // 2)  # half as far each time, or this might never end
        self._tried = back, far
        if far >= FEW:
            self._trouble, self._longest = back + far, far // 2
        else:
            self._step_on(there - back)

    def _step_on(self, distance: int) -> None:
        """Lead no more before so many instructions are completed, and some more."""
        self._trouble, self._longest = 0, min(self._longest, FEW)
        self._steps = distance + self._after_trouble
        self._after_trouble = min(2 * self._after_trouble, MOST_STEPS)

    def _learn(self) -> bool:
        """Registers alone were the same at another pass (in a recursion, say): find the first page
        that was not. False: there is none, or it is known, or there are too many."""
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


def _is_sensitive(vmm: Vmm) -> bool:
    return vmm.fetch().sensitivity is not Sensitivity.ORDINARY


def _room(vmm: Vmm) -> int:
    """How many instructions may be led before something is due; 0 when it is now."""
    cpu, board = vmm.cpu, vmm.board
    if vmm.stop is not None or cpu.rflags & (Flag.TF | Flag.RF) or cpu.interrupt_shadow:
        return 0
    if board.interrupt_pending and cpu.rflags & Flag.IF:
        return 0
    return min(vmm.budget - vmm.instructions - vmm.deliveries, board.deadline - vmm.ticks)
