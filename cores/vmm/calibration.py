"""Calibration of the world switch: the time to enter a guest that does nothing and to leave it.

No clock of the host's can measure the moment at which a guest stops, so the time of an exit
(``ExitEvent.ns``) is a sum: the VMM's part is measured from one ``left`` to the next entry, and the two
world switches around it are measured here, on the same engine and CPU, before the guest begins. So a
figure means the same in exact and in free mode.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import pairwise
from time import perf_counter_ns

from cores.engines.base import KERNEL_SPACE, OUT_OF_LINE, DeprivilegedEngine, Engine, Fault, PortWrite
from cores.errors import RingscopeError
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.platform import FREE_RAM
from cores.pc.ram import PAGE
from cores.x86.mode import CODE_64, is_long
from cores.x86.registers import CS, Efer
from cores.x86.virtual_cpu import VirtualCpu

ROUND_TRIPS = 32
"""Entries measured; some 20 us each on trap:native."""
OUT_FOR_EVER = bytes.fromhex("e6e9 ebfc")
"""`1: out 0xe9, al; jmp 1b`: entered at the two instructions in turn, so that RIP has to be set each
time, as after an exit."""
JMP = 2
"""Offset of the JMP."""


def world_switch(engine: Engine, memory: PhysicalMemory, boot: VirtualCpu) -> int:
    """Nanoseconds to enter an empty guest and leave it: the lower quartile of some dozens of round
    trips, which other work of the host hardly changes. 0 for an engine without exits, and where the
    guest does not exit as it should (its own run will say why).

    To be called before the guest is first entered. boot: the state it begins in; not changed."""
    traits = engine.traits
    if not traits.exits_for or not (traits.native or traits.translates):
        return 0
    cpu, taken = boot.copy(), []
    if isinstance(engine, DeprivilegedEngine) and not is_long(cpu):
        # The page lies above 4 GiB. 16- and 32-bit code is entered and left in the same time.
        cpu.efer |= Efer.LMA
        cpu.segments[CS].attributes |= CODE_64
    with contextlib.suppress(RingscopeError, OSError), _empty_guest(engine, memory) as start:
        if isinstance(engine, DeprivilegedEngine) and engine.window() is not None:
            cpu.rip = start
            return _quartile(_at_a_known_site(engine, cpu))
        for trip in range(ROUND_TRIPS):
            cpu.rip = start + JMP * (trip % 2)
            before = perf_counter_ns()
            exit = engine.run(cpu)
            taken.append(perf_counter_ns() - before)
            if not isinstance(exit, Fault | PortWrite):
                return 0
        engine.settle(cpu)
    return _quartile(taken)


def _at_a_known_site(engine: Engine, cpu: VirtualCpu) -> list[int]:
    """The times between exits at one OUT, which ``run_known`` enters again at once, as a guest that
    runs freely is entered (cores/vmm/known_exits.py). The Python of ``run`` would add half as much."""
    left: list[int] = []

    def handler() -> bool:
        left.append(perf_counter_ns())
        return len(left) <= ROUND_TRIPS

    engine.run_known(cpu, {cpu.rip: handler})
    return [after - before for before, after in pairwise(left)]


def _quartile(taken: list[int]) -> int:
    return sorted(taken)[len(taken) // 4] if taken else 0


@contextlib.contextmanager
def _empty_guest(engine: Engine, memory: PhysicalMemory) -> Iterator[int]:
    """Put the code into a page for the duration of the block; gives its linear address."""
    deprivileged = isinstance(engine, DeprivilegedEngine)
    gpa = memory.ram.scratch if deprivileged else FREE_RAM.start
    before = bytes(memory.view[gpa : gpa + PAGE])
    memory.view[gpa : gpa + len(OUT_FOR_EVER)] = OUT_FOR_EVER
    if isinstance(engine, DeprivilegedEngine):
        engine.map(KERNEL_SPACE, OUT_OF_LINE.start, gpa, PAGE, writable=False, executable=True)
    try:
        yield OUT_OF_LINE.start if deprivileged else gpa
    finally:
        memory.view[gpa : gpa + PAGE] = before
        if isinstance(engine, DeprivilegedEngine):
            engine.drop_all()
        if engine.traits.translates:
            engine.memory_changed()
