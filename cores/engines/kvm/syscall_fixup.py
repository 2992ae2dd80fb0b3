"""System calls, where KVM has no hardware to do them (only on such hosts).

There SYSCALL of ring 3 goes to LSTAR but stays in ring 3, and INT n is #UD. Both then fault, and the
handler's entry has a breakpoint: a frame that tells of one of them is taken back, and the instruction
is left to the VMM. So that SYSCALL surely faults, the vCPU's own LSTAR leads nowhere; so that ring 0,
which such a host interprets, does not follow it there, EFER.SCE is clear, and SYSCALL is #UD in ring 0.
The guest's LSTAR and SCE are kept here, and its accesses to these MSRs come back to us
(KVM_CAP_X86_USER_SPACE_MSR).
"""

from __future__ import annotations

import secrets
from struct import pack

from cores.engines.kvm import api, state
from cores.engines.kvm import guest_handlers as handlers
from cores.pc.physical_memory import PhysicalMemory
from cores.x86.faults import GuestFault
from cores.x86.mmu.paging import PAGE, Mmu
from cores.x86.registers import CS, MASK64, R11, RCX, RSP, SS, Msr, Vector
from cores.x86.system.control_registers import read_msr, write_msr
from cores.x86.system.descriptors import read_descriptor, to_segment
from cores.x86.virtual_cpu import VirtualCpu

NOWHERE = 0x7000_0000_0000 + PAGE * secrets.randbelow(1 << 31)
"""A canonical address, drawn anew in each run so that no guest can map it on purpose."""
WATCHED_MSRS = frozenset({Msr.LSTAR, Msr.EFER})
"""MSRs of which the vCPU holds something else than the guest wrote."""

_SYSCALL = b"\x0f\x05"
_INT = b"\xcd"
_WATCHED = (Vector.UD, Vector.PF, Vector.GP)
_USER = 3

HLT = b"\xf4"


