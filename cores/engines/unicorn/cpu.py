"""One x86 CPU in Unicorn: exact steps and free runs, for both engines built on it.

The module corrects four properties of Unicorn:

- *one instruction*: ``count=1`` executes one iteration of a REP, abandons a store that changes its
  own block, and RIP alone does not tell these from a jump to itself (``_finish``);
- *faults*: a hook receives the vector, the saved registers hold the error code, and Unicorn's record of
  the fault has to be cleared, else it raises a double fault next (unicorn issue 1883);
- *fetch faults*: a block is translated as a whole, so a page missing at its end is reported at its
  beginning, before the instructions in front of it (``_alone``); and the next block is translated
  before the count is checked, so that its fault is reported with a step that is complete;
- *changed code*: after the first store to a frame Unicorn no longer checks stores through that
  page, and only a translation at the same linear address makes it check again. So code changed
  through another address, by two stores or by an unaligned one, would run as it was. Where a hook on
  accesses covers the frame, Unicorn checks all of them (cputlb.c, notdirty_write):
  ``Unicorn.check_all_stores``.
"""

from __future__ import annotations

from collections.abc import Callable

from cores.deadline import Deadline
from cores.engines.base import STEPPED, Exit, Failed, Fault
from cores.engines.unicorn import fpu
from cores.engines.unicorn.capi import FETCH_PROT, INSN_INVALID, Unicorn
from cores.engines.unicorn.layout import find_layout
from cores.engines.unicorn.registers import RegisterTransfer
from cores.pc.physical_memory import PhysicalMemory
from cores.x86.faults import GuestFault
from cores.x86.isa.decoder import Truncated, decode
from cores.x86.isa.encoding import LONGEST
from cores.x86.isa.instruction import Instruction, Register
from cores.x86.isa.rep_step import iterations_left
from cores.x86.mmu.segmentation import code_address
from cores.x86.mode import code_bits
from cores.x86.registers import ARITHMETIC_FLAGS, MASK64, Flag, PageFault, Vector, canonical
from cores.x86.system.x87_environment import sse_masked
from cores.x86.virtual_cpu import VirtualCpu

Fetch = Callable[[int], bytes]
"""Returns up to 15 bytes of code at a linear address; raises GuestFault when there are none."""

Fetcher = Callable[[VirtualCpu], Fetch]
"""Returns the function that fetches for this CPU, as long as it executes nothing."""

Locate = Callable[[VirtualCpu, int], int | None]
"""Returns the physical address of a page of code, given its linear address; None where unmapped."""

PAGE, LINE = 4096, 64
_LAST_PAGE = (1 << 47) - PAGE
"""Behind it addresses are not canonical: a fetch is #GP (SDM vol. 1, 3.3.7.1)."""
FEW_ITERATIONS, MOST_ITERATIONS = 1 << 10, 1 << 20
"""Iterations of a REP between two checks of the time limit: the first number at first (some 5 ms on a
device), then twice as many each time, up to the second (some 20 ms in RAM)."""

_ERROR_VECTORS = frozenset(
    (Vector.DF, Vector.TS, Vector.NP, Vector.SS, Vector.GP, Vector.PF, Vector.AC)
)  # fmt: skip


