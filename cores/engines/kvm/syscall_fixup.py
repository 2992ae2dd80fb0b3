"""System-call fixup for hosts whose KVM has no hardware support.

On such a host SYSCALL in ring 3 jumps to LSTAR but stays in ring 3, and INT n raises #UD. Both then
fault, and the entries of the fault handlers have breakpoints: when the frame shows that SYSCALL or INT
n was the cause, the delivery is undone and the instruction is left to the VMM. The vCPU's own LSTAR
holds an unmapped address, so that SYSCALL always faults. EFER.SCE is clear, so that SYSCALL in ring 0,
which such a host interprets, is #UD instead of a jump to that address. The guest's LSTAR and SCE are
kept here, and its accesses to these MSRs exit to user space (KVM_CAP_X86_USER_SPACE_MSR).
"""

from __future__ import annotations

import secrets

from cores.engines.kvm import api, state
from cores.engines.kvm import guest_handlers as handlers
from cores.pc.physical_memory import PhysicalMemory
from cores.x86.faults import GuestFault
from cores.x86.mmu.paging import PAGE, Mmu
from cores.x86.registers import CS, MASK64, R11, RCX, RSP, SS, Msr, Vector
from cores.x86.system.descriptors import read_descriptor, to_segment
from cores.x86.virtual_cpu import VirtualCpu

NOWHERE = 0x7000_0000_0000 + PAGE * secrets.randbelow(1 << 31)
"""A canonical address, drawn anew in each run so that no guest can map it on purpose."""
WATCHED_MSRS = frozenset({Msr.LSTAR, Msr.EFER})
"""MSRs whose value in the vCPU differs from the one that the guest wrote."""

_SYSCALL = b"\x0f\x05"
_INT = b"\xcd"
_WATCHED = (Vector.UD, Vector.PF, Vector.GP)
_USER = 3

HLT = b"\xf4"


class SyscallFixup:
    """Finds the system calls of one vCPU in free mode, and undoes the faults that they caused."""

    def __init__(self, vcpu: api.Vcpu, registers: state.Registers, memory: PhysicalMemory) -> None:
        self._vcpu = vcpu
        self._run = vcpu.run
        self._registers = registers
        self._memory = memory
        self._armed: tuple[int, tuple[int, ...]] | None = None
        self._at_handlers: tuple[int, tuple[int, ...]] | None = None
        self._places: tuple[int, ...] = ()
        self._idt_at: tuple[int, ...] = ()
        self._pieces: list[tuple[int, int]] = []
        self._idt = b""
        self._over = False
        self._cr2 = 0  # as the guest was last entered
        self.halting = False

    def forget(self) -> None:
        """The debug registers have been used elsewhere: arm them anew at the next entry."""
        self._armed = None

    def arm(self, cpu: VirtualCpu) -> None:
        """Called before each entry: set breakpoints at the fault handlers, or, when the guest stands at
        one of them, a single step."""
        self._read_handlers(cpu)
        self.halting = False
        self._cr2 = cpu.cr2
        # The VMM's own delivery has led to this handler's entry: its cause has been dealt with.
        if self._over or cpu.rip in self._places:
            self._over = False
            self.halting = self._stands_at_halt(cpu)
            wanted: tuple[int, tuple[int, ...]] = (api.DEBUG_ENABLE | api.DEBUG_STEP, ())
        else:
            hardware = api.DEBUG_HARDWARE if self._places else 0
            wanted = self._at_handlers = (api.DEBUG_ENABLE | hardware, self._places)
        if wanted != self._armed:
            self._vcpu.guest_debug(*wanted)
            self._armed = wanted

    def is_armed(self, rip: int) -> bool:
        """Would ``arm`` change nothing for a guest at ``rip``, whose segments and control registers are
        as they were? Only its IDT may have changed since."""
        if self._armed != self._at_handlers or rip in self._places or self._over:
            return False
        view, at = self._memory.view, 0
        for gpa, length in self._pieces:
            if view[gpa : gpa + length] != self._idt[at : at + length]:
                return False
            at += length
        return True

    def _stands_at_halt(self, cpu: VirtualCpu) -> bool:
        """Is the next instruction HLT? On such hosts a stepped HLT exits as a single step, not as
        HLT."""
        try:
            return Mmu(self._memory, cpu).fetch(cpu.rip)[:1] == HLT
        except GuestFault:
            return False

    def _read_handlers(self, cpu: VirtualCpu) -> None:
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
        """(GPA, length) of the IDT's exception gates, page by page; [] where they are not in RAM."""
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
        """At a debug exit: was the fault that led to this handler's entry caused by a system call? If
        so, ``cpu`` is put back to the instruction."""
        if cpu.rip not in self._places:
            return False  # the single step that ``arm`` asked for has left the entry
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

    def shut_down_by_system_call(self, cpu: VirtualCpu) -> bool:
        """At a shutdown, in a guest without handlers: was the instruction at RIP a system call? If so,
        ``cpu`` is put back to it."""
        at = cpu.rip
        if not self._instruction(cpu, Mmu(self._memory, cpu), at, cpu.cpl):
            return False
        self._go_back(cpu, at)
        return True

    def _instruction(self, cpu: VirtualCpu, mmu: Mmu, rip: int, ring: int) -> bool:
        """Does a fault at ``rip`` in ``ring`` come from SYSCALL or INT n?"""
        if ring == _USER and rip == NOWHERE:
            return True
        user = ring == _USER
        try:
            first = mmu.read(rip, 1, user=user)
            if first == _INT:
                return user
            # The CPU executes ring 3's SYSCALL (wrongly); where the host's kernel interprets it, #UD.
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
