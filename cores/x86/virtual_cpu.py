"""The guest's register file: the virtual values that the guest sees.

On the interpreter and on KVM this is a copy, read from the engine when the VMM needs it. On the trap
core the *privileged* part exists only here: CR0, the tables, the MSRs, the segment registers and IF,
while the general registers and the status flags live in the CPU and are copied at each stop. That
difference is what Ringscope is about.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cores.x86.registers import SS, ApicBase

DPL = 3 << 5
"""The privilege level in a segment's attributes. SS's is the CPL: hot paths compare it by itself."""


@dataclass(slots=True)
class Segment:
    """A segment register with its hidden part (SDM vol. 3, 3.4.3).

    attributes: access byte in bits 0-7 (type, S, DPL, P), AVL L D/B G in bits 12-15, as they stand
    in bits 8-23 of the descriptor's upper half.
    limit: in bytes, granularity already applied.
    """

    selector: int = 0
    base: int = 0
    limit: int = 0xFFFF
    attributes: int = 0

    @property
    def dpl(self) -> int:
        return (self.attributes >> 5) & 3

    @property
    def present(self) -> bool:
        return bool(self.attributes & 0x80)

    def copy(self) -> Segment:
        return Segment(self.selector, self.base, self.limit, self.attributes)


@dataclass(slots=True)
class TableRegister:
    """GDTR or IDTR: linear base and limit in bytes."""

    base: int = 0
    limit: int = 0


@dataclass(slots=True)
class VirtualCpu:
    """All architectural state of the guest's CPU but x87/SSE (see ``Engine.read_fpu``).

    gpr: the 16 general registers in encoding order (rax rcx rdx rbx rsp rbp rsi rdi r8-r15).
    segments: es cs ss ds fs gs, in encoding order; fs.base and gs.base are FS_BASE and GS_BASE.
    interrupt_shadow: the next instruction runs before any interrupt (after sti, mov ss, pop ss).
    nmi_blocked: an NMI was delivered, and no IRET was executed since (SDM vol. 3, 6.7.1).
    tsc_offset: what the guest's writes to the TSC have added to virtual time, modulo 2**64.
    """

    gpr: list[int] = field(default_factory=lambda: [0] * 16)
    rip: int = 0
    rflags: int = 2
    segments: list[Segment] = field(default_factory=lambda: [Segment() for _ in range(6)])
    ldtr: Segment = field(default_factory=Segment)
    tr: Segment = field(default_factory=Segment)
    gdtr: TableRegister = field(default_factory=TableRegister)
    idtr: TableRegister = field(default_factory=TableRegister)
    cr0: int = 0
    cr2: int = 0
    cr3: int = 0
    cr4: int = 0
    cr8: int = 0
    efer: int = 0
    star: int = 0
    lstar: int = 0
    cstar: int = 0
    fmask: int = 0
    kernel_gs_base: int = 0
    apic_base: int = ApicBase.INITIAL
    debug: list[int] = field(default_factory=lambda: [0, 0, 0, 0, 0, 0, 0xFFFF0FF0, 0x400])
    interrupt_shadow: bool = False
    nmi_blocked: bool = False
    tsc_offset: int = 0

    @property
    def cpl(self) -> int:
        """The guest's current privilege level (virtual: on a trap core the host's CPL is 3).

        It is SS.DPL, as in VMX (SDM vol. 3, 24.4.1). CS.RPL is the same in protected mode, but any
        number in real mode, and until the first far jump after it."""
        return self.segments[SS].attributes >> 5 & 3

    def is_lawful(self) -> bool:
        """Whether every register's value fits its width; a state from a file may hold any."""
        segments, tables = (*self.segments, self.ldtr, self.tr), (self.gdtr, self.idtr)
        long = (
            *self.gpr, self.rip, self.rflags, *(s.base for s in segments), *(t.base for t in tables),
            self.cr0, self.cr2, self.cr3, self.cr4, self.cr8, self.efer, self.star, self.lstar,
            self.cstar, self.fmask, self.kernel_gs_base, self.apic_base, *self.debug,
            self.tsc_offset,
        )  # fmt: skip
        short = (*(s.selector for s in segments), *(s.attributes for s in segments))
        limits = (*(s.limit for s in segments), *(t.limit for t in tables))
        return (
            (len(self.gpr), len(self.segments), len(self.debug)) == (16, 6, 8)
            and all(0 <= value < 1 << 64 for value in long)
            and all(0 <= value < 1 << 16 for value in short)
            and all(0 <= value < 1 << 32 for value in limits)
        )

    def state(self) -> tuple[int, ...]:
        """The registers compared between cores, in the order of ``registers.STATE_NAMES``."""
        es, cs, ss, ds, fs, gs = self.segments
        return (
            *self.gpr, self.rip, self.rflags,
            cs.selector, ss.selector, ds.selector, es.selector, fs.selector, gs.selector,
            self.cr0, self.cr2, self.cr3, self.cr4, self.cr8, self.efer,
            fs.base, gs.base,
        )  # fmt: skip

    def assign(self, other: VirtualCpu) -> None:
        """Become a copy of ``other``; engines and the VMM hold references to this object."""
        fresh = other.copy()
        for name in self.__slots__:
            setattr(self, name, getattr(fresh, name))

    def copy(self) -> VirtualCpu:
        """An independent copy, for checkpoints."""
        return VirtualCpu(
            gpr=list(self.gpr), rip=self.rip, rflags=self.rflags,
            segments=[s.copy() for s in self.segments],
            ldtr=self.ldtr.copy(), tr=self.tr.copy(),
            gdtr=TableRegister(self.gdtr.base, self.gdtr.limit),
            idtr=TableRegister(self.idtr.base, self.idtr.limit),
            cr0=self.cr0, cr2=self.cr2, cr3=self.cr3, cr4=self.cr4, cr8=self.cr8, efer=self.efer,
            star=self.star, lstar=self.lstar, cstar=self.cstar, fmask=self.fmask,
            kernel_gs_base=self.kernel_gs_base, apic_base=self.apic_base, debug=list(self.debug),
            interrupt_shadow=self.interrupt_shadow, nmi_blocked=self.nmi_blocked,
            tsc_offset=self.tsc_offset,
        )  # fmt: skip
