"""One vCPU: enters the guest in a vCPU process, and decodes the stop into an exit.

Registers are written only when they differ from those that the last stop left in the process: a step
through ordinary code costs one system call to resume, one to wait, and two to read the state.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from operator import itemgetter
from struct import Struct
from time import perf_counter_ns

from cores.engines.ptrace import linux
from cores.engines.ptrace.compound_call import PUT, REGISTERS, REQUEST, WANT_SIGNAL
from cores.x86.mode import CODE_64
from cores.x86.virtual_cpu import VirtualCpu

from ...errors import EngineError
from ...x86.registers import FS, GS, RSP, USER_FLAGS, Cr0, Flag, Vector, canonical
from ..base import (
    BUDGET_SPENT,
    INTERRUPTED,
    STEPPED,
    SYSTEM_CALL,
    Exit,
    Fault,
    Handlers,
    RegisterWindow,
)
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

# Indices in linux.USER_REGS
_ORIG_RAX, _RIP, _CS, _FLAGS, _FS_BASE, _GS_BASE = 15, stops.RIP, 17, 18, 21, 22
GENERAL_PLACES = (10, 11, 12, 5, 19, 4, 13, 14, 9, 8, 7, 6, 3, 2, 1, 0)  # in encoding order
GENERAL = itemgetter(*GENERAL_PLACES)
_SELECTORS = slice(23, 27)  # ds es fs gs
_NO_SELECTORS = (0, 0, 0, 0)
_RESUME = Struct("<3Q")  # rip, cs, eflags: neighbours

# Plain numbers, since comparing enums is slow.
_AC, _AM, _RF = Flag.AC, Cr0.AM, Flag.RF
_SIGSEGV, _SIGSYS = int(signal.SIGSEGV), int(signal.SIGSYS)
_SEGMENTATION_FAULT = _SIGSEGV << 8 | stops.STOPPED
_SI_KERNEL = linux.SI_KERNEL
_HLT = 0xF4
OUT_OF_REACH = TASK_END - 0x1000
"""A base in the topmost page, which Linux never maps: accesses near it fault."""
_HOST_FLAGS = Flag.IF | Flag.FIXED  # ring 3 cannot change these
_FOREIGN_FLAGS = ~(USER_FLAGS | _AC | _HOST_FLAGS | _RF)
"""Flags that must not stay in the process. RF may, which each fault leaves set: it has the CPU pass a
breakpoint at RIP, and where there is one ``_prepare`` wants it set (SDM vol. 3, 17.3.1.1)."""

LONG_NS = 1_000_000
"""After a run this long, the next one is placed by the scheduler instead of bound to our own CPU."""


def native_flags(cpu: VirtualCpu) -> int:
    """The bits of RFLAGS that are loaded for the guest: status flags, DF, and AC where the guest's user
    code has enabled alignment checks (SDM vol. 3, 6.15, #AC)."""
    flags = cpu.rflags & USER_FLAGS
    if cpu.rflags & _AC and cpu.cr0 & _AM and cpu.cpl == 3:
        flags |= _AC
    return flags


@dataclass(slots=True)
class Kick:
    """due: an interruption has been requested. Shared by an engine's vCPUs; set from any thread, before
    the process that was entered last is kicked."""

    due: bool = False


def _held(base: int) -> int:
    """The real FS or GS base for a virtual one, which the host's kernel may refuse."""
    return base if base < TASK_END else OUT_OF_REACH


class Vcpu:
    """Enters the guest in one process. Raises EngineError, or OSError when the process is gone.

    long: CS.L of the code that it enters; 0 for 16- and 32-bit code (legacy.py)."""

    long = CODE_64

    def __init__(self, process: VcpuProcess, kick: Kick) -> None:
        self.process = process
        self._kick = kick
        self._tracee = process.tracee
        self.window = RegisterWindow(
            process.tracee.words, tuple(REGISTERS + place for place in GENERAL_PLACES),
            REGISTERS + _RIP, REGISTERS + _FLAGS,
        )  # fmt: skip
        self._lasted = True  # was the last run long?
        self._at_fault = False
        self._trap: tuple[int, int] | None = None
        self._until: int | None = None  # the address of the hardware breakpoint
        self._code_selector = USER_CS  # with which the guest was entered
        # The process's registers. loaded: they are those of ``_general`` and ``_rest``, and need not be
        # written if the guest's are the same. ordinary: all but RIP and flags need not be written.
        self._loaded = self._ordinary = False
        self._stale = True  # do the prepared registers have to be written to the process?
        self._general: list[int] = []
        self._rest: tuple[int, int, int, int] = (0, 0, 0, 0)  # rip, flags, fs base, gs base

    def origin(self, cpu: VirtualCpu) -> int:
        """The host's address of the guest's linear address 0."""
        return 0

    def host_address(self, cpu: VirtualCpu, rip: int) -> int:
        """The host's address of the code at ``rip``."""
        return rip

    def stack_top(self, cpu: VirtualCpu) -> int:
        """The host's address of the top of the stack."""
        return cpu.gpr[RSP]

    def release(self) -> None:
        """Another object enters the same process next: registers and breakpoints are not kept."""
        self._loaded = self._ordinary = False
        if self._until is not None:
            self._break_at(None)

    def step(self, cpu: VirtualCpu) -> Exit:
        """Execute one instruction; see ``PtraceEngine.step``."""
        refused = self._before_step(cpu)
        if refused is not None:
            return refused
        tracee, put, start = self._tracee, self._stale, cpu.rip
        while True:
            self._loaded = self._ordinary = False
            status, registers, code, address = tracee.enter(
                linux.PTRACE_SYSEMU_SINGLESTEP, put=put, briefly=True
            )
            put = False
            if status == linux.STOPPED_SYSCALL:
                return SYSTEM_CALL
            if status & 0xFF != stops.STOPPED:
                raise EngineError(describe_end(status))
            if registers[_CS] != USER_CS:
                return Fault(Vector.GP, 0)
            if status == _SEGMENTATION_FAULT and code == _SI_KERNEL and registers[_RIP] == start:
                self._at_fault = True
                return stops.GENERAL_PROTECTION  # a privileged instruction
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

    def _before_step(self, cpu: VirtualCpu) -> Exit | None:
        """``_prepare``, without a breakpoint, on the CPU that the process is near."""
        if self._until is not None:
            self._break_at(None)
        if linux.sched_getcpu() != self.process.near:
            self.process.stay_near()
        return self._prepare(cpu)

    def step_to(
        self, cpu: VirtualCpu, ram: memoryview, plants: tuple[int, int], ends: tuple[int, int]
    ) -> Exit:
        """Execute one instruction with a HLT in RAM at each of ``plants``; see
        ``DeprivilegedEngine.step_to``."""
        refused = self._before_step(cpu)
        if refused is not None:
            return refused
        tracee, put = self._tracee, self._stale
        one, other = plants  # often the same
        at_one, at_other = ram[one], ram[other]
        while True:
            self._loaded = self._ordinary = False
            ram[one] = ram[other] = _HLT
            try:
                status, registers = tracee.enter_briefly(linux.PTRACE_SYSEMU, put=put)
            finally:
                ram[one], ram[other] = at_one, at_other
            put = False
            if status == _SEGMENTATION_FAULT and registers[_RIP] in ends and registers[_CS] == USER_CS:
                self._leave(cpu, registers)
                return STEPPED
            if status == linux.STOPPED_SYSCALL:
                return SYSTEM_CALL
            if status & 0xFF != stops.STOPPED:
                raise EngineError(describe_end(status))
            if registers[_CS] != USER_CS:
                return Fault(Vector.GP, 0)
            exit = self._step_fault(cpu, status, registers, *tracee.signal_info())
            if exit is not None:
                return exit

    def reach(self, cpu: VirtualCpu, rip: int, gpr: list[int], passes: int) -> Exit:
        """Run to a hardware breakpoint; see ``Engine.reach``. Each pass costs 23 us here.

        Linux refuses breakpoints from TASK_SIZE_MAX up, where the process can execute nothing
        (arch_check_bp_in_kernelspace). A guest that arrives there faults."""
        if _out_of_process(rip):
            return self.run(cpu)
        if rip != self._until:
            self._break_at(rip)
        refused = self._prepare(cpu)
        if refused is not None:
            return refused
        self.process.stay_near()
        self._loaded = self._ordinary = False  # ``registers`` may be prepared, and not written
        if self._kick.due:
            self._kick.due = False
            return INTERRUPTED
        tracee, wanted, put = self._tracee, tuple(gpr), self._stale
        while True:
            stop = tracee.enter(linux.PTRACE_SYSEMU, put=put)
            put = False  # the kernel has set RF: the next entry passes the breakpoint
            status, registers, _, _ = stop
            if status != STOPPED_STEP or registers[_RIP] != rip:
                break
            passes -= 1
            if GENERAL(registers) == wanted or passes < 0 or self._kick.due:
                self._leave(cpu, registers)
                return STEPPED if GENERAL(registers) == wanted else BUDGET_SPENT
        return self._left(cpu, stop, patched=False)

    def run(self, cpu: VirtualCpu, *, patched: bool = False) -> Exit:
        """Run freely; see ``PtraceEngine.run``. patched: the code contains no `int 4`."""
        if self._until is not None:
            self._break_at(None)
        refused = self._prepare(cpu)
        if refused is not None:
            return refused
        if self._lasted:
            self.process.roam()
        else:
            self.process.stay_near()
        self._loaded = self._ordinary = False  # ``registers`` may be prepared, and not written
        if self._kick.due:  # checked as late as possible: a later kick finds the process running
            self._kick.due = False
            return INTERRUPTED
        begin = perf_counter_ns()
        stop = self._tracee.enter(linux.PTRACE_SYSEMU, put=self._stale)
        self._lasted = perf_counter_ns() - begin > LONG_NS
        return self._left(cpu, stop, patched=patched)

    def run_known(self, cpu: VirtualCpu, handlers: Handlers, *, patched: bool) -> Exit:
        """See ``Engine.run_known``; the key is RIP. patched: as for ``run``.

        A privileged or patched instruction at RIP can only be refused, so a SIGSEGV there needs no
        siginfo: it is its #GP, or its page is not mapped at present, and has not changed."""
        if self._until is not None:
            self._break_at(None)
        refused = self._prepare(cpu)
        if refused is not None:
            return refused
        roams = self._lasted
        if roams:
            self.process.roam()
        else:
            self.process.stay_near()
        self._loaded = self._ordinary = False  # ``registers`` may be prepared, and not written
        if self._kick.due:  # checked as late as possible: a later kick finds the process running
            self._kick.due = False
            return INTERRUPTED
        tracee, find, kick = self._tracee, handlers.get, self._kick
        words, call, at = tracee.words, tracee.call, tracee.at
        rip, cs = REGISTERS + _RIP, REGISTERS + _CS
        words[REQUEST], words[PUT], words[WANT_SIGNAL] = linux.PTRACE_SYSEMU, True, False
        go_on: bool | None = True
        try:
            while go_on:
                if roams:
                    began = perf_counter_ns()
                status = call(at)
                if status != _SEGMENTATION_FAULT or words[cs] != self._code_selector:
                    break
                handler = find(words[rip])
                if handler is None:
                    break
                go_on = handler()
                if go_on and kick.due:  # a handler's own system call may have taken the signal
                    go_on = False
                if roams and perf_counter_ns() - began < LONG_NS:
                    roams = False
                    self.process.stay_near()
        except BaseException:
            self._take(cpu)
            raise
        self._lasted = status != _SEGMENTATION_FAULT  # it ran until something else stopped it
        if go_on is False:
            self._take(cpu)
            return INTERRUPTED
        if status < 0:
            status = tracee.wait_again(-status)
        return self._left(cpu, (status, *tracee.stopped()), patched=patched)

    def _take(self, cpu: VirtualCpu) -> None:
        """Copy the registers that a handler has changed, and that are not in the process yet."""
        self._leave(cpu, linux.USER_REGS.unpack(self._tracee.registers))
        self._loaded = self._ordinary = False

    def _left(
        self, cpu: VirtualCpu, stop: tuple[int, tuple[int, ...], int, int], *, patched: bool
    ) -> Exit:
        """The exit of a run that has ended. Reads the registers back."""
        status, registers, code, address = stop
        if status & 0xFF != stops.STOPPED:
            raise EngineError(describe_end(status))
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
        """Make a system call of the VMM in the process; returns its result, or negative errno."""
        self._loaded = self._ordinary = False
        self._at_fault &= self._trap is not None
        return self.process.syscall(number, *arguments)

    def keep_fault(self) -> None:
        """Before a system call: ask now for the error code of the last Fault, if it may be wanted."""
        if self._at_fault:
            self._ask_kernel()

    def error_code(self) -> int:
        """The error code of the last Fault. Raises RuntimeError when the process has run since."""
        if not self._at_fault:
            raise RuntimeError("no fault is pending in the vCPU process")
        return self._ask_kernel()[0]

    def _prepare(self, cpu: VirtualCpu) -> Exit | None:
        """Prepare the guest's registers, which have to be written to the process if ``_stale``. Returns
        a fault if RIP cannot be executed in the process."""
        self._at_fault = False
        self._trap = None
        rip = cpu.rip
        if rip >= TASK_END or rip in stub.REGION:  # ``_out_of_process``, without a call
            return _unreachable(rip)
        segments = cpu.segments
        flags = cpu.rflags & USER_FLAGS if not cpu.rflags & _AC else native_flags(cpu)
        if rip == self._until:
            flags |= _RF  # pass the breakpoint this time (SDM vol. 3, 17.3.1.1)
        fs_base, gs_base = segments[FS].base, segments[GS].base
        if (fs_base | gs_base) >= TASK_END:
            fs_base, gs_base = _held(fs_base), _held(gs_base)
        rest, gpr = (rip, flags, fs_base, gs_base), cpu.gpr
        same = gpr == self._general
        self._stale = not (self._loaded and same and rest == self._rest)
        if not self._stale:
            return None
        if self._ordinary and same and rest[2:] == self._rest[2:]:
            # the rest of ``registers`` is as the last stop left it
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
        cpu.gpr[:] = GENERAL(registers)
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
        self._ordinary = registers[_ORIG_RAX] == SYSCALL_NONE and registers[_SELECTORS] == _NO_SELECTORS
        self._loaded = self._ordinary and not native & _FOREIGN_FLAGS

    def _stopped(self, status: int) -> tuple[tuple[int, ...], int, int]:
        """Registers, si_code and si_addr of a stop. Raises EngineError when the process has ended."""
        if status & 0xFF != stops.STOPPED:
            raise EngineError(describe_end(status))
        return self._tracee.get(), *self._tracee.signal_info()

    def _step_fault(
        self, cpu: VirtualCpu, status: int, registers: tuple[int, ...], code: int, address: int
    ) -> Exit | None:
        """The exit of a step that did not end in its trap; None when the step has to be repeated."""
        if status >> 8 == _SIGSYS and code == linux.SIGSYS_BY_FILTER:
            return Fault(Vector.PF, None, cpu.rip)
        vector = vector_of(status, code)
        if vector == stops.FOREIGN:
            return None
        if vector == stops.UNCLEAR and status >> 8 == _SIGSEGV:
            moved = registers[_RIP] != cpu.rip
            if moved and registers[_RIP] >= TASK_END:  # a CPU that jumps first, then faults there
                self._leave(cpu, registers)
                return STEPPED
            vector = Vector.OF if moved else Vector.GP
        return self._exception(vector, address)

    def _finish_string(self, cpu: VirtualCpu, behind: int) -> Exit:
        """A REP instruction has made its first iteration: run to a breakpoint behind it.

        Stepping would stop at each iteration; with the breakpoint 100,000 take half a millisecond."""
        tracee = self._tracee
        trapping = behind < TASK_END  # code beyond cannot be executed: it faults by itself
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
                if exit is None and registers[_RIP] != behind:  # the VMM checks its time limit
                    exit = INTERRUPTED
                if exit is not None:  # SDM vol. 2, REP: flags are those from before
                    self._leave(cpu, registers, cpu.rflags)
                    self._loaded = False
            if exit is not None:
                self._break_at(None)
                return exit

    def _break_at(self, address: int | None) -> None:
        """Set or clear the hardware breakpoint on execution: DR0, local (SDM vol. 3, 17.2)."""
        self._tracee.set_debug_register(7, 0)
        if address is not None:
            self._tracee.set_debug_register(0, address)
            self._tracee.set_debug_register(7, 1)
        self._until = address

    def _run_fault(self, cpu: VirtualCpu, status: int, code: int, address: int) -> Exit:
        if (
            status >> 8 == _SIGSYS and code == linux.SIGSYS_BY_FILTER
        ):  # the vsyscall page: Linux has emulated the call's return
            cpu.gpr[4] -= 8
            cpu.rip = address
            return _unreachable(address)
        vector = vector_of(status, code)
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
        """The address of the instruction whose trap has ended a run."""
        tracee = self._tracee
        before, behind = tracee.peek(rip - 1, 1), tracee.peek(rip, stops.LONGEST)
        first, *others = stops.trap_starts(vector, rip, before, behind)
        if others:  # INT1 after INT1: a step tells whether RIP is reported at the instruction
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
        """(error code, vector) of the exception that has stopped the process; read once."""
        if self._trap is None:
            self._loaded = self._ordinary = False
            error, vector, _ = self.process.last_trap()
            self._trap = error, vector
        return self._trap


def vector_of(status: int, code: int) -> int:
    """``stops.vector`` of a wait status; FOREIGN for ptrace's own events too."""
    vector = stops.vector(status >> 8, code)
    if vector == stops.NO_MEMORY:
        raise EngineError("the host has no memory left for the guest's RAM")
    return vector


def _out_of_process(rip: int) -> bool:
    """Is ``rip`` beyond the host process's address space, or in the stub's pages?"""
    return rip >= TASK_END or rip in stub.REGION


def _unreachable(rip: int) -> Fault:
    """The fault of a fetch from an address at which the process cannot map the guest's pages."""
    return Fault(Vector.PF, None, rip) if canonical(rip) else Fault(Vector.GP, 0)
