"""The native trap engine: enters the guest on this CPU in ring 3, and says why it came back.

A deprivileged guest runs here as it runs on bare metal, as fast and with the same results, until it
does something that ring 3 may not do. Then the CPU faults, Linux turns the fault into a signal,
ptrace stops the process, and this file turns the signal back into the fault.

Of the guest's state only the general registers, RIP, the status flags, the FS and GS bases and the
extended state are ever in the real CPU. Between entries the extended state stays there; everything
else waits in ``VirtualCpu``.
"""

from __future__ import annotations

import errno
import functools
import os
import signal
import sys
from operator import itemgetter
from time import perf_counter_ns

from ...errors import EngineError, MappingsFullError, RingscopeError, UnavailableError
from ...memory import PhysicalMemory
from ...ram import PAGE, Ram
from ...virtual_cpu import VirtualCpu
from ...x86.registers import FS, GS, RCX, RDI, USER_FLAGS, Cr0, Flag, Vector, canonical
from ..base import (
    INTERCEPT,
    INTERRUPTED,
    KERNEL_SPACE,
    STEPPED,
    SYSTEM_CALL,
    DeprivilegedEngine,
    Exit,
    Failed,
    Fault,
    Traits,
)
from . import stops, stub
from . import sys_linux as linux
from .process import (
    STOPPED_STEP,
    STOPPED_SYSCALL,
    SYSCALL_NONE,
    TASK_END,
    USER_CS,
    USER_SS,
    VcpuProcess,
    describe_end,
)

# Places in linux.USER_REGS
_ORIG_RAX, _RIP, _CS, _FLAGS, _FS_BASE, _GS_BASE = 15, 16, 17, 18, 21, 22
_GENERAL = itemgetter(10, 11, 12, 5, 19, 4, 13, 14, 9, 8, 7, 6, 3, 2, 1, 0)  # in encoding order
_SELECTORS = slice(23 * 8, 27 * 8)  # ds es fs gs in the packed registers
_NO_SELECTORS = bytes(32)

_AC, _AM = int(Flag.AC), int(Cr0.AM)
_SIGSEGV, _SIGSYS = int(signal.SIGSEGV), int(signal.SIGSYS)  # plain: enums are slow to compare
_HOST_FLAGS = int(Flag.IF | Flag.FIXED)  # what ring 3 cannot change
_FOREIGN_FLAGS = ~(USER_FLAGS | _AC | _HOST_FLAGS)

_ESCAPED = "the guest left 64-bit mode by a far transfer that nothing intercepted"
_LONG_NS = 1_000_000
"""A guest that ran so long is left to the scheduler next time, instead of held to our own CPU."""

_NO_MEMORY = "the host has no memory left for the guest's RAM"


def native_flags(cpu: VirtualCpu) -> int:
    """The bits of RFLAGS that the guest is given for its own: status flags, DF, and AC where the
    guest's user code really asked for alignment checks (SDM vol. 3, 6.15, #AC)."""
    flags = cpu.rflags & USER_FLAGS
    if cpu.rflags & _AC and cpu.cr0 & _AM and cpu.cpl == 3:
        flags |= _AC
    return flags


