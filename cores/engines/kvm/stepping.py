"""Exactly one instruction, on a CPU that would rather run: KVM_SET_GUEST_DEBUG and its gaps.

After ``step`` either the instruction is complete, or it has faulted and nothing of it has happened:
an exception that the CPU delivered is taken back. The registers are still known, the frame says
the error code, and below the old RSP the VMM's own delivery will write the same frame again.
"""

from __future__ import annotations

import contextlib
import errno
from dataclasses import dataclass

from cores.engines.kvm import api, state
from cores.engines.kvm import guest_handlers as handlers
from cores.engines.kvm.debug_gate import TrapGate
from cores.engines.kvm.exit_errors import STEPS_USER, failure
from cores.engines.kvm.triple_fault import cause
from cores.pc.physical_memory import PhysicalMemory
from cores.x86.isa.accesses import accesses
from cores.x86.isa.decoder import Truncated, decode
from cores.x86.isa.instruction import Instruction, Reason, Sensitivity
from cores.x86.mmu.paging import Mmu
from cores.x86.virtual_cpu import VirtualCpu

from ...x86.faults import GuestFault
from ...x86.registers import MASK64, RSP, Flag, Vector, canonical
from ..base import (
    BUDGET_SPENT,
    INTERCEPT,
    INTERRUPTED,
    LACKING,
    SHUTDOWN,
    STEPPED,
    Exit,
    Failed,
    Fault,
    MmioRead,
    MmioWrite,
)

INTERCEPTS = frozenset({
    "in", "out", "ins", "outs", "hlt",  # the devices' and the VMM's own
    "cpuid", "rdtsc", "rdtscp", "rdmsr", "wrmsr", "rdpmc",  # a host may choose the result
    "mov cr", "invlpg", "swapgs",  # the VMM walks the same page tables, and keeps these MSRs
    "pushf", "popf", "iret", "int", "int1", "int3", "syscall", "sysret",  # show or change TF
    "sti", "lss",  # shadows, which stepping removes
    "stac", "clac", "lar", "lsl", "verr", "verw",
    "lfs", "lgs", "lcall", "ljmp", "retf", "wbinvd", "invd", "tzcnt", "lzcnt",
})  # fmt: skip
"""Completed by the VMM in exact mode: stepping cannot do them as the platform demands."""

BY_REASON = frozenset({Reason.SEGMENT, Reason.STATE})
"""More of them, which have no mnemonic of their own: MOV to SS, MOV DR."""

_TF = Flag.TF
NOTHING = decode(b"\x90")
"""A NOP: stands for the instruction of an entry that is for many."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How this host steps, as probed.

    kernel, user: KVM's single step works at CPL0, at CPL3. truthful: what ring 3 reads of the
    privileged state (SGDT, SMSW, STR ...) is the guest's and not the host's. calls: SYSCALL and INT n
    take ring 3 into the guest's kernel. interprets: the host's kernel executes ring 0 in software.
    """

    kernel: bool = True
    user: bool = True
    truthful: bool = True
    calls: bool = True
    interprets: bool = False


