"""The virtual machine monitor (VMM): it enters the guest and handles each exit.

Begin to read at ``step``. Four questions are asked for each instruction of the guest:

    1. Is an interrupt due?             then the guest's handler comes first
    2. What is the next instruction?    fetched and decoded through the guest's page tables
    3. May the engine execute it?       a sensitive one that would not trap is emulated at once;
                                        any other is entered, and a privileged one traps in the CPU
    4. Why did the engine come back?    ``handle_exit``: emulate it, access a device, fill a shadow
                                        page, or reflect the fault into the guest

In free mode (cores/vmm/free_run.py) the second and the third are not asked: the guest runs until
the next exit. The entry, ``enter``, and the fourth question are the same.

The guest's mistakes raise GuestFault inside the VMM, and are delivered to the guest's own handlers.
A guest without a handler shuts its machine down; none can raise an exception out of the VMM.
"""

from __future__ import annotations

from typing import assert_never

from cores.deadline import MANY_ITERATIONS, Deadline, interrupted_late
from cores.engines.base import (
    BudgetSpent,
    Engine,
    Exit,
    Failed,
    Fault,
    Halted,
    Handler,
    Intercept,
    Interrupted,
    MmioRead,
    MmioWrite,
    PortEngine,
    PortRead,
    PortWrite,
    Shutdown,
    Stepped,
    SystemCall,
)  # fmt: skip
from cores.pc.devices.board import Board
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.stop import Stop
from cores.vmm.callouts import Callouts
from cores.vmm.completion import Completion, guest_fault
from cores.vmm.delivery import Delivery
from cores.vmm.emulate.table import LACKED
from cores.vmm.exact_step import (
    Before,
    bridge,
    overwriting_itself,
    ranges_in_ram,
    stores_through_code,
    through_data,
)
from cores.vmm.faults.page_faults import PageFaults
from cores.vmm.first_stores import FirstStores
from cores.vmm.known_exits import KnownExits
from cores.vmm.known_ports import PortMaker
from cores.vmm.known_sites import SiteMaker
from cores.vmm.patched_code import PatchedCode
from cores.vmm.planted_step import PlantedSteps
from cores.vmm.state import GuestContext
from cores.vmm.stores_ahead import StoresAhead
from cores.vmm.trace import Trace
from cores.vmm.trap_flag import SINGLE_STEP, single_step
from cores.vmm.upper_half import UpperHalf
from cores.vmm.world_switch import WorldSwitch
from cores.x86.faults import GuestFault, Unsupported, undefined_opcode
from cores.x86.isa.accesses import written_ranges
from cores.x86.isa.decoder import known
from cores.x86.isa.instruction import Instruction, Reason, Sensitivity
from cores.x86.isa.operand_checks import (
    address_fault,
    beyond_canonical,
    check_alignment,
    check_call,
    check_segments,
)
from cores.x86.isa.rep_step import iterations_left
from cores.x86.mmu.code_fetch import instruction_at
from cores.x86.mmu.segmentation import code_address
from cores.x86.mode import CODE_64
from cores.x86.registers import CS, VECTOR_NAMES, Efer, Flag, Vector
from cores.x86.system.fpu_enabled import check_fpu_enabled
from cores.x86.virtual_cpu import VirtualCpu

ORDINARY, PRIVILEGED, ABSENT = Sensitivity.ORDINARY, Sensitivity.PRIVILEGED, Sensitivity.ABSENT
"""Compared at each instruction; in Python 3.11 an enum's member costs 75 ns to look up."""
_IF, _TF, _RF, _AC = Flag.IF, Flag.TF, Flag.RF, Flag.AC
_LMA = Efer.LMA
_UD, _GP, _PF = Vector.UD, Vector.GP, Vector.PF
_PORTS = (PortRead, PortWrite)
_SHADOW = Reason.SHADOW
REFUSALS = {vector: f"the CPU refused it: {name}" for vector, name in VECTOR_NAMES.items()}


UNKNOWN = -1
"""``Vmm.last_rip`` where the machine did not come to its present state by ``step``."""


