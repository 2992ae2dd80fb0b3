"""The virtual machine monitor: it lets the guest run, and decides what each exit means.

Begin to read at ``step``. One instruction of the guest goes through four questions:

    1. Is an interrupt due?             then the guest's handler comes first (``interrupt``)
    2. What is the next instruction?    fetched and decoded through the guest's page tables
    3. May the engine execute it?       a sensitive one that would not trap is emulated at once,
                                        everything else is entered: the CPU itself says no
    4. Why did the engine come back?    ``match exit``: emulate it, ask a device, fill a shadow
                                        page, or reflect the fault into the guest

The guest's mistakes are GuestFault, and end in the guest's own handlers. A guest that has none
shuts its machine down; it can never raise anything through here.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from time import perf_counter_ns
from typing import assert_never

from cores.deadline import Deadline
from cores.engines.base import (
    BudgetSpent,
    DeprivilegedEngine,
    Engine,
    Exit,
    Failed,
    Fault,
    Halted,
    Intercept,
    Interrupted,
    MmioRead,
    MmioWrite,
    PortRead,
    PortWrite,
    Shutdown,
    Stepped,
    SystemCall,
)
from cores.pc.devices.board import Board
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.stop import Stop
from cores.vmm.emulate.emulator import Emulator
from cores.vmm.emulate.strings import HANDLERS as STRINGS
from cores.vmm.emulate.unicorn_gaps import HANDLERS as REFUSED
from cores.vmm.faults.page_faults import HiddenFaults
from cores.vmm.shadow_tlb import ShadowPages, ShadowState
from cores.vmm.trace import ExitEvent, Trace, TraceMark
from cores.vmm.unicorn_checks import Translated
from cores.x86.faults import GuestFault, Unsupported, undefined_opcode
from cores.x86.isa.accesses import accesses, touched
from cores.x86.isa.decoder import Truncated, decode
from cores.x86.isa.instruction import Instruction, Reason, Sensitivity
from cores.x86.isa.operand_checks import address_fault, beyond_canonical, check_call
from cores.x86.isa.rep_step import one_iteration
from cores.x86.isa.undefined_results import keeps_memory, settle
from cores.x86.mmu.paging import PAGE, Mmu
from cores.x86.registers import MASK64, RSP, VECTOR_NAMES, Flag, Vector
from cores.x86.system import interrupts
from cores.x86.system.fpu_enabled import check_floating
from cores.x86.virtual_cpu import VirtualCpu

NEVER = 1 << 63
ORDINARY, PRIVILEGED, ABSENT = Sensitivity.ORDINARY, Sensitivity.PRIVILEGED, Sensitivity.ABSENT
IO = Reason.IO
"""Asked at each instruction, and in Python 3.11 an enum's member costs 75 ns to look up."""
REFUSALS = {vector: f"the CPU refused it: {name}" for vector, name in VECTOR_NAMES.items()}
KVM_LEAVES_FOR = frozenset({Reason.IO, Reason.HLT})
"""What a KVM guest that runs freely returns to user space for, so that it counts as an exit. In exact
mode the VMM completes more in its place (``traits.intercepts``): ``Vmm.emulated``."""
KERNEL_ANSWERS = frozenset({"sgdt", "sidt", "sldt", "str", "smsw"})
"""What Linux completes for ring 3, with invented values, on a CPU with UMIP."""
STATE_LOST = (
    "AMD-V resets a CPU that meets a triple fault: the registers are those of the last exit before it"
)
SINGLE_STEP = 1 << 14
"""DR6.BS (SDM vol. 3, 17.2.3)."""
NOTHING = decode(b"\x90")
"""A NOP: stands for the instruction where an exit belongs to none."""


@dataclass(frozen=True, slots=True)
class VmmState:
    """What the VMM itself remembers, for checkpoints. trace: see ``Trace.mark``.
    shadow: None where there is no virtual TLB. emulated: see ``Vmm``."""

    instructions: int
    deliveries: int
    ticks: int
    halted: bool
    stop: Stop | None
    reason: str
    limit: str
    exit_status: int | None
    shadow: ShadowState | None
    trace: TraceMark
    emulated: int
    uncounted: bool
    notes: tuple[str, ...]


