"""Single-stepping on KVM (KVM_SET_GUEST_DEBUG), and what makes it exact.

After ``step`` either the instruction is complete, or it has faulted without any effect: an exception
that the CPU delivered is undone. That is possible because the registers before the instruction are
known, the frame holds the error code, and the VMM's own delivery writes the same frame again.
"""

from __future__ import annotations

import contextlib
import errno
from dataclasses import dataclass, field

from cores.engines.kvm import api, state
from cores.engines.kvm import guest_handlers as handlers
from cores.engines.kvm.debug_gate import TrapGate
from cores.engines.kvm.exit_errors import NO_GIBIBYTE_PAGES, STEPS_USER, failure, in_gibibyte_page
from cores.engines.kvm.legacy_handlers import LegacyHandlers
from cores.engines.kvm.operand_faults import operand_fault
from cores.engines.kvm.triple_fault import cause
from cores.pc.physical_memory import PhysicalMemory
from cores.x86.isa.decoder import decode
from cores.x86.isa.instruction import Instruction, Reason, Sensitivity
from cores.x86.mmu.code_fetch import instruction_at
from cores.x86.mmu.paging import Mmu
from cores.x86.mmu.segmentation import code_address
from cores.x86.mode import address_mask
from cores.x86.virtual_cpu import DPL, VirtualCpu

from ...x86.faults import GuestFault
from ...x86.registers import ARITHMETIC_FLAGS, RSP, SS, Efer, Flag, Vector
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
    "in", "out", "ins", "outs", "hlt",  # devices and the VMM complete these
    "cpuid", "rdtsc", "rdtscp", "rdmsr", "wrmsr", "rdpmc",  # a host may choose the result
    "mov cr", "invlpg", "swapgs",  # the VMM walks the same page tables, and keeps these MSRs
    "pushf", "popf", "iret", "int", "int1", "int3", "into", "syscall", "sysret",  # show or change TF
    "sti", "lss",  # shadows, which stepping removes
    "stac", "clac", "lar", "lsl", "verr", "verw",
    "lfs", "lgs", "lcall", "ljmp", "retf", "wbinvd", "invd", "tzcnt", "lzcnt",
})  # fmt: skip
"""Instructions that the VMM completes in exact mode, because a step on KVM would not give the result
that the platform defines."""

BY_REASON = frozenset({Reason.SEGMENT, Reason.STATE})
"""Reasons of further such instructions, which have no mnemonic of their own: MOV to SS, MOV DR."""

MISINTERPRETED = frozenset({"nop", "lfence", "mfence", "sfence", "sldt", "str"})
"""Instructions that the kernel's emulator (arch/x86/kvm/emulate.c) executes unlike a CPU when it
interprets ring 0: it steps over a fence, or over a NOP such as ENDBR64, and over the next instruction
in one; of SLDT and STR it stores 8 bytes with REX.W, a CPU 2 (SDM vol. 2)."""

COMPARING = frozenset({"cmps", "scas"})
_TF, _RF, _AC = Flag.TF, Flag.RF, Flag.AC
MOST_WAYS = 1 << 14
"""Number of instructions, each in one state of the CPU, of which the way to step them is kept."""
NOTHING = decode(b"\x90")
"""A NOP: the placeholder where an entry executes many instructions."""


@dataclass(frozen=True, slots=True)
class Manner:
    """The probed properties of this host's KVM that stepping depends on.

    kernel, user: KVM's single step works at CPL0, at CPL3. truthful: what ring 3 reads of the
    privileged state (SGDT, SMSW, STR ...) is the guest's and not the host's. calls: SYSCALL and INT n
    take ring 3 into the guest's kernel. interprets: the host's kernel executes ring 0 in software.
    gibibytes: the guest's tables may have pages of 1 GiB.
    """

    kernel: bool = True
    user: bool = True
    truthful: bool = True
    calls: bool = True
    interprets: bool = False
    gibibytes: bool = True


