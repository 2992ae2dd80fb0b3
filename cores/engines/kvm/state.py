"""Register transfer between ``VirtualCpu`` and the layouts of KVM (struct kvm_regs, kvm_sregs).

The page shared with the kernel holds the registers (KVM_CAP_SYNC_REGS): the kernel stores them there
at each exit, and loads those marked dirty at the next entry. Most exits change no privileged register,
so these are unpacked only when their bytes differ from the last ones.
"""

from __future__ import annotations

from operator import itemgetter
from struct import pack, pack_into, unpack_from

from cores.x86.virtual_cpu import Segment, TableRegister, VirtualCpu

from ...x86.registers import CS, DS, ES, FS, GS, MASK32, SS, ApicBase, Cr0, Efer, Msr
from . import api

_TO_KVM = itemgetter(0, 3, 1, 2, 6, 7, 4, 5, *range(8, 16))
"""From the general registers in encoding order (rax rcx rdx rbx rsp rbp rsi rdi) to those of struct
kvm_regs (rax rbx rcx rdx rsi rdi rsp rbp)."""
_FROM_KVM = itemgetter(0, 2, 3, 1, 6, 7, 4, 5, *range(8, 16))

_ORDER = (CS, DS, ES, FS, GS, SS)
"""The segment registers in the order of struct kvm_sregs; TR and LDTR follow."""

SPECIAL = slice(api.SYNC_SREGS, api.SYNC_EVENTS)
"""Segments and control registers in the shared page."""

_CR8, _APIC_BASE = api.CONTROLS_AT + 4 * 8, api.CONTROLS_AT + 6 * 8
_CR3_PAGE = api.CONTROLS_AT + 2 * 8 + 1
"""Offset in struct kvm_sregs of the byte with CR3's bits 8-15; the page number begins at bit 12."""

MSRS = (Msr.STAR, Msr.LSTAR, Msr.CSTAR, Msr.FMASK, Msr.KERNEL_GS_BASE)
"""The MSRs of the platform that have no place in kvm_sregs."""


def privileged(cpu: VirtualCpu) -> tuple[object, ...]:
    """A fingerprint of the fields of kvm_sregs: when it is unchanged, nothing has to be written.

    Written out flat, since it is computed at most entries: 1 us instead of 5."""
    a, b, c, d, e, f = cpu.segments
    t, n, gdt, idt = cpu.tr, cpu.ldtr, cpu.gdtr, cpu.idtr
    return (
        cpu.cr0, cpu.cr2, cpu.cr3, cpu.cr4, cpu.cr8, cpu.efer, cpu.apic_base,
        a.selector, a.base, a.limit, a.attributes, b.selector, b.base, b.limit, b.attributes,
        c.selector, c.base, c.limit, c.attributes, d.selector, d.base, d.limit, d.attributes,
        e.selector, e.base, e.limit, e.attributes, f.selector, f.base, f.limit, f.attributes,
        t.selector, t.base, t.limit, t.attributes, n.selector, n.base, n.limit, n.attributes,
        gdt.base, gdt.limit, idt.base, idt.limit,
    )  # fmt: skip


def pack_general(run: api.RunPage, cpu: VirtualCpu) -> None:
    """Write the general registers, RIP and RFLAGS into the shared page."""
    api.REGS.pack_into(run, api.SYNC_REGS, *_TO_KVM(cpu.gpr), cpu.rip, cpu.rflags)


def unpack_general(run: api.RunPage, cpu: VirtualCpu) -> None:
    """Read them from the shared page, in place: other objects keep references to ``cpu.gpr``."""
    registers = api.REGS.unpack_from(run, api.SYNC_REGS)
    cpu.gpr[:] = _FROM_KVM(registers)
    cpu.rip, cpu.rflags = registers[16:]


def rip(run: api.RunPage) -> int:
    return _word(run, api.SYNC_REGS + 16 * 8)


def code_address(run: api.RunPage) -> int:
    """The linear address of CS:RIP."""
    base, long = unpack_from("<Q11xB", run, api.SYNC_SREGS)
    here = rip(run)
    return here if long else base + here & MASK32


def rsp_and_cr2(run: api.RunPage) -> tuple[int, int]:
    return _word(run, api.SYNC_REGS + 6 * 8), _word(run, api.SYNC_SREGS + api.CONTROLS_AT + 8)


def is_reset(run: api.RunPage) -> bool:
    """Are these the registers of a CPU after INIT (SDM vol. 3, table 9-1), to which AMD-V resets a vCPU
    that shuts down? RIP, CS's base 0xFFFF0000 and CR0.PE tell: no guest of the platform starts so."""
    (base,) = unpack_from("<Q", run, api.SYNC_SREGS)
    (cr0,) = unpack_from("<Q", run, api.SYNC_SREGS + api.CONTROLS_AT)
    return rip(run) == 0xFFF0 and base == 0xFFFF0000 and not cr0 & Cr0.PE


