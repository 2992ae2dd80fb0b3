"""One vCPU in 16- and 32-bit code: real mode, protected mode and compatibility mode of the guest.

A 64-bit process executes 32-bit code as soon as CS says so. What differs from 64-bit code is here:

    segments    loaded with the guest's bases and limits (selectors.py)
    addresses   RIP is an offset in CS; the guest's linear addresses begin at ``origin``
    RSP         keeps its upper half: Linux returns to a local stack segment by way of a stack of its
                own, whose address remains there (espfix)
    64-bit code the host's selector 0x33 is there for everyone, and no descriptor forbids it. Far
                transfers, SYSCALL and SYSENTER are found before they run, or patched; CS is compared
                at each stop
"""

from __future__ import annotations

import signal
from time import perf_counter_ns

from cores.engines.ptrace import linux, stops
from cores.engines.ptrace.process import STOPPED_STEP, SYSCALL_NONE, describe_end
from cores.engines.ptrace.selectors import LocalTable, Selectors
from cores.engines.ptrace.vcpu import GENERAL, LONG_NS, Kick, Vcpu, native_flags, vector_of
from cores.errors import EngineError
from cores.x86.mode import stack_bits
from cores.x86.registers import CS, FS, GS, MASK32, RSP, SS, USER_FLAGS, Efer, Flag, Vector
from cores.x86.virtual_cpu import VirtualCpu

from ..base import BUDGET_SPENT, INTERRUPTED, STEPPED, SYSTEM_CALL, Exit, Fault

LEFT = "the guest changed its code segment by a far transfer that nothing intercepted"
CALLED = "the guest called the host's kernel by an instruction that nothing intercepted"
Stop = tuple[int, tuple[int, ...], int, int]
"""Wait status, registers, si_code and si_addr, as ``Tracee.enter`` gives them."""

_GENERAL_PROTECTION = signal.SIGSEGV << 8 | stops.STOPPED
_HOST_FLAGS = Flag.IF | Flag.FIXED
_TRAPS = (Vector.BP, Vector.OF, Vector.DB)
_INT_80, _INTO, _HLT = b"\xcd\x80", 0xCE, 0xF4


