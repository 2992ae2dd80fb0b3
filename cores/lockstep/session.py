"""Session: several machines with the same guest, run in exact lockstep or freely.

One thread owns a session and all its machines: ptrace binds a vCPU process to the thread that seized
it. Only an engine's ``interrupt`` may be called from another.
"""

from __future__ import annotations

import contextlib
from math import inf
from time import perf_counter

from cores.engines import registry
from cores.errors import EngineError, UnavailableError
from cores.lockstep.comparison import Lockstep
from cores.lockstep.leader import Copies, Lead
from cores.lockstep.options import DEFAULT_STEPS, Absent, Options
from cores.machine.machine import Machine
from cores.machine.pair import Pair
from cores.machine.report import Divergence
from cores.pc.devices.own_device import load_devices
from cores.pc.devices.storage.disk import Disk
from cores.pc.network.making import make_networks, make_other_end
from cores.pc.stop import Stop
from cores.programs.program import Program
from cores.programs.solo5 import named_disk
from cores.x86.registers import STATE_NAMES

_ERROR = Stop.ERROR


def start(program: Program, core: str, options: Options) -> Machine:
    """Make and boot a machine. Raises UnavailableError when the core cannot run here."""
    irqfd = options.free and not options.slow and bool(options.virtio)
    with contextlib.ExitStack() as unless_made:
        disks = []
        image = (program.path,) if program.format == "disk" else ()
        for given in (*image, *options.disks):
            called, path = named_disk(given) if program.format == "solo5" else ("", given)
            disks.append(Disk(path, write_through=options.disk_write, called=called))
            unless_made.callback(disks[-1].close)
        machine = Machine(
            program, registry.create(core), ram=options.ram or program.ram, disks=disks,
            input=options.input, clock=options.clock, until=options.until,
            pure=options.pure, slow=options.slow,
            devices=[kind for path in options.devices for kind in load_devices(path)],
            networks=make_networks(options.nets), virtio=options.virtio,
            polls=options.poll, given="screen" in options.give, irqfd=irqfd,
        )  # fmt: skip
        unless_made.pop_all()
    if options.other is not None and any(net.mode == "hub" for net in options.nets):
        try:
            second = Machine(
                options.other, registry.create(core), ram=options.other.ram,
                networks=make_other_end(options.nets), virtio=options.virtio, clock=options.clock,
                pure=options.pure, slow=options.slow, irqfd=irqfd,
            )  # fmt: skip
        except BaseException:
            machine.close()
            raise
        Pair(machine, second)
    return machine


class Session:
    """The machines of one comparison.

    machines: those that run. absent: cores that cannot run here. lockstep: compares them, and holds
    the first divergence. stretches, led: see ``Lead``.
    """

    def __init__(self, program: Program, options: Options) -> None:
        self.program = program
        self.options = options
        self.machines: list[Machine] = []
        self.absent: list[Absent] = []
        self.stretches = self.led = 0
        self._end = perf_counter() + (options.timeout or inf)
        try:
            for name in dict.fromkeys(map(registry.resolve, options.asked)):
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
        """Complete one more instruction on every machine, then compare them."""
        for machine in self.machines:
            if machine.stop is None:
                machine.step()
        self.compare_step()

    def compare_step(self) -> None:
        """Compare after every machine has made its step."""
        self._leave_failed()
        if self.lockstep.divergence is None and len(self.lockstep.machines) > 1:
            self.lockstep.after_step()

    def _leave_failed(self) -> None:
        """Take machines that stopped with an error out of the comparison, unless the user named
        cores."""
        if self.options.cores is None:
            failed = [m for m in self.lockstep.machines if m.vmm.stop is _ERROR]
            if failed:
                self.lockstep.leave(failed)

    @property
    def ended(self) -> bool:
        return all(machine.stop is not None for machine in self.machines)

    def run_to_end(self) -> None:
        """Exact mode: run in lockstep to the first divergence, then each machine until it stops."""
        late = self._late
        while not self.ended and self.divergence is None and not late():
            machines = self.lockstep.machines
            if Lead.may_lead(machines):
                with contextlib.closing(Lead(machines, self.lockstep, Copies(machines))) as lead:
                    self._go_together(lead)
                self.stretches += lead.stretches
                self.led += lead.led
            else:
                self.step()
        for machine in self.machines:
            while machine.stop is None and not late():
                machine.step()
            if machine.pair is not None:
                machine.pair.finish(late)
        self.lockstep.at_end()
        if self.divergence is None:
            self.lockstep.divergence = compare_others(self.lockstep.machines)

    def _late(self) -> bool:
        """Stop all machines where the user's limit of host time has passed."""
        if perf_counter() < self._end:
            return False
        for machine in self.machines:
            machine.vmm.stop = machine.vmm.stop or Stop.BUDGET
            if machine.pair is not None:
                other = machine.pair.second.vmm
                other.stop = other.stop or Stop.BUDGET
        return True

    def _go_together(self, lead: Lead) -> None:
        """Lead and step the same machines until they have stopped, diverged, or one has left."""
        machines = self.lockstep.machines
        while self.lockstep.machines is machines and not self._late():
            if not self.ended and not lead.stretch():
                self.step()
            if self.ended:
                self.lockstep.at_end()
            agree = self.divergence is None
            if (self.ended and agree) or not (agree or lead.roll_back_divergence()):
                return

    def run_free(self) -> None:
        """Free mode: run each machine by itself, one after the other, at full speed."""
        seconds = self.options.seconds
        for machine in self.machines:
            machine.run_free(seconds)
            machine.vmm.stop = machine.stop or Stop.BUDGET
            if machine.pair is not None:
                other = machine.pair.second.vmm
                other.stop = other.stop or Stop.BUDGET

    def close(self) -> None:
        """Close every machine; no process, descriptor or mapping remains."""
        while self.machines:
            with contextlib.suppress(EngineError):
                self.machines.pop().close()


def compare_outcomes(machines: list[Machine], options: Options) -> Divergence | None:
    """Equivalence in free mode: compare stop, exit status, console and screen. Where the time limit
    stopped a machine, consoles are compared as far as the shortest goes, and screens not."""
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


def compare_others(machines: list[Machine]) -> Divergence | None:
    """Compare the other machines of pairs at their ends, in exact mode: all of what lockstep compares,
    once."""
    others = {m.core: m.pair.second for m in machines if m.pair is not None}
    if len(others) < 2:
        return None
    ends = {
        core: _outcome(other) | {
            "instructions": other.vmm.instructions,
            **dict(zip(STATE_NAMES, other.cpu.state(), strict=True)),
            "memory_sha256": other.memory_image().sha256(),
        }
        for core, other in others.items()
    }  # fmt: skip
    first = next(iter(ends.values()))
    names = [name for name in first if len({end[name] for end in ends.values()}) > 1]
    if not names:
        return None
    values = {core: {f"with:{name}": end[name] for name in names} for core, end in ends.items()}
    other = next(iter(others.values()))
    return Divergence(
        other.vmm.instructions, other.cpu.rip, None, tuple(f"with:{name}" for name in names), values
    )


def _outcome(machine: Machine) -> dict[str, int | str | None]:
    return {
        "console": machine.console(),
        "screen": machine.board.screen(),
        "stop": machine.vmm.stop,
        "exit_status": machine.vmm.exit_status,
    }