def _word(run: api.RunPage, at: int) -> int:
    return int.from_bytes(run[at : at + 8], "little")


def pack_special(run: api.RunPage, cpu: VirtualCpu, efer: int, apic_base: int) -> None:
    """Write segments, descriptor table registers and control registers into the shared page."""
    at = api.SYNC_SREGS
    for segment in (*(cpu.segments[n] for n in _ORDER), cpu.tr, cpu.ldtr):
        api.SEGMENT.pack_into(run, at, *_hidden(segment))
        at += api.SEGMENT.size
    for table in (cpu.gdtr, cpu.idtr):
        api.TABLE.pack_into(run, at, table.base, table.limit)
        at += api.TABLE.size
    api.CONTROLS.pack_into(
        run, at, cpu.cr0, cpu.cr2, cpu.cr3, cpu.cr4, cpu.cr8, efer, apic_base
    )  # fmt: skip


def unpack_special(run: api.RunPage, cpu: VirtualCpu) -> None:
    """Read them from the shared page."""
    at = api.SYNC_SREGS
    for segment in (*(cpu.segments[n] for n in _ORDER), cpu.tr, cpu.ldtr):
        _show(segment, api.SEGMENT.unpack_from(run, at))
        at += api.SEGMENT.size
    table: TableRegister
    for table in (cpu.gdtr, cpu.idtr):
        table.base, table.limit = api.TABLE.unpack_from(run, at)
        at += api.TABLE.size
    cpu.cr0, cpu.cr2, cpu.cr3, cpu.cr4, cpu.cr8, cpu.efer, cpu.apic_base = api.CONTROLS.unpack_from(
        run, at
    )


def _hidden(segment: Segment) -> tuple[int, ...]:
    """The fields of struct kvm_segment. A segment that is not present, as a null selector leaves it, is
    marked "unusable"."""
    a = segment.attributes
    present = a >> 7 & 1
    return (
        segment.base, segment.limit, segment.selector,
        a & 0xF, present, a >> 5 & 3, a >> 14 & 1, a >> 4 & 1, a >> 13 & 1, a >> 15 & 1, a >> 12 & 1,
        1 - present, 0,
    )  # fmt: skip


def _show(segment: Segment, fields: tuple[int, ...]) -> None:
    base, limit, selector, kind, present, dpl, db, s, long, g, avl, unusable, _ = fields
    segment.base, segment.limit, segment.selector = base, limit, selector
    if unusable:
        present = 0
    segment.attributes = (
        kind | s << 4 | dpl << 5 | present << 7 | avl << 12 | long << 13 | db << 14 | g << 15
    )  # fmt: skip


