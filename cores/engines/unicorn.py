"""The interpreter: Unicorn executes the guest at ring 0, under the guest's own page tables.

Here the guest's registers are data in host memory and nothing ever has to leave: privileged
instructions are executed like any other. Some are left to the VMM all the same (``INTERCEPTS``):
because they ask the platform (ports, CPUID, time), or because Unicorn, made for running fragments
of programs, departs from the SDM there. Each is a measured difference, not a matter of principle.
"""

from __future__ import annotations

import threading

from ..errors import UnavailableError
from ..memory import HOLE, PhysicalMemory
from ..virtual_cpu import VirtualCpu
from ..x86.decode import Truncated, decode
from ..x86.faults import GuestFault
from ..x86.instruction import Reason, Sensitivity
from ..x86.paging import Mmu
from ..x86.registers import RCX, Flag, Vector
from . import unicorn_fpu, unicorn_native
from .base import BUDGET_SPENT, INTERCEPT, INTERRUPTED, STEPPED, Engine, Exit, Failed, Fault, Traits
from .unicorn_layout import Layout, find_layout
from .unicorn_native import Unicorn
from .unicorn_state import RegisterTransfer

PHYSICAL_END = 1 << 40
"""Physical addresses have 40 bits: page table entries with higher ones are reserved-bit faults."""

INTERCEPTS = frozenset((
    "in", "out", "ins", "outs", "hlt",       # the platform's devices and time
    "cpuid", "rdtsc", "rdtscp", "rdpmc",
    "rdmsr", "wrmsr",                        # unknown MSRs and reserved bits never fault
    "mov cr", "lmsw", "clts", "invlpg",      # nor do reserved bits in CR0 and CR4; CR8 is lost
    "int", "int3", "int1", "syscall",        # not delivered through the guest's tables
    "sysret", "iret", "retf", "lcall", "ljmp",  # no canonical check; SYSRET loads RF and VM
    "lgdt", "lidt", "lldt", "ltr",           # no canonical check of the base
    "stac", "clac", "wbinvd", "invd",        # the nearest CPU model has no SMAP
    "vmcall", "vmmcall",
))  # fmt: skip

_ERROR_VECTORS = frozenset(
    (Vector.DF, Vector.TS, Vector.NP, Vector.SS, Vector.GP, Vector.PF, Vector.AC)
)  # fmt: skip


