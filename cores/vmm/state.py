"""The state of one guest that all parts of the VMM share, and its checkpoints.

The parts import this file and not one another: vmm.py decides, completion.py and delivery.py change
the guest, page_faults.py and patched_code.py keep its address spaces; all of them share one
``GuestContext``.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from cores.engines.base import DeprivilegedEngine, Engine, Exit
from cores.pc.devices.board import Board
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.stop import Stop
from cores.vmm.emulate.emulator import Emulator
from cores.vmm.faults.lent_page import LentPage
from cores.vmm.shadow_tlb import ShadowPages, ShadowState
from cores.vmm.trace import Place, Trace, TraceMark, place_of
from cores.x86.faults import GuestFault, Refused, Unsupported
from cores.x86.isa.decoder import text
from cores.x86.isa.instruction import Reason
from cores.x86.mmu.code_fetch import instruction_at
from cores.x86.mmu.paging import Mmu
from cores.x86.mmu.segmentation import in_segment
from cores.x86.registers import ApicBase
from cores.x86.virtual_cpu import VirtualCpu

STATE_LOST = (
    "AMD-V resets a CPU that meets a triple fault: the registers are those of the last exit before it"
)
NEVER = 1 << 63
"""A budget larger than any guest can use up."""


@dataclass(frozen=True, slots=True)
class VmmState:
    """A checkpoint of the VMM's own state. trace: see ``Trace.mark``.
    shadow: None where there is no virtual TLB. The rest: see ``GuestContext``."""

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


class GuestContext:
    """One guest on one engine.

    cpu, memory, mmu: the guest's virtual CPU, its physical memory and its view of it. board: its
        devices. emulator: the environment of the emulation handlers.
    trap, shadow: the engine again and its virtual TLB, where the guest is deprivileged.
    pure: textbook trap-and-emulate: sensitive instructions that do not trap run unnoticed.
    trace: the log of exits. exits_for: the reasons for which this engine's guest exits; they are
        recorded.
    instructions: completed ones (contract.md, Counting); uncounted: the CPU ran on its own for a
        while, so the number is too small. ticks: virtual time in microseconds: instructions,
        deliveries, and what HLT slept through.
    emulated: instructions that the VMM completed without an exit: those that exact mode takes from
        KVM, which would have executed them in guest mode.
    lent: the device page that a deprivileged guest may read without an exit, None where it may not.
    flushes: how often translations became invalid: by ``flush`` or ``restore``.
    stopped_by: the exit by which the guest has been stopped at RIP, if it has not been handled: the
        next step handles it in place of an entry. Of a follower in lockstep; None elsewhere.
    slept: the tick at which a HLT ended last, -1 before the first. Not part of the state: it tells the
        user that the guest waits.
    stop: why the machine stopped, None while it can go on; ``reason``: the same in words;
        ``limit``: see ``Failed``.
    """

    def __init__(
        self, engine: Engine, memory: PhysicalMemory, cpu: VirtualCpu, board: Board, *, pure: bool
    ) -> None:
        self.engine = engine
        self.memory = memory
        self.cpu = cpu
        self.board = board
        self.pure = pure
        self.mmu = Mmu(memory, cpu)
        self.emulator = Emulator(cpu, self.mmu, board, lambda: self.ticks, self.flush, engine)
        self.trap = engine if isinstance(engine, DeprivilegedEngine) else None
        self.shadow: ShadowPages | None = None
        if self.trap is not None:
            self.trap.pure = pure
            self.shadow = ShadowPages(self.trap, memory, cpu, self.mmu)
        self.trace = Trace()
        self.exits_for: frozenset[Reason] = engine.traits.exits_for
        self.instructions = 0
        self.deliveries = 0
        self.ticks = 0
        self.slept = -1
        self.stopped_by: Exit | None = None
        self.emulated = 0
        self.budget = NEVER
        self.stop: Stop | None = None
        self.reason = ""
        self.limit = ""
        self.exit_status: int | None = None
        self.notes: dict[str, None] = {}
        self.uncounted = False
        self.flushes = 0
        self.lent: LentPage | None = None
        board.clock = lambda: self.ticks
        board.local_apic.prioritized = self._prioritized

    @property
    def counted(self) -> int | None:
        """Instructions completed, or None where the CPU ran on its own and they were not counted."""
        return None if self.uncounted else self.instructions

    @property
    def delivered(self) -> int:
        """Exits that delivered a fault or an interrupt and completed no instruction."""
        return self.deliveries if self.trap else 0

    def tell_apic(self) -> None:
        """Tell the local APIC of CR8 and IA32_APIC_BASE, after the guest may have changed them."""
        cpu, apic, enabled = self.cpu, self.board.local_apic, bool(self.cpu.apic_base & ApicBase.EN)
        if cpu.cr8 != apic.tpr >> 4 or enabled is not apic.enabled:
            self.board.advance(self.ticks)
            self.board.follow_cpu(cpu.cr8, apic_enabled=enabled)

    def _prioritized(self, cr8: int) -> None:
        self.cpu.cr8 = cr8
        self.engine.prioritized(cr8)

    def record(
        self,
        reason: Reason,
        detail: str,
        handled: str,
        rip: int,
        code: bytes,
        ring: int,
        place: Place | None = None,
    ) -> None:
        """Record an exit, if the guest leaves this engine for that reason. place: of ``rip``, where the
        CPU has gone on since."""
        if reason in self.exits_for:
            n = None if self.uncounted else self.instructions
            place = place or place_of(self.cpu)
            self.trace.record(n, rip, code, reason, detail, handled, ring, place)

    def shut_down(self, reason: str, *, lost: bool = False) -> None:
        """Stop the machine after a triple fault. lost: see ``Shutdown``."""
        self.stop, self.reason = Stop.SHUTDOWN, reason
        if lost:
            self.notes[STATE_LOST] = None

    def fail(self, reason: str, limit: str = "") -> None:
        """Stop the machine with an error. reason: a sentence for the user. limit: see ``Failed``."""
        self.stop, self.reason, self.limit = Stop.ERROR, reason, limit

    def refuse(self, limit: Unsupported) -> None:
        """Stop the machine, whose guest has asked for what the platform does not have."""
        if not isinstance(limit, Refused):
            self.fail(str(limit))
            return
        cpu, asm = self.cpu, ""
        with contextlib.suppress(GuestFault):
            asm = f"{text(instruction_at(cpu, self.mmu, cpu.rip), cpu.rip)} "
        self.fail(f"{limit} ({asm}at {in_segment(cpu, cpu.rip)})")

    def flush(self, gva: int | None) -> None:
        """Invalidate the translation of ``gva``, or all (None): in the VMM's TLB, the engine's and the
        shadow."""
        self.flushes += 1
        self.mmu.flush(gva)
        self.engine.flush(gva)
        if self.shadow:
            if gva is None:
                self.shadow.drop_all()
            else:
                self.shadow.drop(gva)

    def save(self) -> VmmState:
        """A checkpoint of all but CPU, memory and devices (cores/time_travel/history.py)."""
        return VmmState(
            self.instructions, self.deliveries, self.ticks, self.emulator.halted, self.stop,
            self.reason, self.limit, self.exit_status, self.shadow.save() if self.shadow else None,
            self.trace.mark(), self.emulated, self.uncounted, tuple(self.notes),
        )  # fmt: skip

    def restore(self, state: VmmState) -> None:
        """Go back to a checkpoint and drop everything cached from the memory that it replaces."""
        self.stopped_by = None
        self.instructions, self.deliveries = state.instructions, state.deliveries
        self.ticks, self.emulator.halted = state.ticks, state.halted
        self.stop, self.reason, self.limit = state.stop, state.reason, state.limit
        self.exit_status = state.exit_status
        self.uncounted, self.notes = state.uncounted, dict.fromkeys(state.notes)
        self.emulated = state.emulated
        self.trace.rewind(state.trace)
        self.engine.memory_changed()
        self.flushes += 1
        self.mmu.flush(None)
        self.engine.flush(None)
        if self.shadow and state.shadow:
            self.shadow.restore(state.shadow)
