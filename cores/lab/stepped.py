"""The lab's guest on this computer's own CPU: at ring 3, an instruction at a time.

A CPU does not count the instructions that it executes on its own, and does not stop before one that it
executes silently. Stepped by ptrace it does both, so that the exits, and virtual time, are those of the
portable engine. What the silent ones give, where a VMM has not had them patched, is this CPU's.
"""

from __future__ import annotations

from cores.engines.base import (
    BUDGET_SPENT,
    INTERCEPT,
    DeprivilegedEngine,
    Exit,
    Fault,
    Stepped,
)
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.ram import PAGE
from cores.x86.faults import GuestFault
from cores.x86.isa.decoder import Truncated, decode
from cores.x86.isa.encoding import LONGEST
from cores.x86.isa.instruction import Immediate, Instruction, Sensitivity
from cores.x86.mmu.paging import Mmu
from cores.x86.mode import code_bits
from cores.x86.registers import MASK32, PageFault, Vector
from cores.x86.virtual_cpu import VirtualCpu

_WRITABLE, _EXECUTABLE = 1, 2
_TIME = frozenset({"rdtsc", "rdtscp"})


class SteppedEngine:
    """Steps ``engine``. The rest: see ``LabEngine``."""

    def __init__(self, engine: DeprivilegedEngine, cpu: VirtualCpu) -> None:
        """cpu: the guest's, whose mode decides where its linear address 0 is."""
        self._engine, self._cpu = engine, cpu
        self.space = 0
        self.executed: int | None = 0
        self.taken: frozenset[str] = frozenset()
        self._pages: dict[tuple[int, int], tuple[int, int]] = {}  # (space, page): (GPA, rights)
        engine.pure = True

    def load(self, memory: PhysicalMemory) -> None:
        self._engine.load(memory)
        self._memory = memory

    def write_fpu(self, image: bytes) -> None:
        self._engine.write_fpu(image)

    def take(self, mnemonics: frozenset[str]) -> None:
        self.taken = mnemonics

    def corrected(self, fault: Fault, insn: Instruction, cpu: VirtualCpu, mmu: Mmu) -> Fault:
        return fault

    def run(self, cpu: VirtualCpu, budget: int | None = None) -> Exit:
        self.executed = done = 0
        while budget is None or done < budget:
            exit = self._before(self._instruction(cpu)) or self.step(cpu)
            if not isinstance(exit, Stepped):
                return exit
            done += 1
            self.executed = done
        return BUDGET_SPENT

    def step(self, cpu: VirtualCpu) -> Exit:
        self._engine.space = self.space
        exit = self._engine.step(cpu)
        if isinstance(exit, Fault) and exit.vector == Vector.PF and exit.address is not None:
            # None: the engine had removed a page, to step on a copy of it.
            return self._page_fault(exit.address, cpu) or self.step(cpu)
        return exit

    def _page_fault(self, address: int, cpu: VirtualCpu) -> Fault | None:
        """The fault with its error code; None where the page is mapped and permits the access."""
        place = self._place(address, cpu)
        write = self._engine.fault_was_write(cpu)
        physical, rights = self._pages.get((self.space, address & -PAGE), (None, 0))
        fetch = address == cpu.rip
        if physical is not None and (rights & _WRITABLE or not write):
            self._engine.map(
                self.space, place & -PAGE, physical, PAGE, writable=bool(rights & _WRITABLE),
                executable=bool(rights & _EXECUTABLE),
            )  # fmt: skip
            if not fetch or rights & _EXECUTABLE:
                return None
        error = PageFault.U | (PageFault.P if physical is not None else 0)
        error |= (PageFault.W if write else 0) | (PageFault.I if fetch else 0)
        return Fault(Vector.PF, error, address)

    def _before(self, insn: Instruction | None) -> Exit | None:
        """The exit at an instruction that the CPU is not to execute, None at others."""
        if insn is None or insn.sensitivity is Sensitivity.ORDINARY:
            return None
        if insn.mnemonic in self.taken and insn.sensitivity is not Sensitivity.PRIVILEGED:
            return INTERCEPT
        if insn.mnemonic in _TIME:
            return Fault(Vector.GP, 0)  # as with CR4.TSD
        if insn.mnemonic == "int" and isinstance(insn.operands[0], Immediate):
            return Fault(Vector.GP, (insn.operands[0].value & 0xFF) * 8 + 2)
        return None

    def _instruction(self, cpu: VirtualCpu) -> Instruction | None:
        code = b""
        while len(code) < LONGEST:
            at = cpu.rip + len(code)
            physical = self.translate(self.space, at)
            if physical is None:
                break
            code += self._memory.view[physical : physical + min(LONGEST - len(code), PAGE - at % PAGE)]
        try:
            return decode(code, code_bits(cpu))
        except (GuestFault, Truncated):
            return None

    # The mappings

    def _place(self, address: int, cpu: VirtualCpu) -> int:
        origin = self._engine.origin(cpu)
        return address + origin & MASK32 if origin else address

    def translate(self, space: int, gva: int) -> int | None:
        found = self._pages.get((space, gva & -PAGE))
        return None if found is None else found[0] + gva % PAGE

    def map(
        self, space: int, gva: int, gpa: int, length: int, *, writable: bool, executable: bool
    ) -> bool:
        rights = writable * _WRITABLE | executable * _EXECUTABLE
        place = self._place(gva, self._cpu)
        if not self._engine.map(space, place, gpa, length, writable=writable, executable=executable):
            return False
        self._pages |= {(space, gva + at): (gpa + at, rights) for at in range(0, length, PAGE)}
        return True

    def unmap(self, space: int, gva: int, length: int) -> None:
        for at in range(gva, gva + length, PAGE):
            if self._pages.pop((space, at), None) is not None:
                self._engine.unmap(space, self._place(at, self._cpu), PAGE)

    def drop_all(self) -> None:
        self._pages.clear()
        self._engine.drop_all()

    def close(self) -> None:
        self._engine.close()
