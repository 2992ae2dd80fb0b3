"""MMIO of the interpreted guest: its accesses to physical addresses without RAM.

Unicorn splits accesses into pieces of at most 4 bytes, into bytes where unaligned, and reads more than
the instruction does. A stepped instruction's accesses are therefore recorded first and made when it is
complete, in its order and each with its own width. In a free run each access is made as Unicorn makes
it.
"""

from __future__ import annotations

from collections.abc import Callable

from cores.deadline import Deadline
from cores.pc.physical_memory import PhysicalMemory
from cores.x86.faults import GuestFault
from cores.x86.isa.accesses import bus_accesses
from cores.x86.isa.instruction import Instruction
from cores.x86.isa.rep_step import iterations_left
from cores.x86.mmu.paging import PAGE, Mmu
from cores.x86.registers import MASK64, Flag
from cores.x86.virtual_cpu import VirtualCpu


class DeviceAccesses:
    """Answers Unicorn's device accesses, and records those of a stepped instruction.

    noted: a stepped instruction has accessed a device; call ``make``.
    error: an exception that a device raised; none may be raised through Unicorn's C frames.
    """

    def __init__(self, memory: PhysicalMemory) -> None:
        self._memory = memory
        self._cpu: VirtualCpu | None = None
        self.noted = False
        self.error: Exception | None = None
        self._stored: dict[int, int] = {}
        self._decode: Callable[[VirtualCpu], Instruction | None] = lambda cpu: None
        self._insn: Instruction | None = None
        self._touching: tuple[tuple[int, int, bool], ...] = ()
        self._count = 0

    def stepping(self, cpu: VirtualCpu, decode: Callable[[VirtualCpu], Instruction | None]) -> None:
        """Record from now on: one instruction of ``cpu`` is about to be executed."""
        self._cpu, self._decode = cpu, decode

    def running(self) -> None:
        """Pass accesses through from now on: a free run is about to begin."""
        self._cpu = None

    def read(self, gpa: int, size: int) -> int:
        try:
            if self._cpu is None:
                return int.from_bytes(self._memory.device_read(gpa, size), "little")
            self._note(self._cpu)
            there = self._memory.device_peek(gpa, size)
            return int.from_bytes(
                bytes(self._stored.get(gpa + i, byte) for i, byte in enumerate(there)), "little"
            )
        except Exception as error:
            self.error = error
            return 0

    def write(self, gpa: int, size: int, value: int) -> None:
        try:
            data = (value & MASK64).to_bytes(8, "little")[:size]
            if self._cpu is None:
                self._memory.device_write(gpa, data)
            else:
                self._note(self._cpu)
                self._stored.update(enumerate(data, gpa))
        except Exception as error:
            self.error = error

    def _note(self, cpu: VirtualCpu) -> None:
        """At the first access, decode the instruction: ``cpu`` still holds the state before it."""
        if not self.noted:
            self.noted = True
            self._insn = self._decode(cpu)
            self._count = iterations_left(self._insn, cpu) if self._insn else 0
            self._touching = bus_accesses(self._insn, cpu) if self._insn else ()

    def make(self, cpu: VirtualCpu, mmu: Mmu, *, completed: bool) -> None:
        """Make the recorded accesses, after the instruction. completed: it has not faulted."""
        insn, stored, self._stored, self.noted = self._insn, self._stored, {}, False
        if insn is None:
            return
        deadline = Deadline()
        iterations = self._count - iterations_left(insn, cpu) if insn.repeat else int(completed)
        for gva, length, is_write in self._touching if iterations else ():
            unit, step = length, length
            if insn.repeat:
                unit = step = insn.operand_size
                if cpu.rflags & Flag.DF:
                    gva, step = gva + length - unit, -unit
            for i in range(iterations if insn.repeat else 1):
                deadline.check()
                self._access(mmu, gva + i * step, unit, stored if is_write else None)

    def _access(self, mmu: Mmu, gva: int, length: int, stored: dict[int, int] | None) -> None:
        while length > 0:
            here = min(length, PAGE - gva % PAGE)
            try:
                gpa = mmu.translate(gva & MASK64)
            except GuestFault:
                return
            if not self._memory.is_ram(gpa, here):
                if stored is None:
                    self._memory.device_read(gpa, here)
                else:
                    self._memory.device_write(gpa, bytes(stored.get(gpa + i, 0) for i in range(here)))
            gva += here
            length -= here