class InterpreterEngine(Engine):
    """See the module's text. Raises UnavailableError when Unicorn is missing or unknown."""

    def __init__(self) -> None:
        if reason := self.probe():
            raise UnavailableError(reason)
        self._layout: Layout = find_layout()
        self.traits = Traits(
            core="interpreter",
            label="an emulator executes every instruction in software",
            engine=f"Unicorn {unicorn_native.version()}",
            intercepts=INTERCEPTS,
            registers="host memory",
        )
        self._unicorn: Unicorn | None = None
        self._vector = -1
        self._host_error: Exception | None = None
        self._asked = threading.Event()

    @staticmethod
    def probe() -> str | None:
        return unicorn_native.probe()

    def load(self, memory: PhysicalMemory) -> None:
        self.close()
        unicorn = self._unicorn = Unicorn()
        self._memory = memory
        ram = memory.ram
        below = min(HOLE.start, ram.size)
        unicorn.map_ram(0, below, ram.address)
        if ram.size > HOLE.stop:
            unicorn.map_ram(HOLE.stop, ram.size - HOLE.stop, ram.address + HOLE.stop)
        self._map_devices(below, HOLE.stop)
        self._map_devices(max(HOLE.stop, ram.size), PHYSICAL_END)
        unicorn.on_interrupt(self._on_interrupt)
        self._transfer = RegisterTransfer(unicorn, self._layout)

    def _map_devices(self, start: int, end: int) -> None:
        """Ask the VMM's devices about the physical addresses from ``start`` to ``end``. Nothing
        may be raised through Unicorn: an error of the host's waits until the guest is left."""
        memory, unicorn = self._memory, self._unicorn
        assert unicorn

        def read(offset: int, size: int) -> int:
            try:
                return int.from_bytes(memory.device_read(start + offset, size), "little")
            except Exception as error:
                self._host_error = error
                return 0

        def write(offset: int, size: int, value: int) -> None:
            try:
                memory.device_write(start + offset, value.to_bytes(8, "little")[:size])
            except Exception as error:
                self._host_error = error

        unicorn.map_device(start, end - start, read, write)

    def _on_interrupt(self, vector: int) -> None:
        self._vector = vector
        assert self._unicorn
        self._unicorn.stop()

    def step(self, cpu: VirtualCpu) -> Exit:
        unicorn = self._unicorn
        assert unicorn
        rip, resume = cpu.rip, cpu.rflags & Flag.RF
        self._transfer.enter(cpu)
        code = unicorn.start(rip, 1)
        if self._vector >= 0 or code:
            return self._refused(cpu, code)
        self._transfer.leave(cpu)
        if self._host_error:
            raise self._host_error
        if cpu.rip == rip and (exit := self._finish(cpu)) is not STEPPED:
            return exit
        if resume:
            cpu.rflags &= ~Flag.RF  # one instruction long (SDM vol. 3, 17.3.1.1)
        if unicorn_fpu.exceptions_waiting(unicorn, self._layout):
            unicorn_fpu.settle_exceptions(unicorn, self._layout)
        return STEPPED

    def run(self, cpu: VirtualCpu, budget: int | None = None) -> Exit:
        self.executed = 0
        while budget is None or self.executed < budget:
            if self._asked.is_set():
                self._asked.clear()
                return INTERRUPTED
            try:
                insn = decode(Mmu(self._memory, cpu).fetch(cpu.rip))
            except Truncated:
                pass
            except GuestFault as fault:
                return Fault(fault.vector, fault.error, fault.address)
            else:
                if (
                    insn.mnemonic in INTERCEPTS
                    or insn.sensitivity is Sensitivity.ABSENT
                    or (insn.mnemonic == "mov" and insn.reason is Reason.CR)
                ):
                    return INTERCEPT
            exit = self.step(cpu)
            if exit is not STEPPED:
                return exit
            self.executed += 1
        return BUDGET_SPENT

    def _refused(self, cpu: VirtualCpu, code: int) -> Exit:
        """An exception, an undefined opcode, or trouble of the host's."""
        vector, self._vector = self._vector, -1
        error, address = self._transfer.fault_details()
        self._transfer.leave(cpu)
        if code == unicorn_native.INSN_INVALID:
            vector = Vector.UD
        elif code:
            assert self._unicorn
            return Failed(f"Unicorn: {self._unicorn.words(code)} at {cpu.rip:#x}")
        return Fault(
            vector,
            error if vector in _ERROR_VECTORS else None,
            address if vector == Vector.PF else None,
        )

    def _finish(self, cpu: VirtualCpu) -> Exit:
        """RIP has not moved: go on until the instruction is complete.

        Three have this look: a REP after one iteration; a store that changed the block that it is
        part of, which Unicorn counts, abandons, and would begin anew; and a jump to itself, which
        is complete."""
        unicorn = self._unicorn
        assert unicorn
        rip = cpu.rip
        try:
            insn = decode(Mmu(self._memory, cpu).fetch(rip))
        except (GuestFault, Truncated):
            return STEPPED  # it was complete, and has overwritten itself
        if insn.ends_block and not insn.repeat:
            return STEPPED
        early = insn.mnemonic in ("cmps", "scas")
        mask = (1 << 8 * insn.address_size) - 1
        while cpu.rip == rip:
            if not insn.repeat:
                count = 2
            elif early:
                count = 1
            else:
                count = (cpu.gpr[RCX] & mask) + 1
            code = unicorn.start(rip, count)
            if self._vector >= 0 or code:
                return self._refused(cpu, code)
            self._transfer.leave(cpu)
        return STEPPED

    def read_fpu(self) -> bytes:
        assert self._unicorn
        return unicorn_fpu.read_image(self._unicorn, self._layout)

    def write_fpu(self, image: bytes) -> None:
        assert self._unicorn
        unicorn_fpu.write_image(self._unicorn, self._layout, image)

    def memory_changed(self) -> None:
        assert self._unicorn
        self._unicorn.flush_code()
        self._unicorn.flush_tlb()

    def flush(self, gva: int | None = None) -> None:
        assert self._unicorn
        self._unicorn.flush_tlb()

    def where(self) -> str:
        """Where the guest's registers live, for the pane's headline."""
        return f"{self._unicorn.address:#x}" if self._unicorn else "host memory"

    def interrupt(self) -> None:
        self._asked.set()

    def close(self) -> None:
        if self._unicorn:
            self._unicorn.close()
            self._unicorn = None