class Registers:
    """A cache of one vCPU's registers, so that an entry writes only those that have changed.

    ``cpu`` belongs to the VMM, which may change any of its registers between two entries.
    """

    def __init__(self, vcpu: api.Vcpu) -> None:
        self._vcpu = vcpu
        self._run = vcpu.run
        self._run[api.VALID_REGS] = api.DIRTY_GENERAL | api.DIRTY_SPECIAL | api.DIRTY_EVENTS
        self.lstar = 0
        self.decoy: int | None = None  # what the vCPU's own LSTAR holds instead (syscall_fixup.py)
        self.syscall_enable = 0  # EFER.SCE as the guest has it, where there is a decoy
        self.apic_at: int | None = None  # the address in the vCPU's IA32_APIC_BASE (kernel_apic.py)
        self._translations_stale = False
        self.forget()

    def forget(self) -> None:
        """Drop the cache: the next entry writes all registers, and cancels pending events."""
        self.special = b""  # the bytes last unpacked, b"" where ``cpu`` may differ from them
        self._fingerprint: tuple[object, ...] = ()
        self._msrs: tuple[int, ...] = ()
        self._debug: list[int] = []
        self._shadow: bool | None = None

    def forget_translations(self) -> None:
        """Flush the CPU's TLB, or the kernel's shadow page tables, at the next entry."""
        self._translations_stale = True

    def _flush_translations(self) -> None:
        """Make KVM flush by changing CR3 with KVM_SET_SREGS; the entry then writes the right one."""
        sregs = self._vcpu.sregs()
        sregs[_CR3_PAGE] ^= 0x10
        self._vcpu.set_sregs(sregs)
        self.forget_special()
        self._translations_stale = False

    def write_cr8(self, cr8: int) -> None:
        """Write it at once, also where an instruction is not complete."""
        self._write_at_once(_CR8, cr8)

    def write_apic_base(self, value: int) -> None:
        """The same for IA32_APIC_BASE, on which CPUID depends."""
        self._write_at_once(_APIC_BASE, self._apic_base(value))

    def _write_at_once(self, at: int, value: int) -> None:
        sregs = self._vcpu.sregs()
        pack_into("<Q", sregs, at, value)
        self._vcpu.set_sregs(sregs)

    def _apic_base(self, value: int) -> int:
        """IA32_APIC_BASE of the vCPU where the guest's has this value."""
        return value if self.apic_at is None else value & ~ApicBase.ADDRESS | self.apic_at

    def forget_special(self) -> None:
        """The vCPU's segments and control registers are no longer those of the last ``cpu``."""
        self.special = b""
        self._fingerprint = ()

    def forget_debug(self) -> None:
        """The vCPU's debug registers have been overwritten: write the guest's at the next entry."""
        self._debug = []

    def drop_events(self) -> None:
        """Cancel, at the next entry, the events that the kernel has queued for delivery."""
        self._shadow = None

    def write(self, cpu: VirtualCpu) -> None:
        """Write the registers of ``cpu`` that differ from the vCPU's, and mark them dirty."""
        run = self._run
        if self._translations_stale:
            self._flush_translations()
        pack_general(run, cpu)
        dirty = api.DIRTY_GENERAL
        fingerprint = privileged(cpu)
        if fingerprint != self._fingerprint:
            efer = cpu.efer
            if self.decoy is not None:
                self.syscall_enable, efer = efer & Efer.SCE, efer & ~Efer.SCE
            pack_special(run, cpu, efer, self._apic_base(cpu.apic_base))
            self._fingerprint = fingerprint
            self.special = b""
            run[api.CR8] = cpu.cr8
            dirty |= api.DIRTY_SPECIAL
        if cpu.interrupt_shadow is not self._shadow:
            self._write_shadow(cpu.interrupt_shadow)
            dirty |= api.DIRTY_EVENTS
        run[api.DIRTY_REGS] = dirty
        msrs = (cpu.star, cpu.lstar, cpu.cstar, cpu.fmask, cpu.kernel_gs_base)
        if self.decoy is not None:
            self.lstar = cpu.lstar
            msrs = (cpu.star, self.decoy, *msrs[2:])
        if msrs != self._msrs:
            self._vcpu.write_msrs(dict(zip(MSRS, msrs, strict=True)))
            self._msrs = msrs
        if cpu.debug != self._debug:
            self._vcpu.set_debug_registers([*cpu.debug[:4], cpu.debug[6], cpu.debug[7]])
            self._debug = cpu.debug.copy()

    def _write_shadow(self, shadow: bool) -> None:
        """Write the interrupt shadow of STI and MOV SS."""
        run, events = self._run, api.SYNC_EVENTS
        if self._shadow is None:
            run[events : events + api.EVENTS_SIZE] = bytes(api.EVENTS_SIZE)
        run[events + api.EVENT_SHADOW] = shadow
        flags = events + api.EVENT_FLAGS
        run[flags : flags + 4] = pack("<I", api.EVENT_VALID_SHADOW)
        self._shadow = shadow

    def read(self, cpu: VirtualCpu) -> None:
        """Read the registers that every exit stores: all but ``MSRS`` and the debug registers."""
        run = self._run
        unpack_general(run, cpu)
        special = run[SPECIAL]
        if special != self.special:
            apic_base = cpu.apic_base
            unpack_special(run, cpu)
            cpu.efer |= self.syscall_enable
            if self.apic_at is not None:
                cpu.apic_base = apic_base
            self.special = special
            self._fingerprint = privileged(cpu)
        cpu.interrupt_shadow = self._shadow = bool(run[api.SYNC_EVENTS + api.EVENT_SHADOW])

    def read_all(self, cpu: VirtualCpu) -> None:
        """Read all registers: also ``MSRS`` and the debug registers, which the guest changes without an
        exit, and which cost an ioctl each."""
        self.read(cpu)
        self._msrs = self._vcpu.read_msrs(MSRS)
        cpu.star, cpu.lstar, cpu.cstar, cpu.fmask, cpu.kernel_gs_base = self._msrs
        if self.decoy is not None:
            cpu.lstar = self.lstar
        db0, db1, db2, db3, dr6, dr7 = self._vcpu.debug_registers()
        self._debug = [db0, db1, db2, db3, 0, 0, dr6, dr7]
        cpu.debug[:] = self._debug

    def take_in(self, cpu: VirtualCpu) -> None:
        """The guest has written LSTAR or EFER: keep its values, which the vCPU does not hold
        (``decoy``)."""
        self.lstar, self.syscall_enable = cpu.lstar, cpu.efer & Efer.SCE
        self._vcpu.write_msrs({Msr.EFER: cpu.efer & ~Efer.SCE})

    def event_in_flight(self) -> bool:
        """Does the kernel hold an exception or interrupt that the guest has not taken yet?"""
        run, events = self._run, api.SYNC_EVENTS
        return bool(run[events + api.EVENT_EXCEPTION] or run[events + api.EVENT_INTERRUPT])
