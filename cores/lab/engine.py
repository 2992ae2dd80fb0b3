"""What a guest of the lab needs of its engine."""

from __future__ import annotations

from typing import Protocol

from cores.engines.base import Exit, Fault
from cores.x86.isa.instruction import Instruction
from cores.x86.mmu.paging import Mmu
from cores.x86.virtual_cpu import VirtualCpu


class LabEngine(Protocol):
    """The portable trap engine, or ``SteppedEngine``. See ``DeprivilegedEngine``, and
    ``PortableTrapEngine.take``; ``run`` counts, and stops at ``budget``."""

    space: int
    executed: int | None
    taken: frozenset[str]

    def take(self, mnemonics: frozenset[str]) -> None: ...

    def run(self, cpu: VirtualCpu, budget: int | None = None) -> Exit: ...

    def step(self, cpu: VirtualCpu) -> Exit: ...

    def corrected(self, fault: Fault, insn: Instruction, cpu: VirtualCpu, mmu: Mmu) -> Fault: ...

    def translate(self, space: int, gva: int) -> int | None: ...

    def map(
        self, space: int, gva: int, gpa: int, length: int, *, writable: bool, executable: bool
    ) -> bool: ...

    def unmap(self, space: int, gva: int, length: int) -> None: ...

    def drop_all(self) -> None: ...
