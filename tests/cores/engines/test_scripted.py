"""The scripted engine plays its script."""

from __future__ import annotations

from cores.engines.base import BUDGET_SPENT, INTERRUPTED, KERNEL_SPACE, STEPPED, Fault
from cores.engines.scripted import ScriptedEngine, ScriptedTrapEngine, Turn
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.ram import Ram
from cores.x86.registers import RBX
from cores.x86.virtual_cpu import VirtualCpu


def test_plays_its_script() -> None:
    """Exits, register changes and stores come in the script's order; after it the guest executes
    NOPs."""
    memory, cpu = PhysicalMemory(Ram(4096)), VirtualCpu(rip=0x100)
    fault = Fault(14, 2, 0x500)
    engine = ScriptedEngine([Turn(changes={"rbx": 7, "rip": 0x105}, stores=((8, b"hi"),)), Turn(fault)])
    engine.load(memory)
    assert engine.step(cpu) == STEPPED
    assert (cpu.gpr[RBX], cpu.rip, memory.read(8, 2)) == (7, 0x105, b"hi")
    assert engine.step(cpu) == fault
    assert engine.step(cpu) == STEPPED
    assert cpu.rip == 0x106
    assert engine.entered == [0x100, 0x105, 0x105]
    memory.ram.close()


def test_runs_and_is_interrupted() -> None:
    """Runs count as scripted, use up budgets, and return when interrupted."""
    engine, cpu = ScriptedEngine([Turn(Fault(6), executed=12)]), VirtualCpu()
    assert engine.run(cpu) == Fault(6)
    assert engine.executed == 12
    assert engine.run(cpu, 5) == BUDGET_SPENT
    assert (engine.executed, cpu.rip) == (5, 5)
    engine.interrupt()
    assert engine.run(cpu, 5) == INTERRUPTED


def test_remembers_mappings() -> None:
    """The deprivileged variant records the mappings that the VMM made."""
    engine = ScriptedTrapEngine()
    engine.unreachable = range(0x1000)
    assert not engine.map(KERNEL_SPACE, 0, 0, 4096, writable=True, executable=False)
    assert engine.map(KERNEL_SPACE, 0x5000, 0x7000, 4096, writable=True, executable=False)
    assert engine.mappings == {(KERNEL_SPACE, 0x5000): (0x7000, 4096, True, False)}
    engine.unmap(KERNEL_SPACE, 0x5000, 4096)
    assert not engine.mappings
