"""One guest on each engine that runs here; this directory's tests hold all engines to one contract."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

import pytest

from cores.engines import registry
from cores.engines.base import STEPPED, DeprivilegedEngine, Engine, Exit, Failed
from cores.pc.boot.long_mode import boot
from cores.pc.physical_memory import HOLE, PhysicalMemory
from cores.pc.platform import INITIAL_FPU
from cores.pc.ram import Ram
from cores.programs.program import Program, Segment
from cores.x86.virtual_cpu import VirtualCpu

ENGINES = {
    "interpreter": "cores.engines.unicorn.interpreter:InterpreterEngine",
    "trap:portable": "cores.engines.portable.engine:PortableTrapEngine",
    "trap:native": "cores.engines.ptrace.engine:PtraceEngine",
    "kvm": "cores.engines.kvm.engine:KvmEngine",
}
CODE = 0x100000
DATA = 0x200000
RAM_BYTES = 4 << 20


@dataclass
class Guest:
    """The platform's boot state, on one engine. CODE and DATA: addresses of its code and data."""

    engine: Engine
    memory: PhysicalMemory
    cpu: VirtualCpu

    def code(self, code: bytes, at: int = CODE) -> None:
        """Write code there, and set RIP to it."""
        self.memory.write(at, code)
        self.cpu.rip = at

    def steps(self, count: int = 1) -> None:
        """Complete so many instructions; for an engine at ring 3, map the pages first."""
        for _ in range(count):
            exit = self.engine.step(self.cpu)
            if isinstance(exit, Failed) and self.engine.traits.core == "kvm":
                pytest.skip(exit.reason)  # a KVM that interprets ring 0, and lacks this instruction
            assert exit == STEPPED, exit

    def refused(self) -> Exit:
        """A step that must fault and change nothing."""
        before = self.cpu.copy()
        exit = self.engine.step(self.cpu)
        assert exit != STEPPED
        assert self.cpu.state() == before.state()
        return exit


def open_guest(name: str) -> Guest:
    module, _, attribute = ENGINES[name].partition(":")
    try:
        cls = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        pytest.skip(f"{name}: {error}")
    if reason := cls.probe():
        pytest.skip(f"{name}: {reason}")
    engine = registry.create(name)
    memory, cpu = PhysicalMemory(Ram(RAM_BYTES)), VirtualCpu()
    boot(Program("-", "flat", CODE, (Segment(CODE, b"\x90", 1),), ""), memory, cpu)
    engine.load(memory)
    engine.write_fpu(INITIAL_FPU)
    if isinstance(engine, DeprivilegedEngine):
        for start, stop in ((0x10000, HOLE.start), (HOLE.stop, RAM_BYTES)):
            assert engine.map(0, start, start, stop - start, writable=True, executable=True)
    return Guest(engine, memory, cpu)