@dataclass(slots=True)
class _Way:
    """The way to step one instruction, in one state of the CPU.

    refused: the exit in place of an entry, None where it is entered. by_kvm: with KVM's single step,
    not with the guest's own TF. vectors: of the exceptions that it may raise. room: the number of
    breakpoints that may be set on their handlers.
    """

    refused: Exit | None
    by_kvm: bool
    vectors: list[int]
    room: int
    _entries: list[int | None] | None = None
    _places: dict[int, list[int]] = field(default_factory=dict)

    def places(self, entries: list[int | None]) -> dict[int, list[int]]:
        """The handlers to stop at, chosen anew where the guest's are others than the last time."""
        if entries is not self._entries:
            self._entries, self._places = entries, handlers.choose(entries, self.vectors, self.room)
        return self._places


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
        self._idt: bytes | None = None  # of which ``_entries`` are; None: they are of another mode
        self._legacy = LegacyHandlers()
        self._entries = handlers.entries(b"")
        self._ways: dict[tuple[bytes, int, bool, int, int], _Way] = {}
        self._places: dict[int, list[int]] = {}
        self._insn: Instruction | None = None  # in progress: it waits for a device
        self._flags_before = 0
        self._taken_back = False  # the last entry was undone, or the next one cannot be

    def flush(self) -> None:
        """Page tables have changed, or the VMM has completed an instruction that flushes the TLB."""
        self._mmu.flush()
        self._registers.forget_translations()

    def forget(self) -> None:
        """The debug registers have been used elsewhere, or the guest's state has been replaced."""
        self._armed = None
        self._insn = None

    @property
    def waiting(self) -> bool:
        """Is an instruction in progress that waits for a device's answer?"""
        return self._insn is not None

    def disarm(self) -> None:
        """Turn single-stepping off: from now on the guest runs freely."""
        self._insn = None
        if self._armed is not None:
            self._vcpu.guest_debug(0)
            self._armed = None
            self._registers.forget_debug()

    def step(self, cpu: VirtualCpu) -> Exit:
        """Execute one instruction. At a device's access ``cpu`` still holds the state before it."""
        if self._insn is not None:
            return self._resume(cpu, self._insn)
        if self._mmu.cpu is not cpu:
            self._mmu = Mmu(self._memory, cpu)
        try:
            insn = instruction_at(cpu, self._mmu, cpu.rip)
        except GuestFault as fault:
            return Fault(fault.vector, fault.error, fault.address)
        way = self._way(cpu, insn)
        if way.refused is not None:
            return way.refused
        self._flags_before = cpu.rflags
        return self._until_complete(cpu, insn, way)

    def _way(self, cpu: VirtualCpu, insn: Instruction) -> _Way:
        """The way to step ``insn`` now, remembered by all that it depends on."""
        user = cpu.segments[SS].attributes & DPL == DPL
        state = insn.code, insn.bits, user, cpu.cr0, cpu.rflags & _AC
        way = self._ways.get(state)
        if way is None:
            if len(self._ways) >= MOST_WAYS:
                self._ways.clear()
            manner = self._manner
            by_kvm = manner.user if user else manner.kernel
            room = handlers.BREAKPOINTS - bool(insn.repeat or not by_kvm)
            refused = _refusal(insn, manner, user=user)
            way = self._ways[state] = _Way(refused, by_kvm, handlers.possible(insn, cpu), room)
        return way

    def reach(self, cpu: VirtualCpu, rip: int, gpr: list[int], passes: int) -> Exit:
        """Run to a hardware breakpoint at ``rip`` until ``gpr`` matches, at most ``passes`` times. An
        entry that begins at the breakpoint is a single step."""
        for _ in range(passes + 1):
            exit = self.step(cpu) if cpu.rip == rip else STEPPED
            if exit is STEPPED and cpu.rip != rip:
                self._arm(api.DEBUG_ENABLE, {code_address(cpu, rip): []})
                self._registers.write(cpu)
                self._taken_back = True
                exit = self._execute(cpu, NOTHING)
            if exit is not STEPPED or (cpu.rip == rip and cpu.gpr == gpr):
                return exit
        return BUDGET_SPENT

    def _until_complete(self, cpu: VirtualCpu, insn: Instruction, way: _Way) -> Exit:
        """Enter until ``insn`` is complete. A REP may need many entries: after an iteration RIP is
        unchanged."""
        start = cpu.rip
        while True:
            exit = self._enter(cpu, insn, way)
            self._taken_back = self._taken_back and exit is INTERRUPTED
            if exit is not STEPPED and insn.repeat and insn.mnemonic in COMPARING:
                self._restore_flags(cpu)
            if exit is not STEPPED or cpu.rip != start or not insn.repeat:
                return exit

    def _restore_flags(self, cpu: VirtualCpu) -> None:
        """The flags before CMPS or SCAS with REP, which a fault in the middle leaves as they were (SDM
        vol. 2, REP). Where TF steps ring 3, it has shown those of the last iteration."""
        cpu.rflags = cpu.rflags & ~ARITHMETIC_FLAGS | self._flags_before & ARITHMETIC_FLAGS

    def _enter(self, cpu: VirtualCpu, insn: Instruction, way: _Way) -> Exit:
        """Arm the debug registers and enter the guest."""
        self._read_handlers(cpu)
        if not way.by_kvm:
            return self._enter_with_tf(cpu, insn, way)
        whole = bool(insn.repeat)  # a REP runs to the breakpoint behind it
        places = way.places(self._entries)
        at = cpu.rip if insn.bits == 64 else code_address(cpu, cpu.rip)
        if whole or at in places:
            places = {**places}
            places.pop(at, None)  # it would stop before the first instruction
        if whole:
            behind = cpu.rip + insn.length & address_mask(cpu)
            places.setdefault(code_address(cpu, behind), [])
        self._arm(api.DEBUG_ENABLE | (0 if whole else api.DEBUG_STEP), places)
        self._write(cpu, trap=not whole)
        return self._execute(cpu, insn)

    def _write(self, cpu: VirtualCpu, *, trap: bool) -> None:
        """Write the registers to the vCPU. trap: with TF set, so that #DB follows the instruction.
        KVM's single step needs it, too: KVM adds TF by itself only while RIP is as it was at
        KVM_SET_GUEST_DEBUG (kvm_set_rflags), and clears it in the registers that it returns."""
        if trap:
            cpu.rflags |= _TF
        self._registers.write(cpu)
        cpu.rflags &= ~_TF

    def _enter_with_tf(self, cpu: VirtualCpu, insn: Instruction, way: _Way) -> Exit:
        """Where KVM does not step ring 3, the guest's own TF does: its #DB is delivered through a gate
        that is put into the guest's IDT for this entry, where ring 3 cannot see it."""
        if not cpu.efer & Efer.LMA:
            return Failed("this host's KVM cannot step user code outside long mode", STEPS_USER)
        places = {**way.places(self._entries)}
        places.pop(code_address(cpu, cpu.rip), None)
        gate = TrapGate.prepare(self._mmu, self._idt or b"", self._entries)
        if gate is None:
            return Failed(
                "this host's KVM cannot step user code of a guest that has no exception handlers",
                STEPS_USER,
            )
        with gate:
            places[gate.entry] = [Vector.DB]
            self._arm(api.DEBUG_ENABLE, places)
            self._write(cpu, trap=True)
            return self._execute(cpu, insn)

    def _read_handlers(self, cpu: VirtualCpu) -> None:
        if not cpu.efer & Efer.LMA:
            self._idt, self._entries = None, self._legacy.entries(self._mmu, cpu)
            return
        length = min(cpu.idtr.limit + 1, handlers.GATES * handlers.GATE_BYTES)
        idt = b""
        if length >= handlers.GATE_BYTES:  # a guest without an IDT needs no walk at each step
            with contextlib.suppress(GuestFault):
                idt = self._mmu.read(cpu.idtr.base, length, implicit=True)
        if idt != self._idt:
            self._idt, self._entries = idt, handlers.entries(idt)

    def _arm(self, control: int, places: dict[int, list[int]]) -> None:
        self._places = places
        wanted = (control | (api.DEBUG_HARDWARE if places else 0), tuple(sorted(places)))
        if wanted != self._armed:
            self._vcpu.guest_debug(*wanted)
            self._armed = wanted

    # Exits

    def _execute(self, cpu: VirtualCpu, insn: Instruction) -> Exit:
        try:
            self._vcpu.enter()
        except OSError as error:
            if error.errno not in (errno.EINTR, errno.EAGAIN):
                return Failed(f"KVM_RUN failed: {error.strerror}")
            self._vcpu.swallow_kick()
            at = state.code_address(self._run)
            if at != code_address(cpu, cpu.rip) and self._places.get(at):
                return self._arrived(cpu, insn, at)
            self._read(cpu)  # a REP may have made some iterations
            return INTERRUPTED
        return self._stopped(cpu, insn)

    def _resume(self, cpu: VirtualCpu, insn: Instruction) -> Exit:
        """After a device's answer: let the kernel finish the instruction, and begin no other."""
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
            again = cpu.rip == start
            return self._until_complete(cpu, insn, self._way(cpu, insn)) if again else STEPPED
        return self._stopped(cpu, insn)

    def _stopped(self, cpu: VirtualCpu, insn: Instruction) -> Exit:
        match self._run[api.EXIT_REASON]:
            case api.EXIT_DEBUG:
                _, _, _, dr6, _ = api.DEBUG.unpack_from(self._run, api.UNION)
                if not dr6 & api.DR6_STEP:
                    at = state.code_address(self._run)
                    if self._places.get(at):
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
                return failure(self._run, reason, cpu, self._memory, self._manner.interprets)

    def _read(self, cpu: VirtualCpu) -> None:
        self._registers.read(cpu)
        cpu.rflags &= ~(_TF | _RF)  # the kernel's emulator leaves RF set in the middle of a REP
        cpu.interrupt_shadow = False  # only instructions that the VMM completes cause one

    def _arrived(self, cpu: VirtualCpu, insn: Instruction, at: int) -> Exit:
        """The CPU has stopped at a handler's entry: undo the delivery. ``cpu`` still holds the state
        before the instruction, of which only RSP and a REP's registers have changed."""
        rsp, cr2 = state.rsp_and_cr2(self._run)
        if cpu.efer & Efer.LMA:
            vectors = handlers.by_error_code(self._places[at], rsp)
            frame = handlers.frame(self._mmu.read(rsp, 48, user=False, implicit=True), rsp)
            old_rip, old_rsp, error = frame.rip, frame.rsp, frame.error
            rflags = frame.rflags & ~handlers.DELIVERYS_OWN
        else:
            after = VirtualCpu()
            state.unpack_general(self._run, after)
            state.unpack_special(self._run, after)
            vectors, error, rflags = self._legacy.arrived(self._mmu, cpu, after, self._places[at])
            old_rip, old_rsp = cpu.rip, cpu.gpr[RSP]
        state.unpack_general(self._run, cpu)
        cpu.rip, cpu.gpr[RSP], cpu.rflags = old_rip, old_rsp, rflags
        before, cpu.cr2 = cpu.cr2, cr2
        self._registers.forget_special()
        if vectors[:1] == [Vector.DB]:
            return STEPPED
        vector = vectors[0] if vectors else self._places[at][0]
        if len(vectors) > 1 and cr2 == before:  # else it is #PF, the first of them
            vector = self._which(cpu, insn, vectors)
        return Fault(vector, error, cr2 if vector == Vector.PF else None)

    def _which(self, cpu: VirtualCpu, insn: Instruction, vectors: list[int]) -> int:
        """The vector that ``insn`` raised, where several share a handler. A #PF at the same address as
        the last one leaves CR2 unchanged, so that CR2 does not tell it from the others."""
        fault = operand_fault(self._mmu, cpu, insn)
        if fault is not None and fault.vector in vectors:
            return fault.vector
        return next(v for v in vectors if v != Vector.PF)

    def _take_back(self) -> Exit:
        """The CPU has executed an instruction that is never stepped: it used a TLB entry older than the
        guest's page tables. Both translations are valid until INVLPG (SDM vol. 3, 4.10.4.3), but only
        the decoded instruction may be executed: undo this one, and enter again with a flushed TLB."""
        self._taken_back = True
        with contextlib.suppress(OSError), self._vcpu.immediate_exit():
            self._vcpu.enter()
        self._registers.forget()
        self._registers.forget_translations()
        return INTERRUPTED

    def _shut_down(self, cpu: VirtualCpu, insn: Instruction) -> Exit:
        """A triple fault. ``cpu`` still holds the state before the step, from which the exception that
        caused it is found; the VMM's own delivery of that exception shuts down too, and can say why."""
        left = None if state.is_reset(self._run) else state.rsp_and_cr2(self._run)[1]
        self._registers.forget()
        lacking = left is not None and not self._manner.gibibytes
        if lacking and in_gibibyte_page(self._memory, cpu, left or 0):
            return NO_GIBIBYTE_PAGES
        fault = None if insn is NOTHING else cause(self._mmu, cpu, insn)
        if fault is not None:
            return Fault(fault.vector, fault.error, fault.address)
        if left is not None:
            cpu.cr2 = left
        return SHUTDOWN


