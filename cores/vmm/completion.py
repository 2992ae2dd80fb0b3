"""Completion of instructions in software, in place of the engine.

    emulate         a sensitive instruction, which the engine must not execute: an exit
    bridge          an ordinary one that the engine should have executed and cannot (``bridged``)
    port_*, mmio_*  a device access that hardware has already decoded (KVM)

All use the same handlers (cores/vmm/emulate/table.py) and the same devices, so an exit is recorded in
the same words on every engine.
"""

from __future__ import annotations

from cores.engines.base import Fault, MmioRead, MmioWrite, PortRead, PortWrite
from cores.vmm.emulate.emulator import Handler
from cores.vmm.emulate.ports import string_access
from cores.vmm.emulate.table import HANDLERS, find
from cores.vmm.exit_site import DeviceExit, ExitSites, Site
from cores.vmm.state import GuestContext
from cores.vmm.trace import IN_LONG_MODE, place_of
from cores.x86.faults import GuestFault, undefined_opcode
from cores.x86.isa.instruction import Instruction, Reason
from cores.x86.mmu.code_fetch import demand_ram
from cores.x86.mmu.paging import NOWHERE
from cores.x86.mmu.segmentation import code_address
from cores.x86.registers import MASK32, MASK64, SS, Flag, Vector

IO, MMIO, HLT, CR, MSR = Reason.IO, Reason.MMIO, Reason.HLT, Reason.CR, Reason.MSR
"""Compared at each exit; in Python 3.11 an enum's member costs 75 ns to look up."""
_RF = Flag.RF
_REASONS = {PortRead: IO, PortWrite: IO, MmioRead: MMIO, MmioWrite: MMIO}
_HLT_CODE = b"\xf4"
ASKED, TOLD, LEFT = "asked the device", "told the device", "left by the CPU itself"
BRIDGED = "completed by the VMM"