class LegacyVcpu(Vcpu):
    """Enters 16- and 32-bit code in the process of ``vcpu``. lowest: the lowest address that the host
    maps for a guest, at which the guest's linear addresses begin where it is not in long mode."""

    long = 0

    def __init__(self, vcpu: Vcpu, kick: Kick, lowest: int) -> None:
        super().__init__(vcpu.process, kick)
        self._table = LocalTable(vcpu.process)
        self._lowest = lowest
        self._origin = 0
        self._base = 0  # the host's address of CS:0
        self._selectors: Selectors = (0, 0, 0, 0, 0, 0)

    def origin(self, cpu: VirtualCpu) -> int:
        """The host's address of the guest's linear address 0."""
        return 0 if cpu.efer & Efer.LMA else self._lowest

    def host_address(self, cpu: VirtualCpu, rip: int) -> int:
        return cpu.segments[CS].base + self.origin(cpu) + rip & MASK32

    def stack_top(self, cpu: VirtualCpu) -> int:
        top = cpu.gpr[RSP] & (1 << stack_bits(cpu)) - 1
        return cpu.segments[SS].base + self.origin(cpu) + top & MASK32

    def step(self, cpu: VirtualCpu) -> Exit:
        if self._until is not None:
            self._break_at(None)
        self._load(cpu)
        self.process.stay_near()
        tracee, put, start = self._tracee, self._stale, cpu.rip
        while True:
            stop = tracee.enter(linux.PTRACE_SYSEMU_SINGLESTEP, put=put, briefly=True)
            put = False
            status, registers, code, _ = stop
            if status == linux.STOPPED_SYSCALL:
                return SYSTEM_CALL
            if status & 0xFF != stops.STOPPED:
                raise EngineError(describe_end(status))
            if registers[linux.CS] != self._selectors[CS]:
                return Fault(Vector.GP, 0)  # of textbook trap-and-emulate alone
            if status == STOPPED_STEP and code in (linux.TRAP_TRACE, linux.TRAP_HWBKPT):
                if registers[linux.RIP] & MASK32 == start:
                    length = stops.repeated_string_length(self._peek(start, stops.LONGEST))
                    if length:
                        return self._finish_string(cpu, start + length)
                self._leave(cpu, registers)
                return STEPPED
            exit = self._fault(stop, start)
            if exit is not None:
                return exit

    def reach(self, cpu: VirtualCpu, rip: int, gpr: list[int], passes: int) -> Exit:
        base = self._base
        self._find_base(cpu)
        if rip != self._until or self._base != base:
            self._break_at(rip)
        self._load(cpu)
        self.process.stay_near()
        if self._kick.due:
            self._kick.due = False
            return INTERRUPTED
        tracee, put = self._tracee, self._stale
        while True:
            stop = tracee.enter(linux.PTRACE_SYSEMU, put=put)
            put = False  # the kernel has set RF: the next entry passes the breakpoint
            status, registers, _, _ = stop
            if status != STOPPED_STEP or registers[linux.RIP] & MASK32 != rip:
                return self._left(cpu, stop, patched=False)
            passes -= 1
            self._leave(cpu, registers)
            if cpu.gpr == gpr:
                return STEPPED
            if passes < 0 or self._kick.due:
                return BUDGET_SPENT

    def run(self, cpu: VirtualCpu, *, patched: bool = False) -> Exit:
        if self._until is not None:
            self._break_at(None)
        self._load(cpu)
        if self._lasted:
            self.process.roam()
        else:
            self.process.stay_near()
        if self._kick.due:
            self._kick.due = False
            return INTERRUPTED
        begin = perf_counter_ns()
        stop = self._tracee.enter(linux.PTRACE_SYSEMU, put=self._stale)
        self._lasted = perf_counter_ns() - begin > LONG_NS
        return self._left(cpu, stop, patched=patched)

    def _prepare(self, cpu: VirtualCpu) -> None:
        self._load(cpu)

    def _load(self, cpu: VirtualCpu) -> None:
        """Prepare the guest's registers; ``_stale``: they have to be written to the process."""
        self._at_fault, self._trap = False, None
        self._find_base(cpu)
        selectors, flags = self._table.load(cpu, self._origin), native_flags(cpu)
        if cpu.rip == self._until:
            flags |= Flag.RF  # pass the breakpoint this time
        same = selectors == self._selectors and (cpu.rip, flags, 0, 0) == self._rest
        self._stale = not (same and self._loaded and cpu.gpr == self._general)
        self._loaded = False
        if not self._stale:
            return
        self._selectors = es, cs, ss, ds, fs, gs = selectors
        self._code_selector = cs
        rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15 = cpu.gpr
        fs_base, gs_base = (cpu.segments[n].base + self._origin & MASK32 for n in (FS, GS))
        linux.USER_REGS.pack_into(
            self._tracee.registers, 0,
            r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi,
            SYSCALL_NONE, cpu.rip, cs, flags | _HOST_FLAGS, rsp, ss,
            fs_base if fs else 0, gs_base if gs else 0, ds, es, fs, gs,
        )  # fmt: skip

    def _find_base(self, cpu: VirtualCpu) -> None:
        self._origin = self.origin(cpu)
        self._base = cpu.segments[CS].base + self._origin & MASK32

    def _leave(self, cpu: VirtualCpu, registers: tuple[int, ...], flags: int | None = None) -> None:
        top = cpu.gpr[RSP] & ~MASK32
        cpu.gpr[:] = GENERAL(registers)
        cpu.gpr[RSP] = top | cpu.gpr[RSP] & MASK32
        cpu.rip = registers[linux.RIP] & MASK32
        native = registers[linux.FLAGS]
        cpu.rflags = cpu.rflags & ~USER_FLAGS | (native if flags is None else flags) & USER_FLAGS
        self._general = cpu.gpr.copy()
        self._rest = (cpu.rip, native & ~(_HOST_FLAGS | Flag.RF), 0, 0)
        self._loaded = registers[linux.ORIG_RAX] == SYSCALL_NONE

    def _left(self, cpu: VirtualCpu, stop: Stop, *, patched: bool) -> Exit:
        status, registers, code, _ = stop
        if status & 0xFF != stops.STOPPED:
            raise EngineError(describe_end(status))
        if registers[linux.CS] != self._selectors[CS]:
            raise EngineError(LEFT)
        self._leave(cpu, registers)
        if status == linux.STOPPED_SYSCALL:
            cpu.rip = cpu.rip - 2 & MASK32
            if self._peek(cpu.rip, 2) != _INT_80:
                raise EngineError(CALLED)
            cpu.gpr[0] = registers[linux.ORIG_RAX]
            return SYSTEM_CALL
        exit = self._fault(stop, None)
        if exit is None:
            self._kick.due = False
            return INTERRUPTED
        if isinstance(exit, Fault) and exit.vector in _TRAPS and code != linux.TRAP_TRACE:
            cpu.rip = self._trapped_at(exit.vector, cpu.rip)
        return exit

    def _fault(self, stop: Stop, start: int | None) -> Exit | None:
        """The exit of a stop that is a signal; None for a signal without an exception. start: the
        address of the instruction that was stepped, None after a run."""
        status, registers, code, address = stop
        vector = vector_of(status, code)
        if vector == stops.FOREIGN:
            return None
        self._at_fault = True
        if vector == stops.UNCLEAR:
            clear = status == _GENERAL_PROTECTION and self._is_plain(registers, start)
            vector = Vector.GP if clear else self._ask_kernel()[1]
        if vector == Vector.PF:
            address = address - self._origin & MASK32
        return stops.fault(vector, None, address)

    def _is_plain(self, registers: tuple[int, ...], start: int | None) -> bool:
        """Whether a SIGSEGV of the kernel's can only be a #GP: neither the #OF of INTO and INT 4, which
        are traps, nor the #BR of BOUND."""
        rip = registers[linux.RIP] & MASK32
        pair = self._tracee.peek_pair(self._base + rip - 1 & MASK32)
        if pair >> 8 == _HLT and pair & 0xFF not in (_INTO, 4):
            return True  # a patch, mostly: one word in place of five
        if start is None:
            if self._peek(rip - 1, 1) == bytes([_INTO]) or self._peek(rip - 2, 2) == b"\xcd\x04":
                return False
        elif rip != start:
            return False
        return not stops.is_bound(self._peek(rip, stops.LONGEST))

    def _trapped_at(self, vector: int, rip: int) -> int:
        """The address of the instruction whose trap has ended a run."""
        before, behind = self._peek(rip - 1, 1), self._peek(rip, stops.LONGEST)
        if vector == Vector.OF and before == bytes([_INTO]):
            return rip - 1 & MASK32
        return stops.trap_starts(vector, rip, before, behind)[0] & MASK32

    def _finish_string(self, cpu: VirtualCpu, behind: int) -> Exit:
        """A REP instruction has made its first iteration: run to a breakpoint behind it."""
        start = cpu.rip
        self._break_at(behind)
        stop = self._tracee.enter(linux.PTRACE_SYSEMU, put=False)
        status, registers, code, _ = stop
        if status & 0xFF != stops.STOPPED:
            raise EngineError(describe_end(status))
        self._break_at(None)
        if status == STOPPED_STEP and code == linux.TRAP_HWBKPT:
            self._leave(cpu, registers)
            return STEPPED
        exit = self._fault(stop, start) or INTERRUPTED  # the VMM checks its time limit
        self._leave(cpu, registers, cpu.rflags)  # SDM vol. 2, REP: flags are those from before
        self._loaded = False
        return exit

    def _break_at(self, address: int | None) -> None:
        super()._break_at(None if address is None else self._base + address & MASK32)
        self._until = address

    def _peek(self, rip: int, length: int) -> bytes:
        """Code at CS:``rip``."""
        return self._tracee.peek(self._base + rip & MASK32, length)
