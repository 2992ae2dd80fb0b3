"""Entering the guest and leaving it: direct execution, exits, exact steps."""

from __future__ import annotations

from contextlib import ExitStack, closing
from itertools import pairwise
from statistics import median
from time import perf_counter_ns

from cores.engines import registry
from cores.lockstep.options import Options
from cores.lockstep.session import start
from cores.machine.machine import Machine
from cores.pc.stop import Stop
from cores.programs.program import Program

from . import bare, guests
from .figures import Limit, Result, Run, Skipped, alone, paired, pinned

TURNS = 1_000_000_000
CONSOLE = 0xE9
EXITS = 8_000
CORES = {
    "interpreter": "interpreter", "native": "trap:native", "portable": "trap:portable", "kvm": "kvm",
}  # fmt: skip
STEPS = {"interpreter": 100_000, "native": 15_000, "portable": 80_000, "kvm": 20_000}


def _refusal(name: str, core: str) -> Skipped | None:
    here = registry.availability(core)
    return None if here.available else Skipped(name, here.reason or "it cannot run here")


def machine(program: Program, core: str) -> Machine:
    return start(program, core, Options())


def _free(program: Program, core: str) -> Machine:
    """Run freely to its end; gives the machine, closed."""
    with closing(machine(program, core)) as guest:
        guest.run_free(60)
        if guest.stop is None or guest.stop.value != "exit":
            raise RuntimeError(f"{core}: {program.path} ended with {guest.stop}: {guest.vmm.reason}")
    return guest


def direct() -> list[Result]:
    """A guest's loop on the native core against the same loop called in this process."""
    if refusal := _refusal("direct", "trap:native"):
        return [refusal]
    program = guests.spin(TURNS)
    return paired(
        "direct", f"{TURNS:.0e} turns of dec/jnz, trap:native, free".replace("e+0", "e"), "s",
        lambda: _free(program, "trap:native").seconds,
        {"the loop called as a function": (lambda: bare.spin(TURNS), Limit("ratio", 1.03))},
        times=3,
    )  # fmt: skip


def direct_kvm() -> list[Result]:
    """The same loop on KVM, for as many turns as take a tenth of a second. With hardware support it is
    the CPU's own speed; a KVM without interprets ring 0 (cores/engines/kvm/capabilities.py)."""
    name = "direct:kvm"
    if refusal := _refusal(name, "kvm"):
        return [refusal]
    turns = 1_000
    while turns < TURNS and _free(guests.spin(turns), "kvm").seconds < 0.1:
        turns *= 10
    return paired(
        name, "a turn of dec/jnz in ring 0, kvm, free", "ns",
        lambda: _free(guests.spin(turns), "kvm").seconds / turns * 1e9,
        {"the loop called as a function": (lambda: bare.spin(TURNS) / TURNS * 1e9, None)},
        times=3,
    )  # fmt: skip


def _exit_cost(core: str) -> float:
    """Microseconds from one exit to the next, by the clock on the wall: the median of short batches
    (``bare.BATCH``), between which the guest's console notes the time."""
    ends: list[int] = []
    with closing(machine(guests.speak(EXITS // 8), core)) as guest:
        console = guest.board.bus.whole[CONSOLE << 3 | 1]
        write, left = console.write, 0

        def noting(port: int, size: int, value: int) -> None:
            nonlocal left
            write(port, size, value)
            left -= 1
            if left <= 0:
                left = bare.BATCH
                ends.append(perf_counter_ns())

        console.write = noting  # type: ignore[method-assign]
        guest.run_free(60)
        if guest.stop is not Stop.EXIT:
            raise RuntimeError(f"{core}: the guest ended with {guest.stop}: {guest.vmm.reason}")
    return median(end - begin for begin, end in pairwise(ends)) / bare.BATCH / 1e3


def native_exit() -> list[Result]:
    """An exit of trap:native, all included, against a bare ptrace loop on the same CPU."""
    name = "exit:native"
    if refusal := _refusal(name, "trap:native"):
        return [refusal]
    with pinned(), bare.ptrace_exits() as loop:
        baselines: dict[str, tuple[Run, Limit | None]] = {
            "bare ptrace loop in Python": (lambda: loop.python(EXITS), None),
        }
        if bare.c_loops():
            baselines["bare ptrace loop in C"] = (lambda: loop.c(EXITS), Limit("ratio", 1.35))
        return paired(
            name, "one exit, all included", "µs", lambda: _exit_cost("trap:native"), baselines
        )


def portable_exit() -> list[Result]:
    """An exit of the stand-in, whose bare mechanism is an emulator's stop in Python."""
    name = "exit:portable"
    if refusal := _refusal(name, "trap:portable"):
        return [refusal]
    from .counting import unicorn_stops

    baselines: dict[str, tuple[Run, Limit | None]] = {
        "stop, read and write RIP in Unicorn's binding": (lambda: unicorn_stops(EXITS), None)
    }
    with pinned():
        return paired(
            name, "one exit, all included", "µs", lambda: _exit_cost("trap:portable"), baselines
        )


def kvm_exit() -> list[Result]:
    """An exit of KVM, with the VMM's part, against bare KVM_RUN on a vCPU in the same state."""
    name = "exit:kvm"
    if refusal := _refusal(name, "kvm"):
        return [refusal]
    from cores.engines.kvm.engine import KvmEngine

    with ExitStack() as stack:
        stack.enter_context(pinned())
        guest = stack.enter_context(closing(machine(guests.speak(1 << 30), "kvm")))
        assert isinstance(guest.engine, KvmEngine)
        guest.engine.run(guest.cpu)  # to its first OUT; from there on KVM_RUN goes from one to the next
        vcpu = guest.engine.fd
        baselines: dict[str, tuple[Run, Limit | None]] = {
            "bare KVM_RUN in Python": (lambda: bare.kvm_exits(vcpu, EXITS), Limit("ratio", 2.5)),
        }
        if bare.c_loops():
            in_c = Limit("ratio", 1.35)
            baselines["bare KVM_RUN in C"] = (lambda: bare.kvm_exits_in_c(vcpu, EXITS), in_c)
        return paired(name, "one exit, all included", "µs", lambda: _exit_cost("kvm"), baselines)


def step_rate(core: str, steps: int) -> float:
    """Instructions a second in exact mode, alone, by the median of short batches (``bare.BATCH``)."""
    with closing(machine(guests.compute(steps), core)) as guest:

        def step(turns: int) -> None:
            for _ in range(turns):
                guest.step()

        return 1e6 / bare.turn_cost(step, steps)


def steps(kind: str) -> list[Result]:
    """Exact stepping of one core."""
    name, core = f"step:{kind}", CORES[kind]
    if refusal := _refusal(name, core):
        return [refusal]
    count = STEPS[kind]
    step_rate(core, count // 10)
    return [alone(name, "exact steps", "/s", lambda: step_rate(core, count), times=3)]


def native_steps() -> list[Result]:
    """Exact stepping of trap:native, all included, against nothing but the kernel's single step."""
    name, core = "step:native", "trap:native"
    if refusal := _refusal(name, core):
        return [refusal]
    count = STEPS["native"]
    with pinned(), bare.ptrace_exits(bare.NOPS_FOR_EVER) as loop:
        baselines: dict[str, tuple[Run, Limit | None]] = {
            "bare PTRACE_SINGLESTEP loop in Python": (
                lambda: 1e6 / loop.steps(count), Limit("ratio", 1.5, least=True)
            ),
        }  # fmt: skip
        return paired(name, "exact steps", "/s", lambda: step_rate(core, count), baselines, times=3)