class Vmm:
    """One guest on one engine.

    cpu, memory, mmu: the guest as it believes itself to be. board: its devices.
    instructions: completed ones (contract.md, Counting). ticks: virtual time in microseconds:
    instructions, deliveries, and what HLT slept through.
    emulated: instructions that the VMM completed though the guest did not exit: those that exact mode
    takes from KVM, which would have executed them in guest mode.
    stop: why the machine has come to its end, None while it can go on; ``reason``: in words.
    limit: what this host lacks for it, "" for nothing (``Failed.limit``).
    pure: textbook trap-and-emulate: what does not trap runs unseen.
    last, last_rip: the instruction that ``step`` completed, None when it stopped without one.
    watching: keep in ``stored`` which physical ranges (gpa, length) ``last`` wrote.
    """

    def __init__(
        self,
        engine: Engine,
        memory: PhysicalMemory,
        cpu: VirtualCpu,
        board: Board,
        *,
        pure: bool = False,
    ) -> None:
        self.engine = engine
        self.memory = memory
        self.cpu = cpu
        self.board = board
        self.pure = pure
        self.mmu = Mmu(memory, cpu)
        self.emulator = Emulator(cpu, self.mmu, board, lambda: self.ticks, self.flush, engine)
        self.trap: DeprivilegedEngine | None = (
            engine if isinstance(engine, DeprivilegedEngine) else None
        )
        if self.trap:
            self.trap.pure = pure
        self.shadow = ShadowPages(self.trap, memory, cpu, self.mmu) if self.trap else None
        self.translated = None if engine.traits.native else Translated(cpu, self.mmu, memory)
        self.hidden = HiddenFaults(self, self.trap, self.shadow) if self.trap and self.shadow else None
        self.trace = Trace()
        self.instructions = 0
        self.deliveries = 0
        self.ticks = 0
        self.emulated = 0
        self.budget = NEVER
        self.stop: Stop | None = None
        self.reason = self.limit = ""
        self.exit_status: int | None = None
        self.notes: dict[str, None] = {}
        self.uncounted = False
        self.last: Instruction | None = None
        self.last_rip = 0
        self.watching = False
        self.stored: list[tuple[int, int]] = []
        self._left = 0  # when the guest was last left, perf_counter_ns

    @property
    def counted(self) -> int | None:
        """Instructions completed, or None where the CPU ran on its own and nobody counted."""
        return None if self.uncounted else self.instructions

    @property
    def delivered(self) -> int:
        """Exits that completed no instruction: a fault or an interrupt was delivered in its place."""
        return self.deliveries if self.trap else 0

    # One instruction

    def step(self) -> None:
        """Complete one more instruction, with the deliveries that come before it, or stop."""
        board, cpu = self.board, self.cpu
        self.last = None
        while self.stop is None:
            if self.instructions + self.deliveries >= self.budget:
                self.stop = Stop.BUDGET
                return
            if self.ticks >= board.deadline:
                board.advance(self.ticks)
            self._left = perf_counter_ns()  # should the fetch itself fault
            try:
                # lesson: interrupt-due
                # Is an interrupt due, and does the guest listen? Then its handler comes first.
                if board.interrupt_pending and cpu.rflags & Flag.IF and not cpu.interrupt_shadow:
                    self.interrupt()
                # lesson: next-instruction
                # What is the next instruction? It is looked up through the guest's own page tables.
                insn = self.fetch()
                self.last_rip = cpu.rip
                # lesson: execute
                # May the CPU have it? If so, enter; if it came back: why?
                if self.watching:
                    self._execute_watched(insn)
                else:
                    self._execute(insn)
            except GuestFault as fault:
                self.reflect(fault)
            except Unsupported as limit:
                self.fail(str(limit))
            else:
                if self.stop is None:
                    self.last = insn
                    self._completed(insn)
                    return

    def _execute_watched(self, insn: Instruction) -> None:
        """Execute, and remember what it stores to."""
        ranges = touched(insn, self.cpu)
        self._execute(insn)
        self.stored.clear()
        if self.stop is not None:  # it was not completed, and its ranges may be endless
            return
        for gva, length in ranges:
            while length:  # page by page: neighbours may lie apart
                here = min(length, PAGE - gva % PAGE)
                with contextlib.suppress(GuestFault):  # a REP that stored nothing there
                    gpa = self.mmu.translate(gva & MASK64, user=False)
                    if self.memory.is_ram(gpa, here):
                        self.stored.append((gpa, here))
                gva += here
                length -= here

    def fetch(self) -> Instruction:
        """Decode the instruction at RIP, through the guest's own page tables."""
        if self.engine.traits.delivers and self.mmu.outdated(self.cpu.rip):
            self.flush(None)  # KVM's CPU walks the tables itself, and may have seen the new entry
        code = self.mmu.fetch(self.cpu.rip)
        try:
            return decode(code)
        except Truncated:
            self.mmu.translate(self.cpu.rip + len(code), execute=True)  # raises its page fault
            raise undefined_opcode() from None

    def _execute(self, insn: Instruction) -> None:
        if self.cpu.rflags & Flag.TF:
            self._single_step_flag(insn)
        else:
            self._settled(insn)

    def _settled(self, insn: Instruction) -> None:
        """Complete it, and give what the architecture leaves undefined the platform's value."""
        if not insn.undefined_rule:
            self._complete(insn)
            return
        gpr, flags = self.cpu.gpr.copy(), self.cpu.rflags
        operand = self._operand_to_keep(insn) if keeps_memory(insn, gpr) else None
        self._complete(insn)
        settle(insn, gpr, flags, self.cpu)
        if operand is not None:
            self.mmu.write(*operand)

    def _complete(self, insn: Instruction) -> None:
        if insn.repeat and self._overwrites_itself(insn):
            # A CPU goes on with the instruction that it has begun; stopped in the middle it would not.
            self.emulator.complete(insn, STRINGS[insn.mnemonic])
            self.trace.bridged += 1
        elif self._runs_directly(insn):
            self._enter(insn)
        elif insn.sensitivity is ORDINARY:
            self._bridge(insn)
        else:
            self._left = perf_counter_ns()
            self.emulate(insn, "found before it ran")

    def _overwrites_itself(self, insn: Instruction) -> bool:
        begin, end = self.cpu.rip, self.cpu.rip + insn.length
        stores = [(gva, length) for gva, length, store in accesses(insn, self.cpu) if store]
        return insn.mnemonic in STRINGS and any(
            gva < end and begin < gva + length for gva, length in stores
        )

    def _operand_to_keep(self, insn: Instruction) -> tuple[int, bytes]:
        """The memory operand's address and bytes, to put back (SHLD and SHRD of 16 bits by more)."""
        gva, length, _ = accesses(insn, self.cpu)[0]
        return gva, self.mmu.read(gva, length)

    def _runs_directly(self, insn: Instruction) -> bool:
        """May the engine be entered with this instruction next?"""
        if insn.sensitivity is ORDINARY:
            if not (self.pure and self.trap):
                if insn.floating:
                    check_floating(insn, self.cpu)  # on a trap core CR0.TS and EM are virtual
                if insn.varies:
                    return False
            if insn.implicit == "call":
                check_call(insn, self.cpu, self.mmu.peek)
            return self.translated is None or self.translated.may_run(insn)
        # lesson: may-the-cpu-have-it
        # On a trap core: a privileged instruction, yes, for the CPU will refuse it and so tell us. What
        # it would execute without a word, no; unless this is textbook trap-and-emulate.
        if self.trap:
            return insn.sensitivity is PRIVILEGED or self.pure
        if insn.sensitivity is ABSENT:
            raise undefined_opcode()
        return not self._intercepted(insn)

    def _intercepted(self, insn: Instruction) -> bool:
        intercepts = self.engine.traits.intercepts
        if insn.mnemonic in intercepts:
            return True  # of "mov" only the forms with CRn and DRn are privileged
        return insn.mnemonic == "mov" and insn.sensitivity is PRIVILEGED

    def _enter(self, insn: Instruction) -> None:
        """Enter the guest until this instruction is complete. Raises GuestFault for the guest's own."""
        engine = self.engine
        if self.trap and self.shadow:
            self.trap.space = self.shadow.space()
        deadline: Deadline | None = None
        hidden = self.hidden if self.hidden is not None and self.hidden.patcher is not None else None
        while True:
            if hidden:
                hidden.before_entry()
            if self.pure and self.hidden and insn.mnemonic in KERNEL_ANSWERS:
                exit = self.hidden.step_answered(insn)
            else:
                exit = engine.step(self.cpu)
            if hidden:
                hidden.left()
            if exit.__class__ is Stepped:  # nearly always
                if self.trap:
                    self.cpu.interrupt_shadow = False
                    if self.pure and insn.mnemonic == "pushf":
                        self._hide_single_step()
                return
            self._left = perf_counter_ns()
            if self.came_back(insn, exit):
                return
            deadline = deadline or Deadline()
            deadline.check()

    def _hide_single_step(self) -> None:
        """PUSHF ran untouched and shows the TF by which it was stepped: all that --pure covers up."""
        at = self.cpu.gpr[RSP] + 1
        self.mmu.write(at, bytes([self.mmu.read(at, 1)[0] & ~1]))

    def came_back(self, insn: Instruction, exit: Exit) -> bool:
        """The engine left the guest at ``insn``. True: that instruction is now complete (or the
        machine has stopped); False: enter again. Raises GuestFault for the guest's own fault."""
        match exit:  # the frequent ones first: each case is a question
            case Fault():
                return self._faulted(insn, exit)
            case Stepped():
                return True
            case SystemCall():
                self.emulate(insn, "the CPU called its kernel, and was stopped there")
                return True
            case Intercept(lacking):
                if insn.sensitivity is ORDINARY:
                    self._bridge(insn)
                else:
                    self.emulate(insn, "left to the VMM", lacking=lacking)
                return True
            case MmioRead(gpa, size):
                self.engine.complete(self.memory.device_read(gpa, size))
                self.record(insn, Reason.MMIO, f"read {gpa:#x}", "asked the device")
                return False
            case MmioWrite(gpa, data):
                self.memory.device_write(gpa, data)
                self.record(insn, Reason.MMIO, f"write {gpa:#x}", "told the device")
                return False
            case Interrupted() | BudgetSpent():
                return False
            case Shutdown(lost):
                self._shut_down("the CPU met a fault while delivering a double fault")
                if lost:
                    self.notes[STATE_LOST] = None
                return True
            case Failed(reason, limit):
                self.fail(reason, limit)
                return True
            case Halted() | PortRead() | PortWrite():
                raise AssertionError(f"{self.engine.traits.core}: {exit} at a decoded instruction")
            case _:
                assert_never(exit)

    def _faulted(self, insn: Instruction, fault: Fault) -> bool:
        """The executing CPU refused ``insn``; see ``came_back``."""
        vector, hidden, translated = fault.vector, self.hidden, self.translated
        if vector == Vector.UD and insn.mnemonic in REFUSED:
            if translated:
                translated.demand_code(insn)
            self._bridge(insn)
            return True
        if hidden is None:
            raise self.guests_own(vector, fault.error, fault.address, insn)
        if vector == Vector.PF and fault.address is not None:
            if beyond_canonical(insn, self.cpu, fault.address):
                raise address_fault(insn, self.cpu)
            return hidden.serve(insn, fault.address)
        if vector == Vector.GP and hidden.at_patch():
            return hidden.patched(insn)
        # lesson: whose-fault
        # Whose fault is it? An ordinary instruction means the same in every ring: the guest's own
        # mistake, and its own handler's business. All others were not made for ring 3: do their work.
        if insn.sensitivity is ORDINARY:
            if vector == Vector.GP and hidden.by_virtual_base(insn):
                hidden.bridge.complete(insn)
                return True
            raise self.guests_own(vector, fault.error, None, insn)
        self.emulate(insn, REFUSALS[vector])
        return True

    def _completed(self, insn: Instruction) -> None:
        """Count it, and see what it has brought about."""
        self.instructions += 1
        self.ticks += 1
        if self.cpu.rflags & Flag.RF and insn.mnemonic != "iret":  # what IRET loads lasts for one more
            self.cpu.rflags &= ~Flag.RF
        if self.board.stop is not None:
            self.stop, self.exit_status = self.board.stop.stop, self.board.stop.status
        elif self.emulator.halted:
            self._sleep()

    # Free running (cores/vmm/free_run.py)

    def resolve(self, exit: Exit) -> None:
        """A freely running guest was left at RIP: find out what stands there, and deal with it."""
        if exit.__class__ is Shutdown or exit.__class__ is Failed:
            self.came_back(NOTHING, exit)
            return
        insn = self.fetch()
        if self.came_back(insn, exit):
            self.instructions += 1
            self.cpu.rflags &= ~Flag.RF

    def step_uncounted(self) -> None:
        """One instruction by itself, where running freely would be wrong (TF, interrupt shadow)."""
        self._execute(self.fetch())
        self.instructions += 1

    def inject(self) -> None:
        """Offer an interrupt to a CPU that delivers by itself."""
        self._left = perf_counter_ns()
        self.engine.inject(self.cpu, self.board.acknowledge)

    def left_now(self) -> None:
        """The guest has just been left."""
        self._left = perf_counter_ns()
        if self.hidden is not None:
            self.hidden.left()

    def record_port(self, reason: Reason, detail: str) -> None:
        """An exit whose instruction the hardware has already taken apart (KVM)."""
        self._record_at(self.cpu.rip, b"", reason, detail, "asked the device", self.cpu.cpl)

    # Why the guest was left

    def emulate(self, insn: Instruction, why: str, *, lacking: bool = False) -> None:
        """Do in the guest's place what it must not do itself. lacking: see ``Intercept``."""
        cpu = self.cpu
        at, ring, reason = cpu.rip, cpu.cpl, insn.reason
        if reason is IO:
            self.board.advance(self.ticks)
            handled = self.emulator.execute(insn)
        else:
            rights = self.shadow.rights() if self.shadow else None
            handled = self.emulator.execute(insn)
            if self.shadow and self.shadow.rights() != rights:
                self.flush(None)
        if self.trap or (self.engine.traits.delivers and reason in KVM_LEAVES_FOR):
            assert reason is not None
            self._record_at(at, insn.code, reason, handled, why, ring)
        elif lacking:
            self.trace.bridged += 1
        elif self.engine.traits.native:
            self.emulated += 1

    def _bridge(self, insn: Instruction) -> None:
        """Complete an ordinary instruction that the engine should have executed, and cannot."""
        self.emulator.execute(insn)
        self.trace.bridged += 1

    def guests_own(
        self, vector: int, error: int | None, address: int | None, insn: Instruction
    ) -> GuestFault:
        """What the executing CPU said about an ordinary instruction is what the virtual one says."""
        if error is None and vector in (Vector.GP, Vector.SS, Vector.AC):
            error = 0
        if self.translated is not None:
            return self.translated.fault(insn, vector, error, address)
        return GuestFault(vector, error, address)

    def reflect(self, fault: GuestFault) -> None:
        """Deliver an exception to the guest's handler."""
        ring, at = self.cpu.cpl, self.cpu.rip
        self._deliver(fault)
        if self.trap:
            name = interrupts.describe(fault)
            if self.stop is Stop.SHUTDOWN:
                self._record_at(at, self._code_at(at), Reason.SHUTDOWN, name, self.reason, ring)
            else:
                self._record_at(
                    at, self._code_at(at), Reason.EXCEPTION, name, "delivered to the guest", ring
                )

    def interrupt(self) -> None:
        """Deliver an interrupt of the PIC's."""
        self._left = perf_counter_ns()
        ring, at = self.cpu.cpl, self.cpu.rip
        vector = self.board.acknowledge()
        self._deliver(GuestFault(vector), external=True)
        if self.trap:
            self._record_at(at, b"", Reason.IRQ, f"vector {vector:#x}", "delivered to the guest", ring)

    def _deliver(self, event: GuestFault, *, external: bool = False) -> None:
        """Through the guest's IDT; without a way to do so the machine shuts down."""
        rights = self.shadow.rights() if self.shadow else None
        delivery = interrupts.deliver_event(self.mmu, self.cpu, event, external=external)
        if self.shadow and self.shadow.rights() != rights:
            self.flush(None)
        self.deliveries += 1
        self.ticks += 1
        if delivery.outcome is interrupts.Outcome.SHUTDOWN:
            self._shut_down(interrupts.shutdown_in_words(self.cpu, delivery))

    def _sleep(self) -> None:
        """HLT: jump to the next device event that can wake the guest; without one it never wakes."""
        self.emulator.halted = False
        board = self.board
        while not board.interrupt_pending and self.cpu.rflags & Flag.IF:
            event = board.next_event()
            if event is None:
                break
            self.ticks = max(self.ticks, event)
            board.advance(self.ticks)
        if not (board.interrupt_pending and self.cpu.rflags & Flag.IF):
            self.stop = Stop.HALTED

    def _single_step_flag(self, insn: Instruction) -> None:
        """The guest's own TF: a #DB after the instruction (SDM vol. 3, 17.3.1.4).

        TF belongs to whoever steps, and on the trap cores that is the VMM. So the instruction runs
        with the flag put aside; those that show or change flags are emulated."""
        cpu = self.cpu
        if insn.reason in (Reason.FLAGS, Reason.IRET, Reason.INT, Reason.SYSCALL, Reason.SYSRET):
            self._left = perf_counter_ns()
            self.emulate(insn, "it shows or changes TF")
        else:
            cpu.rflags &= ~Flag.TF
            try:
                with one_iteration(insn, cpu) as repeated:
                    self._settled(insn)
            finally:
                cpu.rflags |= Flag.TF
            if repeated.goes_on:
                cpu.debug[6] |= SINGLE_STEP
                cpu.rflags |= Flag.RF  # what a trap between two iterations pushes (17.3.1.1)
                raise GuestFault(Vector.DB)
        if insn.reason in (Reason.INT, Reason.SYSCALL) or cpu.interrupt_shadow or self.stop:
            return
        self._completed(insn)
        cpu.debug[6] |= SINGLE_STEP
        self.instructions -= 1  # step() counts it
        self.ticks -= 1
        self.reflect(GuestFault(Vector.DB))

    # The end

    def _shut_down(self, reason: str) -> None:
        self.stop, self.reason = Stop.SHUTDOWN, reason

    def fail(self, reason: str, limit: str = "") -> None:
        """Stop with an error. limit: see ``Failed``."""
        self.stop, self.reason, self.limit = Stop.ERROR, reason, limit

    # Going back (cores/time_travel/history.py)

    def save(self) -> VmmState:
        """The VMM's own memory of the run."""
        return VmmState(
            self.instructions, self.deliveries, self.ticks, self.emulator.halted, self.stop,
            self.reason, self.limit, self.exit_status, self.shadow.save() if self.shadow else None,
            self.trace.mark(), self.emulated, self.uncounted, tuple(self.notes),
        )  # fmt: skip

    def restore(self, state: VmmState) -> None:
        """Go back; whatever was cached of a memory that is no more is forgotten."""
        self.instructions, self.deliveries = state.instructions, state.deliveries
        self.ticks, self.emulator.halted = state.ticks, state.halted
        self.stop, self.reason, self.limit = state.stop, state.reason, state.limit
        self.exit_status = state.exit_status
        self.uncounted, self.notes = state.uncounted, dict.fromkeys(state.notes)
        self.emulated = state.emulated
        self.trace.rewind(state.trace)
        self.engine.memory_changed()
        self.mmu.flush(None)
        self.engine.flush(None)
        if self.shadow and state.shadow:
            self.shadow.restore(state.shadow)

    # The record

    def record(
        self, insn: Instruction, reason: Reason, detail: str, handled: str,
        at: int | None = None, ring: int | None = None,
    ) -> None:  # fmt: skip
        if self.trap or self.engine.traits.delivers:
            self._record_at(
                self.cpu.rip if at is None else at, insn.code, reason, detail, handled,
                self.cpu.cpl if ring is None else ring,
            )  # fmt: skip

    def _record_at(
        self, at: int, code: bytes, reason: Reason, detail: str, handled: str, ring: int
    ) -> None:
        spent = perf_counter_ns() - self._left
        self.trace.record(
            ExitEvent(self.counted, at, code, reason, detail, handled, ring, spent, spent)
        )

    def _code_at(self, rip: int) -> bytes:
        try:
            code = self.mmu.fetch(rip)
            return decode(code).code
        except (GuestFault, Truncated):
            return b""

    def flush(self, gva: int | None) -> None:
        """Forget translations, as the guest asked: the VMM's TLB, the engine's, and the shadow."""
        self.mmu.flush(gva)
        self.engine.flush(gva)
        if self.shadow:
            if gva is None:
                self.shadow.drop_all()
            else:
                self.shadow.drop(gva)