class PtraceEngine(DeprivilegedEngine):
    """The guest's kernel and user code in two host processes, entered one at a time.

    ``step`` and ``run`` return INTERCEPT for a guest whose FS or GS base the host cannot load
    (anything from ``TASK_END`` up): the VMM must complete that instruction in software.
    """

    traits = Traits(
        core="trap:native",
        label="this CPU executes; the guest is held in ring 3",
        engine="ptrace",
        deprivileged=True,
        native=True,
        exact=True,
        counts=False,
        registers="in this CPU; the privileged ones in the VMM's memory",
    )
    executed: int | None = None

    def __init__(self) -> None:
        self.hides_code = _has_protection_keys()
        self._memory: PhysicalMemory | None = None
        self.twin: Ram | None = None
        self._processes: dict[int, VcpuProcess] = {}
        self._extents: dict[int, range] = {}
        self._failure = ""
        self._kicked = False
        self._at_fault = False
        self._long = True  # did the last run last?
        self._trap: tuple[int, int] | None = None
        # The process entered last holds the extended state, and these registers:
        self._active: VcpuProcess | None = None
        self._active_space = KERNEL_SPACE
        self._loaded = False
        self._general: list[int] = []
        self._rest: tuple[int, int, int, int] = (0, 0, 0, 0)  # rip, flags, fs base, gs base

    @staticmethod
    def probe() -> str | None:
        """Why this engine cannot run here, None when it can. Tried once, in a few milliseconds."""
        return _probe()

    def load(self, memory: PhysicalMemory) -> None:
        if memory.ram.fd < 0:
            raise UnavailableError("this host has no memfd, which RAM and a process could share")
        self._memory = memory
        self.twin = Ram(memory.ram.size)
        try:
            self._activate(self.space)
        except RingscopeError:
            self.close()
            raise

    @property
    def cpuid_faults(self) -> bool:
        """Does CPUID trap in ring 3 on this CPU (arch_prctl(2), ARCH_CPUID)?"""
        return any(process.cpuid_faults for process in self._processes.values())

    def where(self) -> str:
        """Where the guest's registers are just now: "process 4711, CPU 1"."""
        if self._active is None:
            return ""
        pid = self._active.pid
        try:
            with open(f"/proc/{pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            return f"process {pid}"
        return f"process {pid}, CPU {fields[36]}"

    # Entering and leaving

    def step(self, cpu: VirtualCpu) -> Exit:
        """At any exit but Stepped ``cpu`` is as it was: a fault changes nothing. Only a REP
        instruction that faults midway has advanced its registers, as on the CPU itself.

        `mov ss` and `pop ss` run the next instruction too (SDM vol. 3, 6.8.3), and an instruction
        that stores RFLAGS (pushf, syscall's R11) shows the TF that steps it.
        """
        try:
            refused = self._enter(cpu)
            if refused is not None:
                return refused
            return self._step(cpu)
        except OSError as error:
            return self._failed(error)

    def run(self, cpu: VirtualCpu, budget: int | None = None) -> Exit:
        """Nothing is counted: ``budget`` is ignored, and ``executed`` stays None.

        At SystemCall RIP is back at the instruction, and RAX is restored (its lower half, of INT 0x80);
        RCX and R11 are what the SYSCALL instruction has made of them."""
        try:
            refused = self._enter(cpu)
            if refused is not None:
                return refused
            if self._kicked:  # after _enter: from here on a kick finds the right process
                self._kicked = False
                return INTERRUPTED
            return self._run(cpu)
        except OSError as error:
            return self._failed(error)

    def interrupt(self) -> None:
        self._kicked = True
        active = self._active
        if active is not None:
            active.kick()

    def read_fpu(self) -> bytes:
        """Reserved bytes are 0, and MXCSR_MASK is 0xFFFF whatever this CPU's."""
        try:
            image = self._current().read_fpu()
        except OSError as error:
            raise EngineError(self._failed(error).reason) from error
        image[28:32] = b"\xff\xff\0\0"
        image[416:512] = bytes(96)
        return bytes(image)

    def write_fpu(self, image: bytes) -> None:
        try:
            self._current().write_fpu(image)
        except OSError as error:
            raise EngineError(self._failed(error).reason) from error

    def close(self) -> None:
        for process in self._processes.values():
            process.kill()
        self._processes.clear()
        self._active = None
        self._failure = self._failure or "the engine is closed"
        if self.twin is not None:
            self.twin.close()
            self.twin = None

    # The virtual TLB

    def patched_twin(self) -> memoryview | None:
        return self.twin.view if self.twin is not None else None

    def map(
        self,
        space: int,
        gva: int,
        gpa: int,
        length: int,
        *,
        writable: bool,
        executable: bool,
        twin: bool = False,
        readable: bool = True,
    ) -> bool:
        """As the contract says. Execute-only pages rest on protection keys, which Linux uses by itself.

        Raises MappingsFullError when the process has all the mappings that Linux allows: after
        ``drop_all`` it works again. Raises EngineError when the process is gone.
        """
        end = gva + length
        if gva < _lowest_address() or end > TASK_END:
            return False
        if gva < stub.REGION.stop and end > stub.REGION.start:
            return False
        protection = linux.PROT_READ * readable | linux.PROT_WRITE * writable
        protection |= linux.PROT_EXEC * executable
        how = linux.MAP_SHARED | linux.MAP_FIXED
        source = stub.TWIN_FD if twin else stub.RAM_FD
        extent = self._extents.get(space, range(gva, end))
        self._extents[space] = range(min(gva, extent.start), max(end, extent.stop))
        self._call(space, linux.SYS_MMAP, gva, length, protection, how, source, gpa)
        return True

    def unmap(self, space: int, gva: int, length: int) -> None:
        """Raises MappingsFullError when splitting a mapping would take one too many."""
        extent = self._extents.get(space, range(0))
        start, end = max(gva, extent.start), min(gva + length, extent.stop)
        for low, high in _around_stub(start, end):
            self._call(space, linux.SYS_MUNMAP, low, high - low)

    def drop_all(self) -> None:
        for space, extent in list(self._extents.items()):
            for low, high in _around_stub(extent.start, extent.stop):
                self._call(space, linux.SYS_MUNMAP, low, high - low)
            del self._extents[space]

    def fault_was_write(self, cpu: VirtualCpu) -> bool:
        """Must be asked before anything is mapped or entered. About 45 us."""
        return bool(self.fault_error_code() & 2)

    def fault_error_code(self) -> int:
        """The error code that the CPU pushed at the last Fault: of #PF all bits (SDM vol. 3, 4.7),
        U always set. To be asked before anything is mapped or entered."""
        if not self._at_fault:
            raise RuntimeError("no fault is pending in the vCPU process")
        try:
            return self._ask_kernel()[0]
        except OSError as error:
            raise EngineError(self._failed(error).reason) from error

    # Below: how it is done

    def _enter(self, cpu: VirtualCpu) -> Exit | None:
        """Make the real registers the guest's; or say why that cannot be."""
        if self._failure:
            return Failed(self._failure)
        self._at_fault = False
        self._trap = None
        rip = cpu.rip
        if rip >= TASK_END or rip in stub.REGION:
            return Fault(Vector.PF, None, rip) if canonical(rip) else Fault(Vector.GP, 0)
        segments = cpu.segments
        rest = (rip, native_flags(cpu), segments[FS].base, segments[GS].base)
        if rest[2] >= TASK_END or rest[3] >= TASK_END:
            return INTERCEPT
        if self.space != self._active_space:
            self._activate(self.space)
        if not self._loaded or rest != self._rest or cpu.gpr != self._general:
            self._put(cpu.gpr, rest)
        return None

    def _put(self, gpr: list[int], rest: tuple[int, int, int, int]) -> None:
        rip, flags, fs_base, gs_base = rest
        tracee = self._current().tracee
        rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15 = gpr
        linux.USER_REGS.pack_into(
            tracee.registers, 0,
            r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi,
            SYSCALL_NONE, rip, USER_CS, flags | _HOST_FLAGS, rsp, USER_SS, fs_base, gs_base, 0, 0, 0, 0,
        )  # fmt: skip
        tracee.put()

    def _leave(self, cpu: VirtualCpu, registers: tuple[int, ...], flags: int | None = None) -> None:
        """Copy the real registers back. ``flags``: RFLAGS to keep instead of the real ones."""
        cpu.gpr[:] = _GENERAL(registers)
        cpu.rip = rip = registers[_RIP]
        native = registers[_FLAGS]
        cpu.rflags = cpu.rflags & ~USER_FLAGS | (native if flags is None else flags) & USER_FLAGS
        segments = cpu.segments
        segments[FS].base = fs_base = registers[_FS_BASE]
        segments[GS].base = gs_base = registers[_GS_BASE]
        self._general = cpu.gpr.copy()
        self._rest = (rip, native & (USER_FLAGS | _AC), fs_base, gs_base)
        self._loaded = (  # does the next entry find everything as it would set it?
            registers[_ORIG_RAX] == SYSCALL_NONE
            and not native & _FOREIGN_FLAGS
            and self._current().tracee.registers[_SELECTORS] == _NO_SELECTORS
        )

    def _step(self, cpu: VirtualCpu) -> Exit:
        process = self._current()
        process.stay_near()
        tracee = process.tracee
        start = cpu.rip
        while True:
            self._loaded = False
            tracee.resume(linux.PTRACE_SYSEMU_SINGLESTEP)
            status = tracee.wait_briefly()
            if status == STOPPED_SYSCALL:
                return SYSTEM_CALL
            if status & 0xFF != 0x7F:
                return self._ended(status)
            registers = tracee.get()
            code, address = tracee.signal_info()
            if registers[_CS] != USER_CS:
                return Fault(Vector.GP, 0)
            if status == STOPPED_STEP and code in (linux.TRAP_TRACE, linux.TRAP_HWBKPT):
                if registers[_RIP] == start:
                    length = stops.repeated_string_length(tracee.peek(start, 15))
                    if length:
                        return self._finish_string(cpu, start + length)
                self._leave(cpu, registers)
                return STEPPED
            exit = self._step_fault(cpu, status, registers, code, address)
            if exit is not None:
                return exit

    def _step_fault(
        self, cpu: VirtualCpu, status: int, registers: tuple[int, ...], code: int, address: int
    ) -> Exit | None:
        """A step that ended in anything but its trap; None when it has not happened at all."""
        vector = stops.vector(status >> 8, code)
        if status >> 8 == _SIGSYS:
            return Fault(Vector.PF, None, cpu.rip)
        if vector == stops.FOREIGN or status >> 16:
            return None
        if vector == stops.NO_MEMORY:
            return self._fail(_NO_MEMORY)
        moved = registers[_RIP] != cpu.rip
        if vector == stops.UNCLEAR and status >> 8 == _SIGSEGV:
            if moved and registers[_RIP] >= TASK_END:  # CPUs that jump first and fault there
                self._leave(cpu, registers)
                return STEPPED
            vector = Vector.OF if moved else Vector.GP
        return self._exception(vector, address)

    def _finish_string(self, cpu: VirtualCpu, behind: int) -> Exit:
        """A REP instruction has done its first iteration: run to the breakpoint behind it.

        Stepping would take a stop an iteration; so 100,000 take half a millisecond."""
        tracee = self._current().tracee
        flags = cpu.rflags
        tracee.set_debug_register(0, behind)
        tracee.set_debug_register(7, 1)  # DR0, local, on execution
        try:
            while True:
                tracee.resume(linux.PTRACE_SYSEMU)
                status = tracee.wait()
                if status & 0xFF != 0x7F:
                    return self._ended(status)
                registers = tracee.get()
                code, address = tracee.signal_info()
                if status == STOPPED_STEP and registers[_RIP] == behind:
                    self._leave(cpu, registers)
                    return STEPPED
                exit = self._step_fault(cpu, status, registers, code, address)
                if exit is not None:  # SDM vol. 2, REP: flags are those from before
                    self._leave(cpu, registers, flags)
                    self._loaded = False
                    return exit
        finally:
            if not self._failure:
                tracee.set_debug_register(7, 0)

    def _run(self, cpu: VirtualCpu) -> Exit:
        process = self._current()
        if self._long:
            process.roam()
        else:
            process.stay_near()
        tracee = process.tracee
        self._loaded = False
        begin = perf_counter_ns()
        tracee.resume(linux.PTRACE_SYSEMU)
        status = tracee.wait()
        self._long = perf_counter_ns() - begin > _LONG_NS
        if status & 0xFF != 0x7F:
            return self._ended(status)
        registers = tracee.get()
        code, address = tracee.signal_info()
        if registers[_CS] != USER_CS:
            return self._fail(_ESCAPED)
        self._leave(cpu, registers)
        if cpu.rip in stub.REGION:
            self._loaded = False
            return Fault(Vector.PF, None, cpu.rip)
        if status == STOPPED_SYSCALL:
            self._loaded = False
            cpu.gpr[0] = registers[_ORIG_RAX]
            cpu.rip -= 2
            return SYSTEM_CALL
        return self._run_fault(cpu, status, code, address)

    def _run_fault(self, cpu: VirtualCpu, status: int, code: int, address: int) -> Exit:
        vector = stops.vector(status >> 8, code)
        if status >> 8 == _SIGSYS:  # the vsyscall page: the call went there, and came back
            cpu.gpr[4] -= 8
            cpu.rip = address
            return Fault(Vector.PF, None, address)
        if vector == stops.FOREIGN or status >> 16:
            self._kicked = False
            return INTERRUPTED
        if vector == stops.NO_MEMORY:
            return self._fail(_NO_MEMORY)
        if cpu.rip >= TASK_END:
            return Fault(Vector.PF, None, cpu.rip) if canonical(cpu.rip) else Fault(Vector.GP, 0)
        peek = self._current().tracee.peek
        if vector == stops.UNCLEAR and status >> 8 == _SIGSEGV:
            if peek(cpu.rip - 2, 2) != stops.INT_4 or self._ask_kernel()[1] != Vector.OF:
                vector = Vector.GP
            else:
                vector = Vector.OF
        if vector in (Vector.BP, Vector.OF, Vector.DB) and code != linux.TRAP_TRACE:
            cpu.rip -= 1 if peek(cpu.rip - 1, 1) in stops.ONE_BYTE_TRAPS else 2
        return self._exception(vector, address)

    def _exception(self, vector: int, address: int) -> Exit:
        self._at_fault = True
        error = None
        if vector == stops.UNCLEAR:
            error, vector = self._ask_kernel()
        return stops.fault(vector, error, address)

    def _ask_kernel(self) -> tuple[int, int]:
        """(error code, vector) of the exception that the process stands at; asked once."""
        if self._trap is None:
            self._loaded = False
            error, vector, _ = self._current().last_trap()
            self._trap = error, vector
        return self._trap

    def _call(self, space: int, number: int, *arguments: int) -> None:
        """A system call in the process of ``space``."""
        if self._failure:
            raise EngineError(self._failure)
        process = self._process(space)
        if process is self._active:
            self._loaded = self._at_fault = False
        try:
            result = process.syscall(number, *arguments)
        except OSError as error:
            raise EngineError(self._failed(error).reason) from error
        if result == -12:  # ENOMEM
            raise MappingsFullError("the vCPU process has all the mappings that Linux allows")
        if result < 0:
            raise EngineError(f"the host refused to map guest memory: {os.strerror(-result)}")

    def _activate(self, space: int) -> None:
        """Enter ``space`` from now on: the extended state moves to its process."""
        process, old = self._process(space), self._active
        self._active, self._active_space, self._loaded = process, space, False
        if old is not None and old is not process:
            process.tracee.set_xstate(old.tracee.get_xstate())

    def _process(self, space: int) -> VcpuProcess:
        process = self._processes.get(space)
        if process is None:
            if self._memory is None or self.twin is None:
                raise EngineError("the engine has no guest loaded")
            process = VcpuProcess(self._memory.ram.fd, self.twin.fd)
            self._processes[space] = process
        return process

    def _current(self) -> VcpuProcess:
        if self._active is None:
            raise EngineError(self._failure or "the engine has no guest loaded")
        return self._active

    def _ended(self, status: int) -> Failed:
        return self._fail(describe_end(status))

    def _failed(self, error: OSError) -> Failed:
        if error.errno == errno.ESRCH:  # only SIGKILL ends a process that ptrace holds
            return self._fail(describe_end(signal.SIGKILL))
        return self._fail(str(error) if error.errno is None else f"ptrace failed: {error}")

    def _fail(self, reason: str) -> Failed:
        """The engine is done for: whatever state the guest has, it must not run on."""
        self._failure = reason = self._failure or reason
        for process in self._processes.values():
            process.kill()
        return Failed(reason)


def _around_stub(start: int, end: int) -> list[tuple[int, int]]:
    """The parts of a range that are not the stub's."""
    parts = ((start, min(end, stub.REGION.start)), (max(start, stub.REGION.stop), end))
    return [(low, high) for low, high in parts if low < high]


@functools.cache
def _lowest_address() -> int:
    """Nothing is mapped below, not for root either: a null pointer must fault alike for everyone."""
    try:
        with open("/proc/sys/vm/mmap_min_addr") as file:
            return max(int(file.read()), 4096)
    except OSError:
        return 65536


@functools.cache
def _probe() -> str | None:
    if sys.platform != "linux" or os.uname().machine != "x86_64" or sys.maxsize < 1 << 32:
        return f"it needs Linux on x86-64 (here: {sys.platform}, {os.uname().machine})"
    ram = Ram(2 * PAGE)
    engine = PtraceEngine()
    try:
        engine.load(PhysicalMemory(ram))
        return _trial(engine, ram)
    except RingscopeError as error:
        return str(error)
    finally:
        engine.close()
        ram.close()


def _trial(engine: PtraceEngine, ram: Ram) -> str | None:
    """One step, and one of a repeated instruction, which needs a hardware breakpoint."""
    code, data = 0x100000, 0x200000
    engine.map(KERNEL_SPACE, code, 0, PAGE, writable=False, executable=True)
    engine.map(KERNEL_SPACE, data, PAGE, PAGE, writable=True, executable=False)
    ram.view[:3] = b"\x90\xf3\xaa"  # nop; rep stosb
    cpu = VirtualCpu(rip=code)
    cpu.gpr[RCX], cpu.gpr[RDI] = 9, data
    for end in (code + 1, code + 3):
        exit = engine.step(cpu)
        if exit != STEPPED or cpu.rip != end:
            return f"stepping by ptrace does not work on this host: {exit}"
    return None


@functools.cache
def _has_protection_keys() -> bool:
    """Can this CPU, under this kernel, have pages that are executed but not read (pkeys(7))?"""
    try:
        with open("/proc/cpuinfo") as file:
            flags = next((line for line in file if line.startswith("flags")), "")
    except OSError:
        return False
    return "ospke" in flags.split()
