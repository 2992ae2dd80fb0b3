"""Delivery of exceptions and interrupts to the guest's own handlers, and HLT until the next one."""

from __future__ import annotations

from cores.pc.devices.board import NEVER
from cores.pc.stop import Stop
from cores.vmm.state import GuestContext
from cores.vmm.trace import place_of
from cores.x86.faults import GuestFault
from cores.x86.isa.instruction import Reason
from cores.x86.mmu.code_fetch import instruction_at
from cores.x86.registers import Flag, Vector
from cores.x86.system import interrupts

DELIVERED = "delivered to the guest"


class Delivery:
    """Delivers events through the guest's IDT, as its CPU would (SDM vol. 3, 6.12)."""

    def __init__(self, guest: GuestContext) -> None:
        self.guest = guest

    def reflect(self, fault: GuestFault) -> None:
        """Deliver an exception, or shut the machine down where it has no handler for it."""
        guest = self.guest
        rip, ring, place = guest.cpu.rip, guest.cpu.cpl, place_of(guest.cpu)
        code = self._code_at(rip) if guest.trap else b""
        self._deliver(fault)
        if guest.trap:
            reason, handled = Reason.EXCEPTION, DELIVERED
            if guest.stop is Stop.SHUTDOWN:
                reason, handled = Reason.SHUTDOWN, guest.reason
            guest.record(reason, interrupts.describe(fault), handled, rip, code, ring, place)

    def interrupt(self) -> None:
        """Deliver the interrupt that the PICs request."""
        guest = self.guest
        guest.trace.left()
        rip, ring, place = guest.cpu.rip, guest.cpu.cpl, place_of(guest.cpu)
        vector = guest.board.acknowledge()
        self._deliver(GuestFault(vector), external=True)
        guest.record(Reason.IRQ, f"vector {vector:#x}", DELIVERED, rip, b"", ring, place)

    def nmi(self) -> None:
        """Deliver the NMI; further ones wait for an IRET (SDM vol. 3, 6.7)."""
        guest = self.guest
        guest.trace.left()
        rip, ring, place = guest.cpu.rip, guest.cpu.cpl, place_of(guest.cpu)
        guest.board.take_nmi()
        guest.cpu.nmi_blocked = True
        self._deliver(GuestFault(Vector.NMI), external=True)
        guest.record(Reason.IRQ, "NMI", DELIVERED, rip, b"", ring, place)

    def inject_nmi(self) -> None:
        """KVM: inject the NMI (KVM_NMI); the CPU blocks further ones itself."""
        self.guest.board.take_nmi()
        self.guest.engine.inject_nmi()

    def inject(self) -> None:
        """KVM: inject the pending interrupt (KVM_INTERRUPT) if the guest can take it now."""
        guest = self.guest
        guest.engine.inject(guest.cpu, guest.board.acknowledge)

    def sleep(self) -> None:
        """HLT in virtual time: jump to the next device event that can wake the guest; without one it
        has halted for good. At the board's horizon it is left asleep, to be called again."""
        guest, board = self.guest, self.guest.board
        guest.emulator.halted = False
        board.poll()
        while not self.wakes() and guest.cpu.rflags & Flag.IF:
            event = board.next_event()
            if board.horizon < NEVER and (event is None or event >= board.horizon):
                guest.ticks = max(guest.ticks, board.horizon)
                board.advance(guest.ticks)
                guest.emulator.halted = not self.wakes()
                return
            if event is None:
                break
            guest.ticks = max(guest.ticks, event)
            board.advance(guest.ticks)
        guest.slept = guest.ticks
        if not self.wakes():
            guest.stop = Stop.HALTED

    def pause(self) -> None:
        """A device holds the guest for a time: jump over it, in virtual time."""
        guest, board = self.guest, self.guest.board
        guest.ticks = max(guest.ticks, board.paused_until)
        board.paused_until = 0
        board.advance(guest.ticks)

    def wakes(self) -> bool:
        """Whether an interrupt is pending that wakes the CPU from HLT."""
        board, cpu = self.guest.board, self.guest.cpu
        nmi = board.nmi_pending and not cpu.nmi_blocked
        return nmi or bool(board.interrupt_pending and cpu.rflags & Flag.IF)

    def _deliver(self, event: GuestFault, *, external: bool = False) -> None:
        guest = self.guest
        rights = guest.shadow.rights() if guest.shadow else None
        delivery = interrupts.deliver_event(guest.mmu, guest.cpu, event, external=external)
        if guest.shadow and guest.shadow.rights() != rights:
            guest.flush(None)
        guest.stopped_by = None  # its instruction is not the next one now
        guest.deliveries += 1
        guest.ticks += 1
        if delivery.outcome is interrupts.Outcome.SHUTDOWN:
            guest.shut_down(interrupts.shutdown_in_words(guest.cpu, delivery))

    def _code_at(self, rip: int) -> bytes:
        try:
            return instruction_at(self.guest.cpu, self.guest.mmu, rip).code
        except GuestFault:
            return b""