class Completion:
    """Completes instructions of one guest."""

    def __init__(self, guest: GuestContext) -> None:
        self.guest = guest
        self._sites = ExitSites(guest.engine, guest.cpu, guest.mmu)

    def emulate(self, insn: Instruction, why: str, *, lacking: bool = False) -> None:
        """Emulate a sensitive instruction and record the exit.

        why: how the VMM came to it. lacking: see ``Intercept``. Raises GuestFault with nothing
        changed but the finished iterations of a REP."""
        guest, reason = self.guest, insn.reason
        cpu = guest.cpu
        rip, ring = cpu.rip, cpu.segments[SS].attributes >> 5 & 3
        place = IN_LONG_MODE if insn.bits == 64 else place_of(cpu)
        handler = HANDLERS.get(insn.mnemonic)
        if handler is None:
            raise undefined_opcode()  # the platform's CPU has no such instruction
        if guest.mmu.beyond_ram != NOWHERE and code_address(cpu, rip) == guest.mmu.beyond_ram:
            demand_ram(insn, cpu, guest.mmu)
        if reason is IO:
            guest.board.advance(guest.ticks)
            detail = self.complete(insn, handler)
        else:
            rights = guest.shadow.rights() if guest.shadow else None
            detail = self.complete(insn, handler)
            if guest.shadow and guest.shadow.rights() != rights:
                guest.flush(None)
            if reason is CR or reason is MSR:
                guest.tell_apic()
        if reason in guest.exits_for:
            n = None if guest.uncounted else guest.instructions
            guest.trace.record(n, rip, insn.code, reason, detail, why, ring, place)
        elif lacking:
            guest.trace.bridged += 1
        elif guest.engine.traits.native:
            guest.emulated += 1

    def bridge(self, insn: Instruction, handler: Handler | None = None) -> None:
        """Complete an ordinary instruction that the engine should have executed and cannot. One that
        accesses a device leaves the guest, as it would if the CPU executed it."""
        handler = handler or find(insn)
        if handler is None:
            raise undefined_opcode()
        guest, cpu = self.guest, self.guest.cpu
        rip, accesses = cpu.rip, guest.board.accesses
        place = IN_LONG_MODE if insn.bits == 64 else place_of(cpu)
        if not guest.trace.begun:
            guest.trace.left()
        self.complete(insn, handler)
        guest.trace.bridged += 1
        if guest.board.accesses != accesses:
            gpa, length, is_write = guest.memory.last_access
            detail = guest.memory.describe(gpa, length, is_write=is_write)
            guest.record(MMIO, detail, BRIDGED, rip, insn.code, cpu.cpl, place)

    def complete(self, insn: Instruction, handler: Handler) -> str:
        """Complete an instruction by its handler and advance RIP. Returns what was done, in words."""
        emulator, cpu = self.guest.emulator, self.guest.cpu
        emulator.next_rip = (cpu.rip + len(insn.code)) & (MASK64 if insn.bits == 64 else MASK32)
        emulator.shadows_next = False
        detail = handler(emulator, insn)
        cpu.rip = emulator.next_rip
        cpu.interrupt_shadow = emulator.shadows_next
        if insn.mnemonic != "iret":  # IRET alone may set RF
            cpu.rflags &= ~_RF
        else:
            cpu.nmi_blocked = False
        return detail

    def guests_own(self, fault: Fault, insn: Instruction) -> GuestFault:
        """The guest's own fault for one that the executing CPU raised at an ordinary instruction."""
        guest = self.guest
        if guest.engine.traits.translates:
            fault = guest.engine.corrected(fault, insn, guest.cpu, guest.mmu)
        return guest_fault(fault)

    # Accesses that hardware has decoded (KVM). insn: None where the VMM decoded none.

    def port_write(self, exit: PortWrite) -> None:
        """OUT or OUTS: pass the written data to the device."""
        guest, board = self.guest, self.guest.board
        port, size, data = exit
        site = self._site(exit, None)
        board.advance(guest.ticks)
        if len(data) == size:
            value = int.from_bytes(data, "little")
            board.write(port, size, value)
            detail = board.describe(port, size, value, True)
        else:
            board.write_string(port, size, data)
            detail = string_access(board, port, size, len(data) // size, is_write=True)
        self._record(IO, detail, TOLD, site)

    def port_read(self, exit: PortRead) -> None:
        """IN or INS: read from the device and complete the instruction with its data."""
        guest, board = self.guest, self.guest.board
        port, size, count = exit.port, exit.size, exit.count
        site = self._site(exit, None)
        board.advance(guest.ticks)
        data = board.read_string(port, size, count)
        guest.engine.complete(data)
        if count == 1:
            detail = board.describe(port, size, int.from_bytes(data, "little"), False)
        else:
            detail = string_access(board, port, size, count, is_write=False)
        self._record(IO, detail, ASKED, site)

    def mmio_read(self, exit: MmioRead, insn: Instruction | None) -> None:
        """A load from an address without RAM."""
        guest = self.guest
        site = self._site(exit, insn)
        guest.engine.complete(guest.memory.device_read(exit.gpa, exit.size))
        self._record(MMIO, guest.memory.describe(exit.gpa, exit.size, is_write=False), ASKED, site)

    def mmio_write(self, exit: MmioWrite, insn: Instruction | None) -> None:
        """A store to an address without RAM."""
        site = self._site(exit, insn)
        memory = self.guest.memory
        memory.device_write(exit.gpa, exit.data)
        self._record(MMIO, memory.describe(exit.gpa, len(exit.data), is_write=True), TOLD, site)

    def halted(self) -> None:
        """HLT, completed by the engine itself: RIP is behind its one byte."""
        self.guest.emulator.halted = True
        site = Site(self.guest.cpu.rip - 1 & (1 << 64) - 1, _HLT_CODE)
        self._record(HLT, "the virtual CPU sleeps", LEFT, site)

    def _site(self, exit: DeviceExit, insn: Instruction | None) -> Site:
        guest = self.guest
        if insn is not None:
            return Site(guest.cpu.rip, insn.code)
        if _REASONS[exit.__class__] not in guest.exits_for:
            return Site(guest.cpu.rip, b"")  # nobody is going to read it
        return self._sites.of(exit)

    def _record(self, reason: Reason, detail: str, handled: str, site: Site) -> None:
        self.guest.record(reason, detail, handled, *site, self.guest.cpu.cpl)


def guest_fault(fault: Fault) -> GuestFault:
    """The executing CPU's fault as the guest's. Engines may omit an error code of 0."""
    vector, error, address = fault
    if error is None and vector in (Vector.GP, Vector.SS, Vector.AC):
        error = 0
    return GuestFault(vector, error, address)
