"""One vCPU: the guest's registers into a vCPU process, and at its stop what the CPU meant by it.

Registers are written only when they differ from what the last stop left in the process: a guest that
is stepped through ordinary code costs one system call to resume, one to wait, and two to look.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from operator import itemgetter
from struct import Struct
from time import perf_counter_ns

from cores.engines.ptrace import linux
from cores.x86.virtual_cpu import VirtualCpu

from ...errors import EngineError
from ...x86.registers import FS, GS, USER_FLAGS, Cr0, Flag, Vector, canonical
from ..base import BUDGET_SPENT, INTERRUPTED, STEPPED, SYSTEM_CALL, Exit, Fault
from . import stops, stub
from .process import (
    STOPPED_STEP,
    SYSCALL_NONE,
    TASK_END,
    USER_CS,
    USER_SS,
    VcpuProcess,
    describe_end,
)

# Places in linux.USER_REGS
_ORIG_RAX, _RIP, _CS, _FLAGS, _FS_BASE, _GS_BASE = 15, stops.RIP, 17, 18, 21, 22
_GENERAL = itemgetter(10, 11, 12, 5, 19, 4, 13, 14, 9, 8, 7, 6, 3, 2, 1, 0)  # in encoding order
_SELECTORS = slice(23 * 8, 27 * 8)  # ds es fs gs in the packed registers
_NO_SELECTORS = bytes(32)
_RESUME = Struct("<3Q")  # rip, cs, eflags: neighbours

# Plain numbers: comparing enums is slow.
_AC, _AM, _RF = Flag.AC, Cr0.AM, Flag.RF
_SIGSEGV, _SIGSYS = int(signal.SIGSEGV), int(signal.SIGSYS)
_SEGMENTATION_FAULT = _SIGSEGV << 8 | stops.STOPPED
_SI_KERNEL = linux.SI_KERNEL
OUT_OF_REACH = TASK_END - 0x1000
"""A base in the topmost page, which Linux never maps: what is accessed near it faults."""
_HOST_FLAGS = Flag.IF | Flag.FIXED  # what ring 3 cannot change
_FOREIGN_FLAGS = ~(USER_FLAGS | _AC | _HOST_FLAGS)

_LONG_NS = 1_000_000
"""A guest that ran so long is left to the scheduler next time, instead of held to our own CPU."""


def native_flags(cpu: VirtualCpu) -> int:
    """The bits of RFLAGS that the guest is given for its own: status flags, DF, and AC where the
    guest's user code really asked for alignment checks (SDM vol. 3, 6.15, #AC)."""
    flags = cpu.rflags & USER_FLAGS
    if cpu.rflags & _AC and cpu.cr0 & _AM and cpu.cpl == 3:
        flags |= _AC
    return flags


@dataclass(slots=True)
class Kick:
    """Is an interruption due? Shared by an engine's vCPUs; set from any thread, and only then is the
    process kicked that was entered last."""

    due: bool = False


def _held(base: int) -> int:
    """What stands in the real FS or GS base for a virtual one that the host's kernel refuses."""
    return base if base < TASK_END else OUT_OF_REACH