def _refusal(insn: Instruction, manner: Manner, *, user: bool) -> Exit | None:
    """The exit with which ``insn`` is left to the VMM, None where the CPU may execute it. user: at
    CPL 3."""
    if insn.mnemonic in INTERCEPTS or insn.reason in BY_REASON:
        return INTERCEPT
    if _may_be_refused(insn):
        return LACKING
    if manner.interprets and not user and _is_misinterpreted(insn):
        return LACKING
    if user and not manner.truthful and insn.sensitivity is Sensitivity.SILENT:
        return LACKING
    return None


def _may_be_refused(insn: Instruction) -> bool:
    """Whether ``insn`` is 0F 0D with a register, a NOP that is #UD on AMD's CPUs
    (cores/x86/isa/cpu_differences.py). The VMM would complete it then, too, but the frame of the #UD
    would stay in the guest's memory below RSP."""
    return insn.mnemonic == "nop" and b"\x0f\x0d" in insn.code


def _is_misinterpreted(insn: Instruction) -> bool:
    """Whether an emulating kernel would execute ``insn`` unlike a CPU, though it reports success. Its
    16-bit ENTER pushes and writes all of RBP."""
    if insn.mnemonic == "enter":
        return insn.operand_size == 2
    return insn.mnemonic in MISINTERPRETED and 0x0F in insn.code
