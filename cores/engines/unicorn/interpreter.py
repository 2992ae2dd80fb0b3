"""The interpreter engine: Unicorn executes the guest at ring 0, under the guest's own page tables.

The guest's registers are data in host memory, and no instruction has to exit: privileged ones are
executed like any other. Some are left to the VMM all the same (``INTERCEPTS``), because they depend on
the platform (ports, CPUID, time), or because Unicorn, made for running fragments of programs, differs
from the SDM there. Each of these differences was measured.
"""

from __future__ import annotations

from collections.abc import Callable

from cores.engines.base import STEPPED, Engine, Exit, Fault, Traits
from cores.engines.unicorn import capi, checks
from cores.engines.unicorn.cpu import Fetch, UnicornCpu
from cores.engines.unicorn.free_run import FreeRunner, block_address
from cores.engines.unicorn.layout import find_layout
from cores.engines.unicorn.mmio import DeviceAccesses
from cores.errors import UnavailableError
from cores.pc.physical_memory import HOLE, SCREEN, PhysicalMemory
from cores.x86.faults import GuestFault
from cores.x86.isa.instruction import Instruction, Reason, Sensitivity
from cores.x86.mmu.paging import Mmu, walk
from cores.x86.mode import is_long
from cores.x86.registers import SS, Vector
from cores.x86.virtual_cpu import VirtualCpu

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
    "lss", "lfs", "lgs", "lds", "les",       # a 64-bit operand size is read as 32 bits
    "into", "sgdt", "sidt",                  # of a 16-bit operand size only 24 bits are stored
    "smsw",                                  # a 32-bit operand size is read as 16 bits in 16-bit code
    "lar", "lsl",                            # descriptor types that long mode lacks are accepted
    "stac", "clac", "wbinvd", "invd",        # the nearest CPU model has no SMAP
    "vmcall", "vmmcall",
))  # fmt: skip