class Stepper:
    """Steps one vCPU."""

    def __init__(
        self, vcpu: api.Vcpu, registers: state.Registers, memory: PhysicalMemory, manner: Manner
    ) -> None:
        self._vcpu = vcpu
        self._run = vcpu.run
        self._registers = registers
        self._memory = memory
        self._manner = manner
        self._mmu = Mmu(memory, VirtualCpu())
        self._armed: tuple[int, tuple[int, ...]] | None = None
        self._idt = b""
        self._entries = handlers.entries(b"")
        self._places: dict[int, list[int]] = {}
        self._insn: Instruction | None = None  # half done: it waits for a device
        self._taken_back = False  # the last entry was, or the next one cannot be

    def flush(self) -> None:
        """Page tables changed, or the VMM has done in the guest's place what empties the TLB."""
        self._mmu.flush()
        self._registers.forget_translations()

    def forget(self) -> None:
        """Somebody else has used the debug registers, or put another state in place of this one."""
        self._armed = None
        self._insn = None

    @property
    def waiting(self) -> bool:
        """Is a step half done, and a device to be asked?"""
        return self._insn is not None

    def disarm(self) -> None:
        """From now on the guest runs freely."""
        self._insn = None
        if self._armed is not None:
            self._vcpu.guest_debug(0)
            self._armed = None
            self._registers.forget_debug()

    def step(self, cpu: VirtualCpu) -> Exit:
        """One instruction. At a device's access ``cpu`` still shows the state before it."""
        if self._insn is not None:
            return self._resume(cpu, self._insn)
        if self._mmu.cpu is not cpu:
            self._mmu = Mmu(self._memory, cpu)
        try:
            insn = decode(self._mmu.fetch(cpu.rip))
        except GuestFault as fault:
            return Fault(fault.vector, fault.error, fault.address)
        except Truncated:
            return Fault(Vector.UD)
        if insn.mnemonic in INTERCEPTS or insn.reason in BY_REASON:
            return INTERCEPT
        if cpu.cpl == 3 and not self._manner.truthful and insn.sensitivity is Sensitivity.SILENT:
            return LACKING
        return self._until_complete(cpu, insn)

    def reach(self, cpu: VirtualCpu, rip: int, gpr: list[int], passes: int) -> Exit:
        """To a hardware breakpoint, leaving it by a step wherever the guest stands there."""
        for _ in range(passes + 1):
            exit = self.step(cpu) if cpu.rip == rip else STEPPED
            if exit is STEPPED and cpu.rip != rip:
                self._arm(api.DEBUG_ENABLE, {rip: []})
                self._registers.write(cpu)
                self._taken_back = True
                exit = self._execute(cpu, NOTHING)
            if exit is not STEPPED or (cpu.rip == rip and cpu.gpr == gpr):
                return exit
        return BUDGET_SPENT

    def _until_complete(self, cpu: VirtualCpu, insn: Instruction) -> Exit:
        """A REP may need many entries: after an iteration RIP is still at it."""
        start = cpu.rip
        while True:
            exit = self._enter(cpu, insn)
            self._taken_back = self._taken_back and exit is INTERRUPTED
            if exit is not STEPPED or cpu.rip != start or not insn.repeat:
                return exit

    def _enter(self, cpu: VirtualCpu, insn: Instruction) -> Exit:
        """Arm the debug registers, and let the CPU execute."""
        self._look_at_handlers(cpu)
        vectors = handlers.possible(insn, cpu)
        if not (self._manner.user if cpu.cpl == 3 else self._manner.kernel):
            return self._enter_with_tf(cpu, insn, vectors)
        whole = bool(insn.repeat)  # a REP runs to the breakpoint behind it
        places = handlers.choose(self._entries, vectors, handlers.BREAKPOINTS - whole)
        places.pop(cpu.rip, None)  # it would stop before it began
        control = api.DEBUG_ENABLE | (0 if whole else api.DEBUG_STEP)
        if whole:
            places.setdefault((cpu.rip + insn.length) & MASK64, [])
        self._arm(control, places)
        self._write(cpu, trap=not whole)
        return self._execute(cpu, insn)

    def _write(self, cpu: VirtualCpu, *, trap: bool) -> None:
        """Hand the registers over, TF with them where a trap is to follow the instruction. For KVM's
        single step too: KVM adds TF by itself only while RIP is as it was at KVM_SET_GUEST_DEBUG
        (kvm_set_rflags), and takes it out of what it shows."""
        if trap:
            cpu.rflags |= _TF
        self._registers.write(cpu)
        cpu.rflags &= ~_TF

    def _enter_with_tf(self, cpu: VirtualCpu, insn: Instruction, vectors: list[int]) -> Exit:
        """Where KVM does not step ring 3, the guest's own TF does: its #DB arrives at a gate that the
        guest's IDT is lent for this entry, out of the sight of ring 3."""
        places = handlers.choose(self._entries, vectors, handlers.BREAKPOINTS - 1)
        places.pop(cpu.rip, None)
        loan = TrapGate.lend(self._mmu, self._idt, self._entries)
        if loan is None:
            return Failed(
                "this host's KVM cannot step user code of a guest that has no exception handlers",
                STEPS_USER,
            )
        with loan:
            places[loan.entry] = [Vector.DB]
            self._arm(api.DEBUG_ENABLE, places)
            self._write(cpu, trap=True)
            return self._execute(cpu, insn)

    def _look_at_handlers(self, cpu: VirtualCpu) -> None:
        length = min(cpu.idtr.limit + 1, handlers.GATES * handlers.GATE_BYTES)
        try:
            idt = self._mmu.read(cpu.idtr.base, length, implicit=True)
        except GuestFault:
            idt = b""
        if idt != self._idt:
            self._idt, self._entries = idt, handlers.entries(idt)

    def _arm(self, control: int, places: dict[int, list[int]]) -> None:
        self._places = places
        wanted = (control | (api.DEBUG_HARDWARE if places else 0), tuple(places))
        if wanted != self._armed:
            self._vcpu.guest_debug(*wanted)
            self._armed = wanted

    # Why it came back

    def _execute(self, cpu: VirtualCpu, insn: Instruction) -> Exit:
        try:
            self._vcpu.enter()
        except OSError as error:
            if error.errno not in (errno.EINTR, errno.EAGAIN):
                return Failed(f"KVM_RUN failed: {error.strerror}")
            self._vcpu.swallow_kick()
            if (at := state.rip(self._run)) != cpu.rip and self._places.get(at):
                return self._arrived(cpu, insn, at)
            self._read(cpu)  # a REP may have come some way
            return INTERRUPTED
        return self._stopped(cpu, insn)

    def _resume(self, cpu: VirtualCpu, insn: Instruction) -> Exit:
        """The device has answered: let the kernel finish the instruction, and begin no other."""
        self._insn = None
        try:
            with self._vcpu.immediate_exit():
                self._vcpu.enter()
        except OSError as error:
            if error.errno != errno.EINTR:
                return Failed(f"KVM_RUN failed: {error.strerror}")
            start = cpu.rip
            self._registers.drop_events()  # a #DB by TF
            self._read(cpu)
            return STEPPED if cpu.rip != start else self._until_complete(cpu, insn)
        return self._stopped(cpu, insn)

    def _stopped(self, cpu: VirtualCpu, insn: Instruction) -> Exit:
        match self._run[api.EXIT_REASON]:
            case api.EXIT_DEBUG:
                _, _, at, dr6, _ = api.DEBUG.unpack_from(self._run, api.UNION)
                if not dr6 & api.DR6_STEP and self._places.get(at):
                    return self._arrived(cpu, insn, at)
                self._read(cpu)
                return STEPPED
            case api.EXIT_MMIO:
                self._insn = insn
                gpa, data, length, is_write = api.MMIO.unpack_from(self._run, api.UNION)
                return MmioWrite(gpa, data[:length]) if is_write else MmioRead(gpa, length)
            case api.EXIT_SHUTDOWN:
                return self._shut_down(cpu, insn)
            case api.EXIT_IRQ_WINDOW_OPEN | api.EXIT_INTR:
                self._read(cpu)
                return INTERRUPTED
            case api.EXIT_IO | api.EXIT_HLT if not self._taken_back:
                return self._take_back()
            case reason:
                self._registers.forget()
                return failure(self._run, reason, cpu, self._manner.interprets)

    def _read(self, cpu: VirtualCpu) -> None:
        self._registers.read(cpu)
        cpu.rflags &= ~_TF
        cpu.interrupt_shadow = False  # only instructions that are left to the VMM cast one

    def _arrived(self, cpu: VirtualCpu, insn: Instruction, at: int) -> Exit:
        """The CPU stands at a handler's entry: take the delivery back. ``cpu`` still has the state
        before the instruction; of that only RSP and a REP's registers have changed."""
        rsp, cr2 = state.rsp_and_cr2(self._run)
        vectors = handlers.by_error_code(self._places[at], rsp)
        frame = handlers.frame(self._mmu.read(rsp, 48, user=False, implicit=True), rsp)
        state.unpack_general(self._run, cpu)
        cpu.gpr[RSP], cpu.rip = frame.rsp, frame.rip
        cpu.rflags = frame.rflags & ~handlers.DELIVERYS_OWN
        before, cpu.cr2 = cpu.cr2, cr2
        self._registers.forget_special()
        if vectors[:1] == [Vector.DB]:
            return STEPPED
        vector = vectors[0] if vectors else self._places[at][0]
        if len(vectors) > 1 and cr2 == before:  # else #PF it is, which comes first
            vector = self._which(cpu, insn, vectors)
        return Fault(vector, frame.error, cr2 if vector == Vector.PF else None)

    def _which(self, cpu: VirtualCpu, insn: Instruction, vectors: list[int]) -> int:
        """Several exceptions share a handler: which of them did this instruction meet? A #PF from the
        same address as the last one looks like the others, too."""
        if Vector.PF not in vectors:
            return vectors[0]
        for gva, length, write in accesses(insn, cpu):
            if not canonical(gva) or not canonical((gva + length - 1) & MASK64):
                return Vector.SS if Vector.SS in vectors else Vector.GP
            try:
                self._mmu.translate(gva, write=write)
            except GuestFault as fault:
                return fault.vector
        return next(v for v in vectors if v != Vector.PF)

    def _take_back(self) -> Exit:
        """The CPU met an instruction that is never stepped: it went by a translation of its own, older
        than the guest's page tables. Either is lawful until INVLPG (SDM vol. 3, 4.10.4.3), but only
        what was decoded is done: take it back, and enter once more with an empty TLB."""
        self._taken_back = True
        with contextlib.suppress(OSError), self._vcpu.immediate_exit():
            self._vcpu.enter()
        self._registers.forget()
        self._registers.forget_translations()
        return INTERRUPTED

    def _shut_down(self, cpu: VirtualCpu, insn: Instruction) -> Exit:
        """A triple fault. After a step ``cpu`` still has the state before it, so the exception that led
        there is handed to the VMM, whose own delivery comes to the same end and says why."""
        left = None if state.is_reset(self._run) else state.rsp_and_cr2(self._run)[1]
        self._registers.forget()
        fault = None if insn is NOTHING else cause(self._mmu, cpu, insn)
        if fault is not None:
            return Fault(fault.vector, fault.error, fault.address)
        if left is not None:
            cpu.cr2 = left
        return SHUTDOWN