class Bridge:
    """Watches one vCPU that runs freely."""

    def __init__(self, vcpu: api.Vcpu, registers: state.Registers, memory: PhysicalMemory) -> None:
        self._vcpu = vcpu
        self._run = vcpu.run
        self._registers = registers
        self._memory = memory
        self._armed: tuple[int, tuple[int, ...]] | None = None
        self._places: tuple[int, ...] = ()
        self._idt_at: tuple[int, ...] = ()
        self._pieces: list[tuple[int, int]] = []
        self._idt = b""
        self._over = False
        self._cr2 = 0  # as the guest was last entered
        self.halting = False

    def forget(self) -> None:
        """Somebody else has used the debug registers."""
        self._armed = None

    def arm(self, cpu: VirtualCpu) -> None:
        """Before entering: break at the handlers, or, standing at one, go one instruction on."""
        self._look_at_handlers(cpu)
        self.halting = False
        self._cr2 = cpu.cr2
        # At a handler's entry by the VMM's own delivery: what led there is dealt with.
        if self._over or cpu.rip in self._places:
            self._over = False
            self.halting = self._stands_at_halt(cpu)
            wanted: tuple[int, tuple[int, ...]] = (api.DEBUG_ENABLE | api.DEBUG_STEP, ())
        else:
            hardware = api.DEBUG_HARDWARE if self._places else 0
            wanted = (api.DEBUG_ENABLE | hardware, self._places)
        if wanted != self._armed:
            self._vcpu.guest_debug(*wanted)
            self._armed = wanted

    def _stands_at_halt(self, cpu: VirtualCpu) -> bool:
        """Such hosts swallow a HLT that is stepped: it ends in the debug exit, like any instruction."""
        try:
            return Mmu(self._memory, cpu).fetch(cpu.rip)[:1] == HLT
        except GuestFault:
            return False

    def _look_at_handlers(self, cpu: VirtualCpu) -> None:
        where = (cpu.idtr.base, cpu.idtr.limit, cpu.cr3, cpu.cr0)
        if where != self._idt_at:
            self._idt_at, self._pieces = where, self._find_idt(cpu)
        view = self._memory.view
        idt = b"".join([bytes(view[gpa : gpa + length]) for gpa, length in self._pieces])
        if idt != self._idt:
            self._idt = idt
            entries = handlers.entries(idt)
            self._places = tuple({e: None for v in _WATCHED if (e := entries[v]) is not None})

    def _find_idt(self, cpu: VirtualCpu) -> list[tuple[int, int]]:
        """Its exception gates' place in RAM, page by page."""
        mmu, at = Mmu(self._memory, cpu), cpu.idtr.base
        left = min(cpu.idtr.limit + 1, handlers.GATES * handlers.GATE_BYTES)
        pieces = []
        try:
            while left >= handlers.GATE_BYTES:
                length = min(left, PAGE - at % PAGE)
                pieces.append((mmu.translate(at, implicit=True), length))
                at, left = (at + length) & MASK64, left - length
        except GuestFault:
            return []
        return pieces if all(self._memory.is_ram(*piece) for piece in pieces) else []

    def is_system_call(self, cpu: VirtualCpu) -> bool:
        """At a breakpoint, ``cpu`` being at the handler's entry: was it a system call? If so, ``cpu``
        goes back to the instruction."""
        if cpu.rip not in self._places:
            return False  # one instruction behind an entry, as ``arm`` wanted
        mmu, rsp = Mmu(self._memory, cpu), cpu.gpr[RSP]
        self._over = True
        try:
            frame = handlers.frame(mmu.read(rsp, 48, user=False), rsp)
            if not self._instruction(cpu, mmu, frame.rip, frame.cs & 3):
                return False
            code = to_segment(frame.cs, read_descriptor(mmu, cpu, frame.cs))
            stack = to_segment(frame.ss, read_descriptor(mmu, cpu, frame.ss))
        except GuestFault:
            return False
        self._over = False
        cpu.segments[CS], cpu.segments[SS] = code, stack
        cpu.gpr[RSP], cpu.rflags = frame.rsp, frame.rflags & ~handlers.DELIVERYS_OWN
        self._go_back(cpu, frame.rip)
        return True

    def was_shut_down_by_one(self, cpu: VirtualCpu) -> bool:
        """The same without handlers: the fault ended in a shutdown, at the instruction itself."""
        at = cpu.rip
        if not self._instruction(cpu, Mmu(self._memory, cpu), at, cpu.cpl):
            return False
        self._go_back(cpu, at)
        return True

    def _instruction(self, cpu: VirtualCpu, mmu: Mmu, rip: int, ring: int) -> bool:
        """Does a fault at ``rip`` in ``ring`` stand for SYSCALL or INT n?"""
        if ring == _USER and rip == NOWHERE:
            return True
        user = ring == _USER
        try:
            first = mmu.read(rip, 1, user=user)
            if first == _INT:
                return user
            # Ring 3's is mostly executed, wrongly, but when the host's kernel interprets it, refused.
            return first + mmu.read((rip + 1) & MASK64, 1, user=user) == _SYSCALL
        except GuestFault:
            return False

    def _go_back(self, cpu: VirtualCpu, rip: int) -> None:
        if rip == NOWHERE:
            cpu.cr2 = self._cr2  # the fault at this address is none of the guest's
            cpu.rip = (cpu.gpr[RCX] - len(_SYSCALL)) & MASK64
            cpu.rflags = cpu.gpr[R11] & ~handlers.DELIVERYS_OWN | 2  # IF is the host's: 1
        else:
            cpu.rip = rip
        self._registers.forget()

    def msr_access(self, cpu: VirtualCpu, reason: int) -> None:
        """The guest reads or writes an MSR: answer; the next entry completes the instruction."""
        at = api.UNION
        _, _, index, value = api.MSR.unpack_from(self._run, at)
        refused = index not in WATCHED_MSRS
        try:
            if reason == api.EXIT_RDMSR:
                value = read_msr(cpu, index, 0)
            elif not refused:
                write_msr(cpu, index, value, 0)
                self._registers.take_in(cpu)
        except GuestFault:
            refused = True
        self._run[at : at + api.MSR.size] = pack("<B7xIIQ", refused, 0, index, value)