class Vcpu:
    """Enters the guest in one process. Raises EngineError, or OSError when the process is gone."""

    def __init__(self, process: VcpuProcess, kick: Kick) -> None:
        self.process = process
        self._kick = kick
        self._tracee = process.tracee
        self._lasted = True  # did the last run last?
        self._at_fault = False
        self._trap: tuple[int, int] | None = None
        self._until: int | None = None  # where the hardware breakpoint is
        # What the process holds, if anything known. loaded: the next entry finds everything as it
        # would set it. ordinary: the last stop's registers need but RIP and flags changed for that.
        self._loaded = self._ordinary = False
        self._stale = True  # has the process yet to be given what was laid out for it?
        self._general: list[int] = []
        self._rest: tuple[int, int, int, int] = (0, 0, 0, 0)  # rip, flags, fs base, gs base

    def step(self, cpu: VirtualCpu) -> Exit:
        """One instruction; see ``PtraceEngine.step``."""
        if self._until is not None:
            self._break_at(None)
        refused = self._prepare(cpu)
        if refused is not None:
            return refused
        if linux.sched_getcpu() != self.process.near:
            self.process.stay_near()
        tracee, put, start = self._tracee, self._stale, cpu.rip
        while True:
            self._loaded = self._ordinary = False
            status, registers, code, address = tracee.step(put=put)
            put = False
            if not registers:
                if status == linux.STOPPED_SYSCALL:
                    return SYSTEM_CALL
                raise EngineError(describe_end(status))
            if registers[_CS] != USER_CS:
                return Fault(Vector.GP, 0)
            if status == _SEGMENTATION_FAULT and code == _SI_KERNEL and registers[_RIP] == start:
                self._at_fault = True
                return stops.GENERAL_PROTECTION  # what a privileged instruction gives
            refused = stops.refused_branch(registers[_RIP])
            if refused is not None:
                return refused
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

    def reach(self, cpu: VirtualCpu, rip: int, gpr: list[int], passes: int) -> Exit:
        """Run to a hardware breakpoint; see ``Engine.reach``. Each pass costs 23 us here.

        No breakpoint can stand where the process can execute nothing: Linux refuses addresses from
        TASK_SIZE_MAX up in DR0 (arch_check_bp_in_kernelspace). A guest that arrives there faults."""
        if _out_of_process(rip):
            return self.run(cpu)
        if rip != self._until:
            self._break_at(rip)
        refused = self._enter(cpu)
        if refused is not None:
            return refused
        self.process.stay_near()
        if self._kick.due:
            self._kick.due = False
            return INTERRUPTED
        tracee, wanted = self._tracee, tuple(gpr)
        self._loaded = self._ordinary = False
        while True:
            tracee.resume(linux.PTRACE_SYSEMU)  # the kernel has set RF: the breakpoint lets it go
            status = tracee.wait()
            if status != STOPPED_STEP:
                break
            registers = tracee.get()
            if registers[_RIP] != rip:
                break
            passes -= 1
            if _GENERAL(registers) == wanted or passes < 0 or self._kick.due:
                self._leave(cpu, registers)
                return STEPPED if _GENERAL(registers) == wanted else BUDGET_SPENT
        return self._left(cpu, status, patched=False)

    def run(self, cpu: VirtualCpu, *, patched: bool = False) -> Exit:
        """Until something must leave; see ``PtraceEngine.run``. patched: `int 4` cannot be met."""
        if self._until is not None:
            self._break_at(None)
        refused = self._enter(cpu)
        if refused is not None:
            return refused
        if self._lasted:
            self.process.roam()
        else:
            self.process.stay_near()
        if self._kick.due:  # asked as late as this: a later kick finds the process running
            self._kick.due = False
            return INTERRUPTED
        tracee = self._tracee
        self._loaded = self._ordinary = False
        begin = perf_counter_ns()
        tracee.resume(linux.PTRACE_SYSEMU)
        status = tracee.wait()
        self._lasted = perf_counter_ns() - begin > _LONG_NS
        return self._left(cpu, status, patched=patched)

    def _left(self, cpu: VirtualCpu, status: int, *, patched: bool) -> Exit:
        """A run has ended: the registers back, and why it ended."""
        registers, code, address = self._stopped(status)
        if registers[_CS] != USER_CS:
            raise EngineError("the guest left 64-bit mode by a far transfer that nothing intercepted")
        self._leave(cpu, registers)
        if cpu.rip in stub.REGION:
            return Fault(Vector.PF, None, cpu.rip)
        if status == linux.STOPPED_SYSCALL:
            cpu.gpr[0] = registers[_ORIG_RAX]
            cpu.rip -= 2
            return SYSTEM_CALL
        if status == _SEGMENTATION_FAULT and code == linux.SI_KERNEL and patched:
            self._at_fault = True
            return stops.GENERAL_PROTECTION  # nearly always
        return self._run_fault(cpu, status, code, address)

    def syscall(self, number: int, *arguments: int) -> int:
        """The VMM's own system call in the process: its result, or negative errno."""
        self._loaded = self._ordinary = self._at_fault = False
        return self.process.syscall(number, *arguments)

    def error_code(self) -> int:
        """What the CPU pushed at the last Fault. RuntimeError when the process has moved on since."""
        if not self._at_fault:
            raise RuntimeError("no fault is pending in the vCPU process")
        return self._ask_kernel()[0]

    def _enter(self, cpu: VirtualCpu) -> Exit | None:
        """Make the real registers the guest's; or say why that cannot be."""
        refused = self._prepare(cpu)
        if refused is None and self._stale:
            self._tracee.put()
        return refused

    def _prepare(self, cpu: VirtualCpu) -> Exit | None:
        """Lay the guest's registers out for the process, which has to be given them if ``_stale``; or
        say why it cannot have them."""
        self._at_fault = False
        self._trap = None
        rip = cpu.rip
        if _out_of_process(rip):
            return _unreachable(rip)
        segments = cpu.segments
        flags = cpu.rflags & USER_FLAGS if not cpu.rflags & _AC else native_flags(cpu)
        if rip == self._until:
            flags |= _RF  # the breakpoint is for the next time (SDM vol. 3, 17.3.1.1)
        fs_base, gs_base = segments[FS].base, segments[GS].base
        if (fs_base | gs_base) >= TASK_END:
            fs_base, gs_base = _held(fs_base), _held(gs_base)
        rest, gpr = (rip, flags, fs_base, gs_base), cpu.gpr
        same = gpr == self._general
        self._stale = not (self._loaded and same and rest == self._rest)
        if not self._stale:
            return None
        if self._ordinary and same and rest[2:] == self._rest[2:]:
            # the rest of ``registers`` is what the last stop left
            _RESUME.pack_into(self._tracee.registers, 8 * _RIP, rip, USER_CS, flags | _HOST_FLAGS)
            return None
        rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15 = gpr
        linux.USER_REGS.pack_into(
            self._tracee.registers, 0,
            r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi,
            SYSCALL_NONE, rip, USER_CS, flags | _HOST_FLAGS, rsp, USER_SS, fs_base, gs_base, 0, 0, 0, 0,
        )  # fmt: skip
        return None

    def _leave(self, cpu: VirtualCpu, registers: tuple[int, ...], flags: int | None = None) -> None:
        """Copy the real registers back. ``flags``: RFLAGS to keep instead of the real ones."""
        cpu.gpr[:] = _GENERAL(registers)
        cpu.rip = rip = registers[_RIP]
        native = registers[_FLAGS]
        cpu.rflags = cpu.rflags & ~USER_FLAGS | (native if flags is None else flags) & USER_FLAGS
        segments = cpu.segments
        fs_base, gs_base = registers[_FS_BASE], registers[_GS_BASE]
        if segments[FS].base < TASK_END:
            segments[FS].base = fs_base
        if segments[GS].base < TASK_END:
            segments[GS].base = gs_base
        self._general = cpu.gpr.copy()
        self._rest = (rip, native & (USER_FLAGS | _AC), fs_base, gs_base)
        self._ordinary = (
            registers[_ORIG_RAX] == SYSCALL_NONE and self._tracee.registers[_SELECTORS] == _NO_SELECTORS
        )
        self._loaded = self._ordinary and not native & _FOREIGN_FLAGS

    def _stopped(self, status: int) -> tuple[tuple[int, ...], int, int]:
        """Registers, si_code and si_addr of a stop; EngineError when it is the process's end."""
        if status & 0xFF != stops.STOPPED:
            raise EngineError(describe_end(status))
        return self._tracee.get(), *self._tracee.signal_info()

    def _step_fault(
        self, cpu: VirtualCpu, status: int, registers: tuple[int, ...], code: int, address: int
    ) -> Exit | None:
        """A step that ended in anything but its trap; None when it has not happened at all."""
        if status >> 8 == _SIGSYS and code == linux.SIGSYS_BY_FILTER:
            return Fault(Vector.PF, None, cpu.rip)
        vector = _vector(status, code)
        if vector == stops.FOREIGN:
            return None
        if vector == stops.UNCLEAR and status >> 8 == _SIGSEGV:
            moved = registers[_RIP] != cpu.rip
            if moved and registers[_RIP] >= TASK_END:  # CPUs that jump first and fault there
                self._leave(cpu, registers)
                return STEPPED
            vector = Vector.OF if moved else Vector.GP
        return self._exception(vector, address)

    def _finish_string(self, cpu: VirtualCpu, behind: int) -> Exit:
        """A REP instruction has done its first iteration: run to the breakpoint behind it.

        Stepping would take a stop an iteration; so 100,000 take half a millisecond."""
        tracee = self._tracee
        trapping = behind < TASK_END  # there nobody can arrive: it faults by itself
        self._break_at(behind if trapping else None)
        while True:
            tracee.resume(linux.PTRACE_SYSEMU)
            status = tracee.wait()
            registers, code, address = self._stopped(status)
            there = status == STOPPED_STEP and code == linux.TRAP_HWBKPT  # not an INT3 stored here
            if registers[_RIP] == behind and (there or not trapping):
                exit: Exit | None = STEPPED
                self._leave(cpu, registers)
            else:
                exit = self._step_fault(cpu, status, registers, code, address)
                if exit is None and registers[_RIP] != behind:  # long enough to be asked about
                    exit = INTERRUPTED
                if exit is not None:  # SDM vol. 2, REP: flags are those from before
                    self._leave(cpu, registers, cpu.rflags)
                    self._loaded = False
            if exit is not None:
                self._break_at(None)
                return exit

    def _break_at(self, address: int | None) -> None:
        """Have a hardware breakpoint on execution there, or none: DR0, local (SDM vol. 3, 17.2)."""
        self._tracee.set_debug_register(7, 0)
        if address is not None:
            self._tracee.set_debug_register(0, address)
            self._tracee.set_debug_register(7, 1)
        self._until = address

    def _run_fault(self, cpu: VirtualCpu, status: int, code: int, address: int) -> Exit:
        if (
            status >> 8 == _SIGSYS and code == linux.SIGSYS_BY_FILTER
        ):  # the vsyscall page: the call went there, and came back
            cpu.gpr[4] -= 8
            cpu.rip = address
            return _unreachable(address)
        vector = _vector(status, code)
        if vector == stops.FOREIGN:
            self._kick.due = False
            return INTERRUPTED
        if cpu.rip >= TASK_END:
            return _unreachable(cpu.rip)
        if vector == stops.UNCLEAR and status >> 8 == _SIGSEGV:
            maybe = self._tracee.peek_pair(cpu.rip - 2) == stops.INT_4
            vector = Vector.OF if maybe and self._ask_kernel()[1] == Vector.OF else Vector.GP
        if vector in (Vector.BP, Vector.OF, Vector.DB) and code != linux.TRAP_TRACE:
            cpu.rip = self._trap_start(vector, cpu.rip)
        return self._exception(vector, address)

    def _trap_start(self, vector: int, rip: int) -> int:
        """Where the instruction begins whose trap has ended a run."""
        tracee = self._tracee
        before, behind = tracee.peek(rip - 1, 1), tracee.peek(rip, stops.LONGEST)
        first, *others = stops.trap_starts(vector, rip, before, behind)
        if others:  # INT1 after INT1: where RIP is reported, the one there tells of itself
            self._loaded = self._ordinary = False
            tracee.resume(linux.PTRACE_SYSEMU_SINGLESTEP)
            registers, _, _ = self._stopped(tracee.wait_briefly())
            return rip if registers[_RIP] == rip else first
        return first

    def _exception(self, vector: int, address: int) -> Exit:
        self._at_fault = True
        error = None
        if vector == stops.UNCLEAR:
            error, vector = self._ask_kernel()
        return stops.fault(vector, error, address)

    def _ask_kernel(self) -> tuple[int, int]:
        """(error code, vector) of the exception that the process stands at; asked once."""
        if self._trap is None:
            self._loaded = self._ordinary = False
            error, vector, _ = self.process.last_trap()
            self._trap = error, vector
        return self._trap


def _vector(status: int, code: int) -> int:
    """``stops.vector`` of a wait status; FOREIGN for ptrace's own events too."""
    vector = stops.vector(status >> 8, code)
    if vector == stops.NO_MEMORY:
        raise EngineError("the host has no memory left for the guest's RAM")
    return vector


def _out_of_process(rip: int) -> bool:
    """Does the host's address space end below ``rip``, or has the stub its pages there?"""
    return rip >= TASK_END or rip in stub.REGION


def _unreachable(rip: int) -> Fault:
    """A fetch from where this process has, and can have, nothing of the guest's."""
    return Fault(Vector.PF, None, rip) if canonical(rip) else Fault(Vector.GP, 0)