class InterpreterEngine(Engine):
    """The engine; see the module's docstring. Raises UnavailableError when Unicorn is missing or
    unknown."""

    def __init__(self) -> None:
        if reason := self.probe():
            raise UnavailableError(reason)
        find_layout()
        self.traits = Traits(
            core="interpreter",
            label="software executes every instruction",
            engine=f"Unicorn {capi.version()}",
            leads=True,
            intercepts=INTERCEPTS,
            translates=True,
            registers="host memory",
        )
        self._core: UnicornCpu | None = None
        self._free: FreeRunner | None = None
        # Linear addresses of instructions that a step has seen access a device: a leader stops there,
        # since the others have to be stepped over them.
        self._at_devices: frozenset[int] = frozenset()

    @staticmethod
    def probe() -> str | None:
        """The reason why it cannot run on this host; None when it can."""
        return capi.probe()

    def load(self, memory: PhysicalMemory) -> None:
        self.close()
        self._memory = memory
        memory.unseen = []
        self._devices = DeviceAccesses(memory)
        self._core = UnicornCpu(self._fetcher, self._place)
        self._free = FreeRunner(self._core, memory, _left_to_the_vmm)
        ram, unicorn = memory.ram, self._core.unicorn
        below = min(HOLE.start, ram.size)
        unicorn.map_ram(0, below, ram.address)
        if ram.size > HOLE.stop:
            unicorn.map_ram(HOLE.stop, ram.size - HOLE.stop, ram.address + HOLE.stop)
        self._map_devices(below, SCREEN.start)  # the screen's page can be given to the guest
        self._map_devices(SCREEN.start, SCREEN.stop)
        self._map_devices(SCREEN.stop, HOLE.stop)
        self._map_devices(max(HOLE.stop, ram.size), PHYSICAL_END)

    def _map_devices(self, start: int, end: int) -> None:
        """Direct accesses to physical addresses from ``start`` to ``end`` to the VMM's devices."""
        devices, (core, _) = self._devices, self._loaded()
        core.unicorn.map_device(start, end - start, devices.read, devices.write)

    def give(self, gpa: int, place: int | None) -> None:
        core, _ = self._loaded()
        core.unicorn.unmap(gpa, len(SCREEN))
        if place is None:
            self._map_devices(gpa, gpa + len(SCREEN))
        else:
            core.unicorn.map_ram(gpa, len(SCREEN), self._memory.ram.address + place)

    def _made(self, cpu: VirtualCpu, *, completed: bool) -> None:
        """Make the recorded device accesses, or raise the error that a device has raised."""
        devices = self._devices
        if devices.error is None:
            devices.make(cpu, Mmu(self._memory, cpu), completed=completed)
        else:
            error, devices.error, devices.noted = devices.error, None, False
            raise error

    def step(self, cpu: VirtualCpu) -> Exit:
        core, free = self._loaded()
        core.announce(self._memory)
        rip, flags, shadow, stack = cpu.rip, cpu.rflags, cpu.interrupt_shadow, cpu.segments[SS]
        before = stack.selector, stack.base, stack.limit, stack.attributes
        at = block_address(cpu)
        if free.active and free.may_step():
            fetch = free.fetching(cpu)
            self._devices.stepping(cpu, lambda cpu: core.instruction(cpu, fetch=fetch))
            exit = free.single(cpu, fetch)
        else:
            self._devices.stepping(cpu, core.instruction)
            exit = core.step(cpu)
        if self._devices.noted:
            if at not in self._at_devices:
                self._at_devices |= {at}
            self._made(cpu, completed=exit is STEPPED)
        if stack.selector == before[0] or stack.selector & ~3 or stack.selector & 3 == cpu.cpl:
            return exit
        if not is_long(cpu):
            return exit  # elsewhere Unicorn refuses it, and in real mode it is lawful
        # MOV SS has taken a null selector whose RPL is not the CPL (SDM vol. 2, MOV): put it back.
        stack.selector, stack.base, stack.limit, stack.attributes = before
        cpu.rip, cpu.rflags, cpu.interrupt_shadow = rip, flags, shadow
        return Fault(Vector.GP, 0)

    def run(self, cpu: VirtualCpu, budget: int | None = None) -> Exit:
        exit = self._run(cpu, budget, _left_to_the_vmm, frozenset())
        self.overlooks_x87 = self._loaded()[1].x87
        return exit

    def lead(self, cpu: VirtualCpu, budget: int) -> Exit:
        return self._run(cpu, budget, _left_to_a_vmm, self.stops | self._at_devices)

    def _run(
        self, cpu: VirtualCpu, budget: int | None, special: Callable[[Instruction], bool],
        stops: frozenset[int],
    ) -> Exit:  # fmt: skip
        core, free = self._loaded()
        free.stop_before(special, stops)
        free.want_window(self.window_wanted)
        core.announce(self._memory)
        self._devices.running()
        exit = free.run(cpu, budget)
        self.executed = free.executed
        if self._devices.error:
            self._made(cpu, completed=True)
        return exit

    def admits(self, insn: Instruction, cpu: VirtualCpu, mmu: Mmu) -> bool:
        faults = self._loaded()[0].sse_faults
        return checks.admits(insn, cpu, mmu, self.read_fpu, sse_faults=faults)

    def corrected(self, fault: Fault, insn: Instruction, cpu: VirtualCpu, mmu: Mmu) -> Fault:
        return checks.corrected(fault, insn, cpu, mmu)

    def read_fpu(self) -> bytes:
        return self._loaded()[0].read_fpu()

    def write_fpu(self, image: bytes) -> None:
        self._loaded()[0].write_fpu(image)

    def memory_changed(self) -> None:
        core, free = self._loaded()
        core.forget_code()
        core.unicorn.flush_tlb()
        free.forget()

    def flush(self, gva: int | None = None) -> None:
        core, free = self._loaded()
        core.unicorn.flush_tlb()
        free.flushed(gva)

    def where(self) -> str:
        """The place of the guest's registers, for the pane's headline."""
        return f"host memory at {self._core.unicorn.address:#x}" if self._core else "host memory"

    def interrupt(self) -> None:
        if self._free:
            self._free.interrupt()

    def close(self) -> None:
        if self._core:
            self._core.close()
            self._core = self._free = None

    def _loaded(self) -> tuple[UnicornCpu, FreeRunner]:
        if self._core is None or self._free is None:
            raise RuntimeError("the engine has no guest: load() it first")
        return self._core, self._free

    def _fetcher(self, cpu: VirtualCpu) -> Fetch:
        return Mmu(self._memory, cpu).fetch

    def _place(self, cpu: VirtualCpu, page: int) -> int | None:
        """The physical address of a page of code, without leaving a mark, whoever may execute it."""
        try:
            return walk(self._memory, cpu, page, user=False, mark=False).gpa
        except GuestFault:
            try:
                return walk(self._memory, cpu, page, user=True, mark=False).gpa  # SMAP
            except GuestFault:
                return None


def _left_to_a_vmm(insn: Instruction) -> bool:
    """Is it left to the VMM on some core? A leader stops before these."""
    return insn.sensitivity is not Sensitivity.ORDINARY or _not_as_the_platform(insn)


def _left_to_the_vmm(insn: Instruction) -> bool:
    """Is it left to the VMM on this core?"""
    if insn.bits != 64 and insn.reason is Reason.SEGMENT and insn.mnemonic != "push":
        return True  # the new segment may have a limit (segment_limits.py)
    if insn.mnemonic == "mov":
        # To and from control and debug registers:
        return insn.sensitivity is Sensitivity.PRIVILEGED or insn.mistranslated
    absent = insn.sensitivity is Sensitivity.ABSENT
    taken = absent or insn.mnemonic in INTERCEPTS or insn.mnemonic in checks.COMPARING
    return taken or _not_as_the_platform(insn)


def _not_as_the_platform(insn: Instruction) -> bool:
    return insn.varies or insn.mistranslated
