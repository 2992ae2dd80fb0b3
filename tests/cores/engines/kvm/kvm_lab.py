"""Tiny guests on the real /dev/kvm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from cores.engines.base import Exit, Interrupted
from cores.engines.kvm import KvmEngine, capabilities
from cores.pc.boot.long_mode import boot
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.platform import INITIAL_FPU
from cores.pc.ram import Ram
from cores.programs.program import Program, Segment
from cores.x86.virtual_cpu import VirtualCpu

ENTRY = 0x100000
RAM = 2 << 20


@dataclass
class Guest:
    """A booted guest: engine, memory, cpu."""

    engine: KvmEngine
    memory: PhysicalMemory
    cpu: VirtualCpu

    def run(self) -> Exit:
        return self.engine.run(self.cpu)

    def run_on(self) -> Exit:
        """Run until the engine comes back with a reason."""
        while isinstance(exit := self.run(), Interrupted):
            pass
        return exit

    def step(self) -> Exit:
        return self.engine.step(self.cpu)

    def close(self) -> None:
        self.engine.close()
        self.memory.ram.close()


MakeGuest = Callable[[str], Guest]


def start(source: str, *, irqfd: bool = False) -> Guest:
    """Assemble, boot, load. irqfd: as for a machine whose interrupts may come by one."""
    keystone = pytest.importorskip("keystone", reason="Keystone assembles these guests")
    assembler = keystone.Ks(keystone.KS_ARCH_X86, keystone.KS_MODE_64)
    code = bytes(assembler.asm(source, ENTRY)[0])
    memory, cpu, engine = PhysicalMemory(Ram(RAM)), VirtualCpu(), KvmEngine(capabilities.host())
    boot(Program("test", "asm", ENTRY, (Segment(ENTRY, code, len(code)),), ""), memory, cpu)
    engine.wants_irqfd = irqfd
    try:
        engine.load(memory)
        engine.write_fpu(INITIAL_FPU)
    except BaseException:
        engine.close()
        memory.ram.close()
        raise
    return Guest(engine, memory, cpu)
