"""Delivery of exceptions and interrupts to the guest's own handlers, and HLT until the next one."""

from __future__ import annotations

from cores.pc.stop import Stop
from cores.vmm.state import GuestContext
from cores.x86.faults import GuestFault
from cores.x86.isa.decoder import Truncated, decode
from cores.x86.isa.instruction import Reason
from cores.x86.mode import mode
from cores.x86.registers import Flag
from cores.x86.system import interrupts

DELIVERED = "delivered to the guest"


class Delivery:
    """Delivers events through the guest's IDT, as its CPU would (SDM vol. 3, 6.12)."""

    def __init__(self, guest: GuestContext) -> None:
        self.guest = guest

    def reflect(self, fault: GuestFault) -> None:
        """Deliver an exception, or shut the machine down where it has no handler for it."""
        guest = self.guest
        rip, ring, in_mode = guest.cpu.rip, guest.cpu.cpl, mode(guest.cpu)
        self._deliver(fault)
        if guest.trap:
            reason, handled = Reason.EXCEPTION, DELIVERED
            if guest.stop is Stop.SHUTDOWN:
                reason, handled = Reason.SHUTDOWN, guest.reason
            what, code = interrupts.describe(fault), self._code_at(rip)
            guest.record(reason, what, handled, rip, code, ring, in_mode)

    def interrupt(self) -> None:
        """Deliver the interrupt that the PICs request."""
        guest = self.guest
        guest.trace.left()
        rip, ring, in_mode = guest.cpu.rip, guest.cpu.cpl, mode(guest.cpu)
        vector = guest.board.acknowledge()
        self._deliver(GuestFault(vector), external=True)
        guest.record(Reason.IRQ, f"vector {vector:#x}", DELIVERED, rip, b"", ring, in_mode)

    def inject(self) -> None:
        """KVM: inject the pending interrupt (KVM_INTERRUPT) if the guest can take it now."""
        guest = self.guest
        guest.engine.inject(guest.cpu, guest.board.acknowledge)

    def sleep(self) -> None:
        """HLT in virtual time: jump to the next device event that can wake the guest; without one it
        has halted for good."""
        guest, board = self.guest, self.guest.board
        guest.emulator.halted = False
        while not board.interrupt_pending and guest.cpu.rflags & Flag.IF:
            event = board.next_event()
            if event is None:
                break
            guest.ticks = max(guest.ticks, event)
            board.advance(guest.ticks)
        if not (board.interrupt_pending and guest.cpu.rflags & Flag.IF):
            guest.stop = Stop.HALTED

    def _deliver(self, event: GuestFault, *, external: bool = False) -> None:
        guest = self.guest
        rights = guest.shadow.rights() if guest.shadow else None
        delivery = interrupts.deliver_event(guest.mmu, guest.cpu, event, external=external)
        if guest.shadow and guest.shadow.rights() != rights:
            guest.flush(None)
        guest.deliveries += 1
        guest.ticks += 1
        if delivery.outcome is interrupts.Outcome.SHUTDOWN:
            guest.shut_down(interrupts.shutdown_in_words(guest.cpu, delivery))

    def _code_at(self, rip: int) -> bytes:
        try:
            return decode(self.guest.mmu.fetch(rip)).code
        except (GuestFault, Truncated):
            return b""