class Vmm(GuestContext):
    """Runs one guest on one engine. Its state: see ``GuestContext``.

    completion: completes instructions in software. delivery: delivers faults and interrupts. switch:
    enters the guest. patched, page_faults: a deprivileged guest's code and memory, None on other
    engines. callouts, ahead: None where it has none. last, last_rip: the instruction that ``step``
    completed, None when it stopped without one. Elsewhere than after a step ``last`` may be stale;
    ``last_rip`` is then UNKNOWN.
    closed: IF was 0 when a free run left the guest last.
    watching: keep in ``stored`` the physical ranges (gpa, length) that ``last`` wrote.
    """

    def __init__(
        self,
        engine: Engine,
        memory: PhysicalMemory,
        cpu: VirtualCpu,
        board: Board,
        *,
        pure: bool = False,
        slow: bool = False,
    ) -> None:
        super().__init__(engine, memory, cpu, board, pure=pure)
        self.completion = Completion(self)
        self.delivery = Delivery(self)
        self.patched: PatchedCode | None = None
        self.page_faults: PageFaults | None = None
        if self.trap and self.shadow:
            self.patched = PatchedCode(self, self.trap, self.shadow)
        self.callouts: Callouts | None = None
        if self.trap and self.shadow and engine.traits.native and not (slow or pure):
            self.callouts = Callouts(self, self.trap, self.shadow)
        self.ahead: StoresAhead | None = None
        if self.trap and self.shadow:
            self.ahead = StoresAhead(self, self.trap, self.shadow)
        self.switch = WorldSwitch(self, self.patched, self.callouts, self.ahead)
        self.enter = self.switch.enter
        if self.trap and self.shadow and self.patched and self.ahead:
            self.page_faults = PageFaults(
                self, self.trap, self.shadow, self.completion, self.patched, self.switch, self.callouts,
                FirstStores(self, self.shadow, self.ahead),
            )  # fmt: skip
        self.upper: UpperHalf | None = None
        if self.trap and self.shadow and self.patched and self.page_faults and self.trap.traits.native:
            self.upper = UpperHalf(
                self, self.trap, self.shadow, self.completion, self.patched, self.page_faults
            )
        self.planted: PlantedSteps | None = None
        if self.trap and self.trap.plants and self.shadow and self.patched and not pure:
            self.planted = PlantedSteps(self, self.trap, self.patched, self.shadow)
        self.known: KnownExits | None = None if slow or pure else self._known_exits()
        if self.upper is not None:
            self.upper.known = self.known
        self._translates, self._delivers = engine.traits.translates, engine.traits.delivers
        self.last: Instruction | None = None
        self.last_rip = UNKNOWN
        self.watching = False
        self.closed = False
        self.stored: list[tuple[int, int]] = []

    def _known_exits(self) -> KnownExits | None:
        """Handlers for exits that come again, where the engine can call them."""
        maker: SiteMaker | PortMaker
        if self.trap and self.patched and self.page_faults and self.trap.window() is not None:
            stores = self.page_faults.stores
            maker = SiteMaker(self, self.trap, self.completion, self.patched, stores)
        elif isinstance(self.engine, PortEngine):
            maker = PortMaker(self, self.engine)
        else:
            return None
        known = maker.known = KnownExits(self, maker)
        if self.shadow and self.patched:
            self.shadow.on_change = self.patched.on_change = known.forget
            self.shadow.on_drop, self.shadow.on_switch = known.tables_changed, known.moved
            known.around = self._around
            if self.callouts is not None:
                self.callouts.known = known
                self.patched.on_patcher = self.callouts.reset
        return known

    def _around(self, handler: Handler) -> Handler:
        """A handler of known exits, with what comes before and behind each."""
        if self.callouts is not None:
            handler = self.callouts.around(handler)
        return handler if self.ahead is None else self.ahead.around(handler)

    # One instruction

    def step(self) -> None:
        """Complete one more instruction, after the deliveries that are due before it, or stop."""
        self.last = None
        board, cpu, trace = self.board, self.cpu, self.trace
        try:
            while self.stop is None:
                if self.instructions + self.deliveries >= self.budget:
                    self.stop = Stop.BUDGET
                    return
                if self.ticks >= board.deadline:
                    board.advance(self.ticks)
                trace.begun = False
                try:
                    # lesson: interrupt-due
                    # Is an interrupt due, and does the guest listen? Then its handler comes first.
                    if board.nmi_pending and not cpu.nmi_blocked:
                        self.delivery.nmi()
                    elif board.interrupt_pending and cpu.rflags & _IF and not cpu.interrupt_shadow:
                        self.delivery.interrupt()
                    # lesson: next-instruction
                    # What is the next instruction? It is looked up through the guest's own page tables.
                    insn = self.fetch()
                    self.last_rip = cpu.rip
                    # lesson: execute
                    # May the CPU have it? If so, enter; if it came back: why?
                    if self.watching:
                        self._execute_watched(insn)
                    else:
                        self.execute(insn)
                except GuestFault as fault:
                    if not trace.begun:  # it was the fetch that faulted, or a check before the entry
                        trace.left()
                    self.delivery.reflect(fault)
                except Unsupported as limit:
                    self.refuse(limit)
                else:
                    if self.stop is None:
                        self.last = insn
                        self._completed(insn)
                        return
        finally:
            self.stopped_by = None
            if trace.pending is not None:
                trace.close()

    def fetch(self) -> Instruction:
        """Question 2: decode the instruction at RIP, through the guest's own page tables."""
        cpu = self.cpu
        if self._delivers and self.mmu.outdated(code_address(cpu, cpu.rip)):
            self.flush(None)  # such a CPU walks the tables itself, and may have cached the new entry
        if cpu.efer & _LMA and cpu.segments[CS].attributes & CODE_64:
            insn = known(self.mmu.fetch(cpu.rip))  # the usual case, without a call more
            if insn is not None:
                return insn
        return instruction_at(cpu, self.mmu, cpu.rip)

    def execute(self, insn: Instruction) -> None:
        """Complete an instruction; results that the architecture leaves undefined get the platform's
        value."""
        if self.cpu.rflags & _TF:
            single_step(self, self.completion, self.delivery, insn, self.execute, self._completed)
        elif insn.undefined_rule == "fixed":  # the most frequent: flags alone, and always the same
            self._complete(insn)
            self.cpu.rflags &= ~insn.undefined
        elif insn.undefined_rule:
            before = Before(self, insn)
            self._complete(insn)
            before.settle()
        else:
            self._complete(insn)

    def _execute_watched(self, insn: Instruction) -> None:
        """Execute an instruction and keep the ranges that it stores to."""
        ranges = written_ranges(insn, self.cpu)
        self.execute(insn)
        # An instruction that was not completed may have endless ranges.
        self.stored = ranges_in_ram(self, ranges) if ranges and self.stop is None else []

    def _complete(self, insn: Instruction) -> None:
        """Question 3: let the engine execute the instruction, or complete it in software."""
        if insn.plain and not self.cpu.rflags & _AC:
            self._step_until_complete(insn)
        elif insn.repeat and (handler := overwriting_itself(insn, self.cpu)):
            self.completion.bridge(insn, handler)
        elif self._may_run(insn):
            if insn.repeat and iterations_left(insn, self.cpu) > MANY_ITERATIONS:
                with interrupted_late(self.engine.interrupt):
                    self._step_until_complete(insn)
            else:
                self._step_until_complete(insn)
        elif insn.sensitivity is ORDINARY:
            bridge(self, self.completion, insn, self._step_until_complete)
        else:
            self.trace.left()  # as in free mode, where it is patched to trap
            self.completion.emulate(insn, "found before it ran")

    def _may_run(self, insn: Instruction) -> bool:
        """May the engine be entered with this instruction next?"""
        if insn.sensitivity is ORDINARY:
            if not (self.pure and self.trap):
                if insn.floating:
                    check_fpu_enabled(insn, self.cpu)  # on a trap core CR0.TS and EM are virtual
                if self.cpu.rflags & _AC:
                    check_alignment(insn, self.cpu)  # CPUs differ in some of it
                if insn.varies or insn.undefined_rule == "approximation":
                    return False
            if insn.implicit == "call":
                check_call(insn, self.cpu, self.mmu.peek)
            return not self._translates or self.engine.admits(insn, self.cpu, self.mmu)
        # lesson: may-the-cpu-have-it
        # On a trap core: a privileged instruction, yes, for the CPU will refuse it and so tell us. What
        # it would execute without a word, no; unless this is textbook trap-and-emulate.
        if self.trap:
            return insn.sensitivity is PRIVILEGED or self.pure
        if insn.sensitivity is ABSENT:
            raise undefined_opcode()
        if insn.mnemonic == "mov" and insn.sensitivity is PRIVILEGED:
            return False  # to and from CRn and DRn
        if insn.bits != 64 and insn.access and self._translates:
            check_segments(insn, self.cpu)
        return insn.mnemonic not in self.engine.traits.intercepts

    def _step_until_complete(self, insn: Instruction) -> None:
        """Enter until this instruction is complete. Raises GuestFault for the guest's own fault."""
        planted = self.planted if insn.sensitivity is ORDINARY else None
        if self.stopped_by is not None:
            exit, self.stopped_by = self.stopped_by, None
            self.trace.left()
        elif planted is not None and (plan := planted.plan(insn)) is not None:
            exit = self.enter(planted.engine.step_to, *plan)
        else:
            exit = self.enter(self.engine.step)
        if exit.__class__ is not Stepped and not self.handle_exit(exit, insn):
            deadline = Deadline()
            while not self.handle_exit(exit := self.enter(self.engine.step), insn):
                deadline.check()
        if exit.__class__ is Stepped and self.trap:
            self.cpu.interrupt_shadow = False

    # Exits

    def handle_exit(self, exit: Exit, insn: Instruction | None = None) -> bool:
        """Question 4: handle an exit. insn: the instruction at RIP, where it has been decoded.

        True: that instruction is now complete, or the machine has stopped; False: enter again. Raises
        GuestFault for the guest's own fault."""
        match exit:  # the frequent ones first: the cases are tried in turn
            case Fault():
                return self._faulted(exit, insn or self.fetch())
            case Stepped():
                return True
            case BudgetSpent() | Interrupted():
                return False
            case PortWrite():
                self.completion.port_write(exit)
                return False
            case PortRead():
                self.completion.port_read(exit)
                return False
            case MmioRead():
                self.completion.mmio_read(exit, insn)
                return False
            case MmioWrite():
                self.completion.mmio_write(exit, insn)
                return False
            case SystemCall():
                why = "the CPU called its kernel, and was stopped there"
                self.completion.emulate(insn or self.fetch(), why)
                return True
            case Intercept(lacking):
                insn = insn or self.fetch()
                if insn.sensitivity is not ORDINARY:
                    self.completion.emulate(insn, "left to the VMM", lacking=lacking)
                elif self._translates:
                    self._complete(insn)  # left by a free run, which checks less than a step
                else:
                    self.completion.bridge(insn)  # left by a step, which would leave it again
                return True
            case Halted():
                self.completion.halted()
                return True
            case Shutdown(lost):
                self.shut_down("the CPU met a fault while delivering a double fault", lost=lost)
                return True
            case Failed(reason, limit):
                self.fail(reason, limit)
                return True
            case _:
                assert_never(exit)

    def _faulted(self, fault: Fault, insn: Instruction) -> bool:
        """Handle a fault that the executing CPU raised at ``insn``; returns as ``handle_exit`` does."""
        faults, patched = self.page_faults, self.patched
        if self._translates:
            fault = self.engine.corrected(fault, insn, self.cpu, self.mmu)
        if fault.vector == _UD and insn.mnemonic in LACKED:
            self.completion.bridge(insn)
            return True
        if faults is None or patched is None:
            if fault.vector == Vector.DB:
                self.cpu.debug[6] |= SINGLE_STEP
            raise guest_fault(fault)
        if fault.vector == _PF and fault.address is not None:
            if beyond_canonical(insn, self.cpu, fault.address):
                raise address_fault(insn, self.cpu)
            return faults.serve(insn, fault.address)
        copied = self.callouts is not None and self.callouts.in_copy
        if patched.patcher is not None and fault.vector == _GP and not copied and patched.at_patch():
            return faults.patched(insn)
        # lesson: whose-fault
        # Whose fault is it? An ordinary instruction means the same in every ring: the guest's own
        # mistake, and its own handler's business. All others were not made for ring 3: do their work.
        if insn.sensitivity is ORDINARY:
            if fault.vector == _GP and faults.by_virtual_base(insn):
                faults.out_of_line.complete(insn)
                return True
            if fault.vector == _GP and stores_through_code(insn, self.cpu):
                with through_data(self, insn) as other:
                    self._step_until_complete(other)
                return True
            raise guest_fault(fault)
        self.completion.emulate(insn, REFUSALS[fault.vector])
        return True

    def _completed(self, insn: Instruction) -> None:
        """Count a completed instruction, and act on a stop or a HLT that it caused."""
        self.instructions += 1
        self.ticks += 1
        if self.cpu.rflags & _RF and insn.mnemonic != "iret":  # RF loaded by IRET lasts for one more
            self.cpu.rflags &= ~_RF
        self._end_if_asked()
        if self.emulator.halted:
            self.delivery.sleep()
        if self.board.paused_until:
            self.delivery.pause()

    # Free mode

    def run(self, budget: int) -> None:
        """Enter the guest once in free mode, and handle the exit. budget: instructions after which an
        engine that counts returns."""
        known, trace, cpu = self.known, self.trace, self.cpu
        if self.upper is not None and self.upper.serves():
            self._run_upper(self.upper)
            return
        patched = self.patched
        if known is None or (patched is not None and not patched.suits_handlers()):
            known, shadow_at = None, cpu.rip
            exit = self.enter(self.engine.run, budget)
        else:
            exit = self.enter(self.engine.run_known, known.entering())
            shadow_at = known.shadow_at
            if len(trace.log) > 2 * trace.limit:
                trace.trim()
        self.ticks = max(self.ticks, self.board.clock())  # it is later than at the entry
        self.closed = not cpu.rflags & _IF
        if self.trap and cpu.interrupt_shadow and cpu.rip != shadow_at:
            cpu.interrupt_shadow = False  # the instruction under it has been executed
        if self.engine.executed is None:
            self.uncounted = True
        else:
            self.instructions += self.engine.executed
        if self._delivers:  # such a CPU executes MOV to CR8 and WRMSR without the VMM
            self.tell_apic()
        completed = self.handle_exit(exit)
        if completed and self.stop is None:
            self.instructions += 1
            cpu.rflags &= ~_RF
        if known is not None and (completed or exit.__class__ in _PORTS or _is_fill(trace)):
            record = trace.newest
            if not (record and self.callouts and self.callouts.take(record)):
                known.learn(record)
        self._end_if_asked()

    def _run_upper(self, upper: UpperHalf) -> None:
        """``run`` in code of the upper half (upper_half.py)."""
        cpu, trace = self.cpu, self.trace
        rip = cpu.rip
        exit = self.enter(upper.run)
        if len(trace.log) > 2 * trace.limit:
            trace.trim()
        self.ticks = max(self.ticks, self.board.clock())
        self.closed = not cpu.rflags & _IF
        if cpu.rip != (rip if self.known is None else self.known.shadow_at):
            cpu.interrupt_shadow = False
        self.uncounted = True
        if upper.handle(exit) and self.stop is None:
            self.instructions += 1
            cpu.rflags &= ~_RF
            upper.learn(trace.newest)
        self._end_if_asked()

    def step_freely(self) -> None:
        """Execute one instruction by itself, where a free run would be wrong (TF, interrupt shadow)."""
        self.execute(self.fetch())
        self.instructions += 1
        self._end_if_asked()

    def _end_if_asked(self) -> None:
        """Stop the machine if the guest has requested it from a device."""
        if self.board.stop is not None and self.stop is None:
            self.stop, self.exit_status = self.board.stop.stop, self.board.stop.status


def _is_fill(trace: Trace) -> bool:
    """Was the last exit a hidden fault? It completes no instruction, and comes again all the same."""
    return trace.pending is not None and trace.pending[3] is _SHADOW