class UnicornCpu:
    """Executes a ``VirtualCpu`` in exactly its state, privileged registers included.

    fetcher: for a CPU, what fetches its code.
    place: the physical address of a page, which is not marked as accessed: that is the guest's doing.
    unicorn: the instance into which memory is mapped. last_error: the error code of the last exception,
    0 when it has none. on_translation: called with address and length of each block that Unicorn
    translates. sse_faults: MXCSR does not mask all exceptions (the VMM completes what loads it, by
    ``write_fpu``). on_forgotten: called when all translations have been discarded.
    """

    def __init__(self, fetcher: Fetcher, place: Locate) -> None:
        self.layout = find_layout()
        self.unicorn = Unicorn()
        self.fetcher = fetcher
        self.place = place
        self._cpu = VirtualCpu()
        self._translated: set[int] = set()  # lines of physical memory with translated code
        self._pages: set[int] = set()  # the pages in which these lie
        self._begun = False
        self._counted = False  # has Unicorn installed the hook with which it counts instructions?
        self.on_translation: Callable[[int, int], None] = lambda address, size: None
        self.on_forgotten: Callable[[], None] = lambda: None
        self.last_error = 0
        self.sse_faults = False
        self._vector = -1
        self._no_code = False  # a fetch from an address without RAM ended the last run
        self._transfer = RegisterTransfer(self.unicorn, self.layout)
        self.unicorn.check_all_stores()
        self.unicorn.on_interrupt(self._on_interrupt)
        self.unicorn.on_translation(self._on_translation)

    def step(self, cpu: VirtualCpu) -> Exit:
        """Complete one instruction: Stepped, Fault, or Failed."""
        self._cpu = cpu
        if not self._begun:
            self._begin(cpu)
        rip, flags, shadow = cpu.rip, cpu.rflags, cpu.interrupt_shadow
        cpu.rflags &= ~Flag.RF  # nothing to suppress here; and Unicorn's pushf would show it
        self._transfer.enter(cpu)
        exit = self._once(cpu, rip, 1)
        if exit is STEPPED:
            if cpu.rip == rip:
                exit = self._finish(cpu)
            elif cpu.rip >> 47:
                exit = self.arrived_high(cpu, rip)
            if cpu.interrupt_shadow or shadow:
                self._settle_shadow(cpu, rip, flags)
        elif self.translation_failed(cpu, exit):
            exit = self._alone(cpu)
        if exit is not STEPPED:
            # A completed instruction clears RF (vol. 3, 17.3.1.1). When a REPE CMPS faults midway, the
            # flags are as before it (vol. 2, REP); Unicorn leaves those of the last iteration.
            kept = Flag.RF | ARITHMETIC_FLAGS
            cpu.rflags = cpu.rflags & ~kept | flags & kept
        return exit

    def instruction(
        self, cpu: VirtualCpu, at: int | None = None, fetch: Fetch | None = None
    ) -> Instruction | None:
        """The instruction at the linear address ``at``, by default that of RIP; None where none can be
        fetched. fetch: fetches it in place of the CPU's own."""
        try:
            at = code_address(cpu, cpu.rip) if at is None else at
            return decode((fetch or self.fetcher(cpu))(at), code_bits(cpu))
        except (GuestFault, Truncated):
            return None

    @property
    def cpu(self) -> VirtualCpu:
        """The CPU that is executed, with its privileged registers; the general ones may be old."""
        return self._cpu

    def has_code(self, gpa: int, length: int) -> bool:
        """Is there translated code in the lines of these bytes, which lie in one physical page?"""
        if gpa // PAGE not in self._pages:
            return False
        return not self._translated.isdisjoint(range(gpa // LINE, (gpa + length - 1) // LINE + 1))

    def has_code_in(self, frames: range) -> bool:
        """Is there translated code in one of these pages, given by their numbers?"""
        return not self._pages.isdisjoint(frames)

    def read_fpu(self) -> bytes:
        return fpu.read_image(self.unicorn, self.layout)

    def write_fpu(self, image: bytes) -> None:
        fpu.write_image(self.unicorn, self.layout, image)
        self.sse_faults = not sse_masked(image)

    def announce(self, memory: PhysicalMemory) -> None:
        """Discard translations of code to which the VMM has stored since the last exit. Unicorn notices
        the guest's own stores to code, but not these."""
        if memory.unseen:
            stored = {
                line
                for gpa, length in memory.unseen
                for line in range(gpa // LINE, (gpa + length - 1) // LINE + 1)
            }
            memory.unseen.clear()
            if not self._translated.isdisjoint(stored):
                self.forget_code()

    def forget_code(self) -> None:
        """Discard all translations."""
        self._translated.clear()
        self._pages.clear()
        self._begun = False
        self.unicorn.flush_code()
        self._transfer.forget()  # flushing faults where a page is no longer mapped, and sets CR2
        self.on_forgotten()

    def stop_counting(self, cpu: VirtualCpu) -> None:
        """Begin a run without a count, in which the caller's hook stops at the first block. Unicorn
        removes its counting hook at the next such run, and looks up all code translated with it: a page
        from which the guest may not fetch, as the kernel's in ring 3, faults there and sets CR2. The
        caller has to call ``forget_code`` afterwards."""
        if self._counted:
            self._counted = False
            self._cpu = cpu
            self._transfer.enter(cpu)
            self.unicorn.start(cpu.rip)
            self._vector = -1

    def _begin(self, cpu: VirtualCpu) -> None:
        """Record a page at RIP as code: Unicorn calls no hook for the very first block."""
        self._begun = True
        self._on_translation(code_address(cpu, cpu.rip), PAGE)

    def close(self) -> None:
        self.unicorn.close()

    def _on_translation(self, address: int, size: int) -> None:
        """Record the physical addresses of translated code."""
        for page in range(address & -PAGE, address + size, PAGE):
            gpa = self.place(self._cpu, page)
            if gpa is not None:
                start, end = max(address, page) - page, min(address + size, page + PAGE) - page
                self._translated.update(range((gpa + start) // LINE, (gpa + end - 1) // LINE + 1))
                self._pages.add(gpa // PAGE)
        self.on_translation(address, size)

    def _on_interrupt(self, vector: int) -> None:
        self._vector = vector
        self.unicorn.stop()

    def _leave(self, cpu: VirtualCpu) -> None:
        self._transfer.leave(cpu)
        if fpu.exceptions_waiting(self.unicorn, self.layout):
            fpu.settle_exceptions(self.unicorn, self.layout)

    def execute(self, cpu: VirtualCpu, *, alone: bool = False) -> Exit | None:
        """Run without a count until Unicorn stops. Returns None, or the exception raised at RIP. alone:
        the first block has one instruction; ``cpu.interrupt_shadow`` is then undefined afterwards."""
        self._cpu = cpu
        if not self._begun:
            self._begin(cpu)
        self._transfer.enter(cpu, alone=alone)
        code = self.unicorn.start(cpu.rip)
        return self._outcome(cpu, code)

    def _once(self, cpu: VirtualCpu, rip: int, count: int) -> Exit:
        """Execute ``count`` instructions as Unicorn counts them."""
        self._counted = True
        exit = self._outcome(cpu, self.unicorn.start(rip, count))
        # If RIP has moved, this instruction is complete, and the fault is the next one's fetch.
        return STEPPED if exit is None or cpu.rip != rip else exit

    def _outcome(self, cpu: VirtualCpu, code: int) -> Exit | None:
        """Read the registers back. Returns the exception that ended the run, None if none did."""
        self._no_code = code == FETCH_PROT
        if self._vector < 0 and not code:
            self._leave(cpu)
            return None
        vector, self._vector = self._vector, -1
        self.last_error, address = self._transfer.fault_details()
        self._leave(cpu)
        if code in (INSN_INVALID, FETCH_PROT):  # where no RAM is, all ones are read: FF FF is #UD
            return Fault(Vector.UD)
        if code:
            return Failed(f"Unicorn: {self.unicorn.words(code)} (at guest address {cpu.rip:#x})")
        return Fault(
            vector,
            self.last_error if vector in _ERROR_VECTORS else None,
            address if vector == Vector.PF else None,
        )

    def _finish(self, cpu: VirtualCpu) -> Exit:
        """RIP has not moved: continue until the instruction is complete.

        There are three such cases: a REP after one iteration; a store that changes its own block, which
        Unicorn counts, abandons and restarts; and a jump to itself, which is complete."""
        insn = self.instruction(cpu)
        if insn is None or (insn.ends_block and not insn.repeat):
            return STEPPED
        rip = cpu.rip
        exit: Exit = STEPPED
        deadline, most = Deadline(), FEW_ITERATIONS
        while cpu.rip == rip and exit is STEPPED:
            deadline.check()
            if not insn.repeat:
                count = 2
            elif insn.mnemonic in ("cmps", "scas"):
                count = 1  # may end early, and then must not go on
            else:
                count = min(iterations_left(insn, cpu) + 1, most)  # one more: the final check of RCX
                most = min(2 * most, MOST_ITERATIONS)
            exit = self._once(cpu, rip, count)
        return exit

    def translation_failed(self, cpu: VirtualCpu, exit: Exit) -> bool:
        """Is ``exit`` the fetch fault of an instruction behind the one at RIP?"""
        if self._no_code:
            return self.instruction(cpu) is not None
        if not isinstance(exit, Fault):
            return False
        if exit.vector == Vector.GP and cpu.rip & -PAGE == _LAST_PAGE:
            return self.instruction(cpu) is not None  # it is raised again if it is this one's
        if exit.address is None or not self.last_error & PageFault.I:
            return False
        insn = self.instruction(cpu)
        return insn is not None and not 0 <= exit.address - code_address(cpu, cpu.rip) < insn.length

    def _alone(self, cpu: VirtualCpu) -> Exit:
        """Execute the instruction at RIP in a block of its own, because the code behind it cannot be
        translated. In an interrupt shadow (as after STI) Unicorn's blocks have one instruction, so the
        shadow is set."""
        shadow, cpu.interrupt_shadow = cpu.interrupt_shadow, True
        self._transfer.enter(cpu)
        exit = self._once(cpu, cpu.rip, 1)
        cpu.interrupt_shadow = shadow and exit is not STEPPED
        return exit

    def _settle_shadow(self, cpu: VirtualCpu, rip: int, flags: int) -> None:
        """Correct the interrupt shadow: Unicorn's STI opens one even when IF was set already, and no
        instruction opens one within the shadow of the instruction before."""
        insn = self.instruction(cpu, code_address(cpu, rip))
        cpu.interrupt_shadow = insn is not None and opens_shadow(insn, flags)

    def arrived_high(self, cpu: VirtualCpu, rip: int) -> Exit:
        """RIP has reached the upper half. Near jumps, calls and returns to a non-canonical address
        fault before they jump (SDM vol. 2, RET, JMP, CALL); Unicorn jumps first, which is undone."""
        if canonical(cpu.rip) or (cpu.rip - rip) & MASK64 <= LONGEST:
            return STEPPED
        self._transfer.undo(cpu)
        cpu.rip = rip
        return Fault(Vector.GP, 0)


def opens_shadow(insn: Instruction, flags: int) -> bool:
    """Does ``insn`` block interrupts for the next instruction? STI does if it has set IF, and loads of
    SS do (SDM vol. 3, 6.8.3). flags: RFLAGS before it."""
    if insn.mnemonic == "sti":
        return not flags & Flag.IF
    target = insn.operands[0] if insn.operands else None
    return insn.mnemonic in ("mov", "pop") and isinstance(target, Register) and target.name == "ss"
