"""The native trap engine: enters the guest on this CPU in ring 3.

A deprivileged guest runs as on bare metal, as fast and with the same results, until it executes an
instruction that ring 3 may not execute. Then the CPU faults, Linux turns the fault into a signal,
ptrace stops the process, and the engine turns the signal back into the fault.

Of the guest's state only the general registers, RIP, the status flags, the FS and GS bases and the
extended state are ever in the real CPU. Between entries the extended state stays in the process;
everything else is in ``VirtualCpu``.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Sequence

from cores.engines.ptrace import audit, cpu_affinity, linux, stub, textbook
from cores.engines.ptrace import host_support as host
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.ram import PAGE, Ram
from cores.x86.mode import CODE_64, is_long
from cores.x86.registers import CS, Efer
from cores.x86.virtual_cpu import VirtualCpu

from ...errors import EngineError, MappingsFullError, RingscopeError, UnavailableError
from ..base import (
    ALL_REASONS,
    CALLOUT_REGION,
    CODE_SIZE,
    DATA_SIZE,
    KERNEL_SPACE,
    OUT_OF_LINE,
    STEPPED,
    DeprivilegedEngine,
    Exit,
    Failed,
    Handlers,
    RegisterWindow,
    RingZero,
    Traits,
)
from .legacy import LegacyVcpu
from .process import TASK_END, VcpuProcess, describe_end
from .vcpu import Kick, Vcpu

_LMA = Efer.LMA


class PtraceEngine(DeprivilegedEngine):
    """The guest's kernel and user code in two host processes, entered one at a time.

    An FS or GS base that the host cannot load (from ``TASK_END`` up) stays virtual, and the real one
    points to unmapped addresses: an access through it faults, and the VMM uses the virtual one.

    tsc_traps: RDTSC faults in these processes. It need not, since the VMM finds it before it runs or
    patches it; only ``pure`` always needs it. To be set before ``load``.
    """

    traits = Traits(
        core="trap:native",
        label="this CPU executes, held in ring 3",
        engine="ptrace",
        deprivileged=True,
        ring_zero=RingZero.DEPRIVILEGED,
        native=True,
        exact=True,
        follows=True,
        counts=False,
        exits_for=ALL_REASONS,
        registers="in this CPU; the privileged ones in the VMM's memory",
    )
    executed: int | None = None
    executes_legacy_code = True
    plants = True
    most_spaces = 64

    def __init__(self) -> None:
        self.hides_code = host.has_protection_keys()
        self.tsc_traps = host.tsc_traps_cheaply()
        self._memory: PhysicalMemory | None = None
        self._twin: Ram | None = None
        self._vcpus: dict[int, Vcpu] = {}  # by space: that which has entered it last
        self._other: dict[int, Vcpu] = {}  # by space: that for the other width of code
        self._kick = Kick()
        self._extents: dict[int, range] = {}  # by space: a range that covers all mappings
        self._unpatched: set[tuple[int, int, int]] = set()  # where unpatched code may be mapped
        self._knows_copies: bool | None = None  # None: not asked yet
        self._failure = ""
        self._active: Vcpu | None = None  # entered last: holds the extended state
        self._active_space = KERNEL_SPACE

    @staticmethod
    def probe() -> str | None:
        """The reason why this host cannot run it, None when it can. Probed once, in a few ms."""
        return host.obstacle()

    def load(self, memory: PhysicalMemory) -> None:
        if memory.ram.fd < 0:
            raise UnavailableError("this host has no memfd, which RAM and a process could share")
        self._memory = memory
        self._twin = Ram(memory.ram.size, room=CODE_SIZE + DATA_SIZE + CALLOUT_REGION)
        try:
            self._activate(self.space)
        except RingscopeError:
            self.close()
            raise

    def where(self) -> str:
        if self._active is None:
            return ""
        pid = self._active.process.pid
        return f"process {pid}, CPU {host.cpu_of(pid)}"

    def cpu_seconds(self) -> float | None:
        return sum(host.cpu_seconds(vcpu.process.pid) for vcpu in self._vcpus.values())

    def real_registers(self) -> dict[str, int] | None:
        if self._active is None or self._failure:
            return None
        try:
            real = dict(zip(linux.USER_REG_NAMES, self._active.process.tracee.look(), strict=True))
        except OSError:
            return None
        shown = ["cs", "ss", "ds", "es", "fs", "gs", "rflags"]
        if real["rip"] not in stub.REGION:  # else the VMM's own call came last (process.py)
            shown += ["rip", "rax", "rsp"]
        return {name: real[name] for name in shown}

    # Entering and leaving

    def step(self, cpu: VirtualCpu) -> Exit:
        """Execute one instruction. At any exit except Stepped ``cpu`` is unchanged; only a REP
        instruction that faults midway has advanced its registers, as on the CPU itself.

        `mov ss` and `pop ss` execute the next instruction, too (SDM vol. 3, 6.8.3), and an instruction
        that stores RFLAGS (pushf, syscall's R11) shows the TF that steps it.
        """
        try:
            if (
                self.space != self._active_space or self._active is None or self.pure or self._failure
                or self._active.long != (cpu.efer & _LMA and cpu.segments[CS].attributes & CODE_64)
            ):  # fmt: skip
                return self._step_untouched(cpu) if self.pure else self._ready(cpu).step(cpu)
            return self._active.step(cpu)
        except (EngineError, OSError) as error:
            return Failed(self._fail(error))

    def _step_untouched(self, cpu: VirtualCpu) -> Exit:
        """A step of textbook trap-and-emulate (cores/engines/ptrace/textbook.py)."""
        vcpu = self._ready(cpu)
        insn, place = textbook.instruction(vcpu, cpu), vcpu.host_address(cpu, cpu.rip)
        behind = place + insn.length if insn is not None else 0
        answered = insn is not None and insn.mnemonic in textbook.KERNEL_ANSWERS
        if not answered or (place ^ behind) & -PAGE or place in OUT_OF_LINE:
            return textbook.step(vcpu, cpu, insn)
        assert self._memory is not None
        page, scratch = place & -PAGE, self._memory.ram.scratch
        copy = textbook.copy_with_breakpoint(vcpu, page, PAGE, behind)
        self._memory.view[scratch : scratch + PAGE] = copy
        self.map(self.space, page, scratch, PAGE, writable=True, executable=True)
        exit = vcpu.run(cpu)
        self.unmap(self.space, page, PAGE)  # the VMM maps the real one at the next fetch
        return STEPPED if vcpu.host_address(cpu, cpu.rip) == behind else exit

    def run(self, cpu: VirtualCpu, budget: int | None = None) -> Exit:
        """Run freely. Instructions are not counted: ``budget`` is ignored, and ``executed`` stays None.

        At SystemCall RIP is back at the instruction, and RAX is restored (for INT 0x80 its lower half);
        RCX and R11 have the values that the SYSCALL instruction has set."""
        try:
            return self._ready(cpu).run(cpu, patched=not self._unpatched)
        except (EngineError, OSError) as error:
            return Failed(self._fail(error))

    def run_known(self, cpu: VirtualCpu, handlers: Handlers) -> Exit:
        try:
            return self._ready(cpu).run_known(cpu, handlers, patched=not self._unpatched)
        except (EngineError, OSError) as error:
            return Failed(self._fail(error))

    def window(self) -> RegisterWindow | None:
        return self._current().window

    def step_to(self, cpu: VirtualCpu, plants: tuple[int, int], ends: tuple[int, int]) -> Exit:
        assert self._memory is not None
        vcpu = self._active
        try:
            if vcpu is None or not vcpu.long or self._failure or self.space != self._active_space:
                vcpu = self._ready(cpu)
            return vcpu.step_to(cpu, self._memory.view, plants, ends)
        except (EngineError, OSError) as error:
            return Failed(self._fail(error))

    def reach(self, cpu: VirtualCpu, rip: int, gpr: list[int], passes: int) -> Exit:
        try:
            return self._ready(cpu).reach(cpu, rip, gpr, passes)
        except (EngineError, OSError) as error:
            return Failed(self._fail(error))

    def escapes(self) -> tuple[str, ...] | None:
        memory, twin = self._memory, self._twin
        if self._failure or memory is None or twin is None:
            return None
        found: list[str] = []
        try:
            for vcpu in self._vcpus.values():
                found += audit.escapes(vcpu.process.pid, memory.ram.fd, twin.fd)
        except OSError as error:
            self._fail(error)
        return tuple(found)

    def interrupt(self) -> None:
        self._kick.due = True  # set before the process is chosen, so that no kick is lost
        active = self._active
        if active is not None:
            active.process.kick()

    def read_fpu(self) -> bytes:
        """The FXSAVE64 image. Reserved bytes are 0, and MXCSR_MASK is 0xFFFF on every CPU."""
        try:
            image = self._current().process.read_fpu()
        except OSError as error:
            raise EngineError(self._fail(error)) from error
        image[28:32] = b"\xff\xff\0\0"
        image[416:512] = bytes(96)
        return bytes(image)

    def write_fpu(self, image: bytes) -> None:
        try:
            self._current().process.write_fpu(image)
        except OSError as error:
            raise EngineError(self._fail(error)) from error

    def close(self) -> None:
        for vcpu in self._vcpus.values():
            vcpu.process.kill()
        cpu_affinity.release()
        self._vcpus.clear()
        self._other.clear()
        self._active = None
        self._failure = self._failure or "the engine is closed"
        if self._twin is not None:
            self._twin.close()
            self._twin = None

    # The virtual TLB

    def patched_twin(self) -> memoryview | None:
        return self._twin.view if self._twin is not None else None

    def origin(self, cpu: VirtualCpu) -> int:
        return 0 if cpu.efer & Efer.LMA else host.lowest_address()

    def reaches(self, gva: int, length: int) -> bool:
        end = gva + length
        overlaps = gva < stub.REGION.stop and end > stub.REGION.start
        return host.lowest_address() <= gva and end <= TASK_END and not overlaps

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
        populate: bool = False,
    ) -> bool:
        """See ``DeprivilegedEngine.map``. Linux makes execute-only pages with protection keys.

        Raises MappingsFullError when the process has all the mappings that Linux allows: after
        ``drop_all`` it works again. Raises EngineError when the process is gone.
        """
        if not self.reaches(gva, length):
            return False
        end = gva + length
        protection = linux.PROT_READ * (readable or not self.hides_code) | linux.PROT_WRITE * writable
        protection |= linux.PROT_EXEC * executable
        if executable and not twin:
            self._unpatched.add((space, gva, end))
        how = linux.MAP_SHARED | linux.MAP_FIXED | linux.MAP_POPULATE * populate
        source = stub.TWIN_FD if twin else stub.RAM_FD
        self._cover(space, gva, end)
        self._call(space, linux.SYS_MMAP, gva, length, protection, how, source, gpa)
        return True

    def map_copies(self, space: int, gva: int, gpa: int, length: int) -> bool:
        """See ``DeprivilegedEngine.map_copies``: Linux's copy-on-write of a private mapping."""
        if self._knows_copies is None:
            self._knows_copies = self._vcpu(space).process.knows_copies()
        if not self._knows_copies or not self.reaches(gva, length):
            return False
        self._cover(space, gva, gva + length)
        how = linux.MAP_PRIVATE | linux.MAP_FIXED
        both = linux.PROT_READ | linux.PROT_WRITE
        self._call(space, linux.SYS_MMAP, gva, length, both, how, stub.RAM_FD, gpa)
        return True

    def take_copies(self, space: int, gva: int, gpa: int, length: int) -> list[int]:
        assert self._memory is not None
        vcpu = self._vcpu(space)
        try:
            vcpu.keep_fault()
            stored = vcpu.process.copied(gva, length // PAGE)
            begin = 0
            while begin < len(stored):
                first = stored[begin]
                end = begin
                while end < len(stored) and stored[end] - first == end - begin:
                    end += 1
                at, size = first * PAGE, (end - begin) * PAGE
                vcpu.process.copy_to(self._memory.ram.fd, gpa + at, gva + at, size)
                begin = end
        except OSError as error:
            raise EngineError(self._fail(error)) from error
        return stored

    def _no_code(self, space: int, start: int, end: int) -> None:
        """Unpatched code is mapped there no longer."""
        if self._unpatched:
            self._unpatched -= {
                there
                for there in self._unpatched
                if there[0] == space and start <= there[1] and there[2] <= end
            }

    def _cover(self, space: int, start: int, end: int) -> None:
        extent = self._extents.get(space, range(start, end))
        self._extents[space] = range(min(start, extent.start), max(end, extent.stop))

    def unmap(self, space: int, gva: int, length: int) -> None:
        """Raises MappingsFullError when splitting a mapping would take one too many."""
        extent = self._extents.get(space, range(0))
        start, end = max(gva, extent.start), min(gva + length, extent.stop)
        self._no_code(space, gva, gva + length)
        for low, high in _around_stub(start, end):
            self._call(space, linux.SYS_MUNMAP, low, high - low)

    def drop_all(self) -> None:
        for space, extent in list(self._extents.items()):
            for low, high in _around_stub(extent.start, extent.stop):
                self._call(space, linux.SYS_MUNMAP, low, high - low)
            del self._extents[space]
        self._unpatched.clear()

    def drop_all_but(self, space: int, pages: Sequence[int]) -> bool:
        extent = self._extents.get(space)
        if extent is None:
            return False
        self._no_code(space, extent.start, extent.stop)
        start = extent.start
        for end in (*pages, extent.stop):
            for low, high in _around_stub(start, end):
                self._call(space, linux.SYS_MUNMAP, low, high - low)
            start = end + PAGE
        self._extents[space] = range(pages[0], pages[-1] + PAGE)
        return True

    def drop_space(self, space: int) -> None:
        extent = self._extents.pop(space, range(0))
        self._no_code(space, extent.start, extent.stop)
        for low, high in _around_stub(extent.start, extent.stop):
            self._call(space, linux.SYS_MUNMAP, low, high - low)

    def fault_was_write(self, cpu: VirtualCpu) -> bool:
        """Must be called before the next mapping or entry. About 25 us."""
        return bool(self.fault_error_code() & 2)

    def fault_error_code(self) -> int:
        """The error code that the CPU pushed at the last Fault. For #PF it has all bits (SDM vol. 3,
        4.7), with U always set. Must be called before the next mapping or entry."""
        try:
            return self._current().error_code()
        except OSError as error:
            raise EngineError(self._fail(error)) from error

    # The two processes

    def _call(self, space: int, number: int, *arguments: int) -> None:
        """A system call in the process of ``space``."""
        if self._failure:
            raise EngineError(self._failure)
        try:
            result = self._vcpu(space).syscall(number, *arguments)
        except OSError as error:
            raise EngineError(self._fail(error)) from error
        if result == -errno.ENOMEM:
            raise MappingsFullError("the vCPU process has all the mappings that Linux allows")
        if result < 0:
            raise EngineError(f"the host refused to map guest memory: {os.strerror(-result)}")

    def _current(self) -> Vcpu:
        """The vCPU of ``space``, ready to be entered."""
        active = self._active
        if active is None or self._failure or self.space != self._active_space:
            return self._activate(self.space)
        return active

    def _ready(self, cpu: VirtualCpu) -> Vcpu:
        """The vCPU of ``space`` for the guest's present mode, ready to be entered."""
        vcpu, space = self._current(), self.space
        if bool(vcpu.long) == is_long(cpu):
            return vcpu
        other = self._other.get(space) or LegacyVcpu(vcpu, self._kick, host.lowest_address())
        vcpu.release()
        self._other[space], self._vcpus[space] = vcpu, other
        return self._activate(space)

    def _activate(self, space: int) -> Vcpu:
        """Switch to another space: the extended state is moved to its process."""
        if self._failure:
            raise EngineError(self._failure)
        vcpu, old = self._vcpu(space), self._active
        if old is not None and old.process is not vcpu.process:
            vcpu.process.tracee.set_xstate(old.process.tracee.get_xstate())
        self._active, self._active_space = vcpu, space
        return vcpu

    def _vcpu(self, space: int) -> Vcpu:
        vcpu = self._vcpus.get(space)
        if vcpu is None:
            if self._memory is None or self._twin is None:
                raise EngineError("the engine has no guest loaded")
            tsc_traps = self.pure or self.tsc_traps
            try:
                process = VcpuProcess(self._memory.ram.fd, self._twin.fd, tsc_traps=tsc_traps)
            except UnavailableError as error:
                if self._vcpus:  # it has been available until now
                    raise EngineError(str(error)) from error
                raise
            vcpu = Vcpu(process, self._kick)
            self._vcpus[space] = vcpu
        return vcpu

    def _fail(self, error: Exception) -> str:
        """Disable the engine after an error and kill its processes, since the guest's state may be
        lost. Returns the reason."""
        if not self._failure:
            self._failure = str(error)
            if isinstance(error, OSError) and error.errno is not None:
                lost = error.errno == errno.ESRCH  # only SIGKILL ends a process that ptrace holds
                self._failure = describe_end(signal.SIGKILL) if lost else f"ptrace failed: {error}"
        for vcpu in self._vcpus.values():
            vcpu.process.kill()
        return self._failure


def _around_stub(start: int, end: int) -> list[tuple[int, int]]:
    """The parts of a range that do not belong to the stub."""
    parts = ((start, min(end, stub.REGION.start)), (max(start, stub.REGION.stop), end))
    return [(low, high) for low, high in parts if low < high]
