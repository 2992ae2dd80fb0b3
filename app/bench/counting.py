"""The interpreter's free run, which counts exactly, between two others on the same Unicorn: one that
does not count, and one that asks Python about each instruction."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import closing
from functools import partial
from time import perf_counter
from typing import Any

from cores.engines.registry import availability
from cores.lockstep.options import Options
from cores.lockstep.session import start
from cores.programs.program import LOAD_ADDRESS, Program

from . import bare, guests
from .figures import Limit, Result, Skipped, paired

INSTRUCTIONS_A_TURN = 5
LONG, SHORT = 40_000_000, 100_000
"""Turns of the loop: a quarter of a second or more at the speed of each."""
RAM = 2 << 20


def counted(turns: int) -> float:
    """Millions of instructions a second of the interpreter core, counted exactly."""
    with closing(start(guests.compute(turns), "interpreter", Options())) as machine:
        machine.run_free(60)
        done = turns * INSTRUCTIONS_A_TURN + 2
        if machine.vmm.counted != done:
            raise RuntimeError(f"the interpreter counted {machine.vmm.counted}, not {done}")
        return done / machine.seconds / 1e6


class BareUnicorn:
    """A guest on Unicorn's own binding, in long mode without paging, as Unicorn starts."""

    def __init__(self, program: Program) -> None:
        self._unicorn: Any = importlib.import_module("unicorn")  # it ships no types
        self._registers: Any = importlib.import_module("unicorn.x86_const")
        code = program.segments[0].data
        self.end = LOAD_ADDRESS + len(code) - 2  # its last instruction writes to the exit port
        self.engine = self._unicorn.Uc(self._unicorn.UC_ARCH_X86, self._unicorn.UC_MODE_64)
        self.engine.mem_map(0, RAM)
        self.engine.mem_write(LOAD_ADDRESS, code)
        self.engine.reg_write(self._registers.UC_X86_REG_RSP, RAM - 8)

    def hook(self, callback: Callable[..., None]) -> None:
        """Call ``callback`` at each instruction."""
        self.engine.hook_add(self._unicorn.UC_HOOK_CODE, callback)

    def run(self) -> float:
        """Seconds to the end."""
        began = perf_counter()
        self.engine.emu_start(LOAD_ADDRESS, self.end)
        return perf_counter() - began

    def stop_often(self, count: int) -> None:
        """Enter, stop after an instruction, and read and write RIP, ``count`` times."""
        engine, rip_number = self.engine, self._registers.UC_X86_REG_RIP
        rip = LOAD_ADDRESS
        for _ in range(count):
            engine.emu_start(rip, self.end, count=1)
            rip = engine.reg_read(rip_number)
            engine.reg_write(rip_number, rip)


def uncounted(turns: int) -> float:
    """Run the guest on Unicorn alone, at full speed."""
    return (turns * INSTRUCTIONS_A_TURN + 1) / BareUnicorn(guests.compute(turns)).run() / 1e6


def hooked(turns: int) -> float:
    """Run the guest on Unicorn with a hook in Python at each instruction."""
    unicorn = BareUnicorn(guests.compute(turns))
    count = 0

    def on_instruction(*_: object) -> None:
        nonlocal count
        count += 1

    unicorn.hook(on_instruction)
    seconds = unicorn.run()
    return count / seconds / 1e6


def unicorn_stops(count: int) -> float:
    """Microseconds for Unicorn's own binding to enter, stop at an instruction, and move RIP on."""
    return bare.turn_cost(BareUnicorn(guests.speak(count // 8)).stop_often, count)


def counts() -> list[Result]:
    """Exact counts in a free run: what they cost."""
    here = availability("interpreter")
    if not here.available:
        return [Skipped("counts", here.reason or "it cannot run here")]
    return paired(
        "counts", "interpreter, free, counted exactly", "M/s", partial(counted, LONG),
        {
            "Unicorn, not counted": (partial(uncounted, LONG), Limit("ratio", 0.5, least=True)),
            "Unicorn, a Python hook at each": (partial(hooked, SHORT), Limit("ratio", 40, least=True)),
        },
        times=3,
    )  # fmt: skip
