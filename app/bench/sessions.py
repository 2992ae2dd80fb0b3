"""Machines side by side: lockstep, checkpoints and going back, memory."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from time import perf_counter

from cores.engines import registry
from cores.lockstep.leader import WARM_UP
from cores.lockstep.options import DEFAULT_CORES, Options
from cores.lockstep.session import Session
from cores.time_travel.history import INTERVAL, History

from . import bare, guests
from .execution import machine, step_rate
from .figures import Limit, Result, Run, Skipped, alone, paired, pinned

ROOT = Path(__file__).resolve().parents[2]
STEPS = 4_000
LED = 5_000_000


def lockstep() -> list[Result]:
    """All cores that run here, compared after each instruction: against each stepping alone, and, where
    trap:native is among them, against the exits of nothing but ptrace."""
    names = [registry.resolve(core) for core in DEFAULT_CORES]
    cores = [core for core in names if registry.availability(core).available]

    def together() -> float:
        with closing(Session(guests.compute(STEPS), Options())) as session:

            def step(turns: int) -> None:
                for _ in range(turns):
                    session.step()

            cost = bare.turn_cost(step, STEPS)
            if session.divergence is not None:
                raise RuntimeError(f"they diverge: {session.divergence}")
            return 1e6 / cost

    def one_by_one() -> float:
        return 1 / sum(1 / step_rate(core, STEPS) for core in cores)

    what = f"{', '.join(cores)}, compared at each step"
    limit = Limit("value", 10_000, least=True)
    baselines: dict[str, tuple[Run, Limit | None]] = {
        "the same steps, not compared": (one_by_one, limit)
    }
    with ExitStack() as stack:
        stack.enter_context(pinned())
        if "trap:native" in cores and bare.c_loops():
            loop = stack.enter_context(bare.ptrace_exits())
            least = Limit("ratio", 0.18, least=True) if len(cores) == 3 else None
            baselines["exits of a bare ptrace loop in C"] = (lambda: 1e6 / loop.c(STEPS), least)
        return paired("lockstep", what, "/s", together, baselines, times=3)


def led() -> list[Result]:
    """A long loop compared by meeting at its end, against comparing each of its steps."""
    cores = ("interpreter", "trap:native")
    for core in cores:
        here = registry.availability(core)
        if not here.available:
            return [Skipped("lockstep:led", here.reason or "it cannot run here")]

    def together(turns: int, budget: int) -> float:
        with closing(Session(guests.compute(turns), Options(cores=cores, budget=budget))) as session:
            began = perf_counter()
            session.run_to_end()
            if session.divergence is not None:
                raise RuntimeError(f"they diverge: {session.divergence}")
            return session.machines[0].vmm.instructions / (perf_counter() - began)

    limit = Limit("value", 500_000, least=True)
    baselines: dict[str, tuple[Run, Limit | None]] = {
        "each step compared": (lambda: together(1 << 20, WARM_UP), limit)
    }
    what = f"{' and '.join(cores)}, {LED:,} instructions without an exit"
    return paired("lockstep:led", what, "/s", lambda: together(LED // 5, LED + 3), baselines, times=3)


def snapshot() -> list[Result]:
    """A checkpoint of the interpreter against a plain copy of its RAM; and going back."""
    with closing(machine(guests.compute(1 << 30), "interpreter")) as guest:
        history = History(guest)
        for _ in range(10 * INTERVAL):
            history.step()
        view = guest.memory.view

        def checkpoint() -> float:
            began = perf_counter()
            history._checkpoint()
            return (perf_counter() - began) * 1e3

        def copy() -> float:
            began = perf_counter()
            bytes(view)
            return (perf_counter() - began) * 1e3

        def back() -> float:
            now = guest.vmm.instructions
            began = perf_counter()
            history.seek(now - 1)
            seconds = perf_counter() - began
            history.seek(now)
            return seconds * 1e3

        def anywhere() -> float:
            now = guest.vmm.instructions
            began = perf_counter()
            history.seek(now // 2 + INTERVAL // 2)
            seconds = perf_counter() - began
            history.seek(now)
            return seconds * 1e3

        return [
            *paired("snapshot", "a checkpoint, 16 MiB of RAM", "ms", checkpoint,
                    {"copying the RAM": (copy, None)}),
            alone("snapshot", "one step back", "ms", back),
            alone("snapshot", f"to the middle of {10 * INTERVAL:,} instructions", "ms", anywhere),
        ]  # fmt: skip


_IN_A_PROCESS = """
if {open}:
    from app.programs import load
    from cores.debugging.live_session import LiveSession
    from cores.lockstep.options import Options
    session = LiveSession(load("primes", 16 << 20), Options())
    session.snapshot()
    if {run}:
        session.run({run})
        session.snapshot()
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("VmRSS")))
if {open}:
    session.close()
"""


def _resident(open: bool, seconds: float) -> float:
    """MiB resident in a process of its own."""
    script = _IN_A_PROCESS.format(open=open, run=seconds)
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().rpartition("\n")[2])
    return int(done.stdout) / 1024


def memory() -> list[Result]:
    """Memory of a process with a session idle, and after a second of lockstep."""
    if not os.path.exists("/proc/self/status"):
        return [Skipped("memory", "this system has no /proc")]
    found: list[Result] = []
    for what, seconds in (("a session just opened", 0.0), ("after a second of lockstep", 1.0)):
        python: dict[str, tuple[Run, Limit | None]] = {
            "bare Python": (partial(_resident, False, 0), None)
        }
        found += paired("memory", what, "MiB", partial(_resident, True, seconds), python, times=3)
    return found
