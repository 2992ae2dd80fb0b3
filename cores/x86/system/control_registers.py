"""Control registers, debug registers and MSRs: reading and writing, with the checks of each write.

The caller has checked CPL 0. Each write raises #GP(0) with nothing changed, or returns whether
translations must be flushed. CR0.PG turns long mode on and off where EFER.LME is set (SDM vol. 3,
9.8.5).
Sources: SDM vol. 2 (MOV to control registers, WRMSR), vol. 3, 2.5 and 4.10.4.
"""

from __future__ import annotations

from cores.x86.faults import general_protection, undefined_opcode
from cores.x86.mmu.paging import PhysicalSpace, paging_format, read_entry
from cores.x86.mmu.paging_formats import MAXPHYADDR, PAE, PRESENT
from cores.x86.mode import CODE_64, is_long
from cores.x86.registers import (
    COUNTER_MSRS,
    CS,
    FS,
    GS,
    MASK64,
    ApicBase,
    Cr0,
    Cr4,
    Efer,
    Msr,
    canonical,
)
from cores.x86.system.descriptors import TSS_16_AVAILABLE, TSS_16_BUSY
from cores.x86.virtual_cpu import VirtualCpu

CR0_BITS = int(
    Cr0.PE | Cr0.MP | Cr0.EM | Cr0.TS | Cr0.ET | Cr0.NE
    | Cr0.WP | Cr0.AM | Cr0.NW | Cr0.CD | Cr0.PG
)  # fmt: skip
CR4_BITS = int(
    Cr4.TSD | Cr4.DE | Cr4.PSE | Cr4.PAE | Cr4.PGE
    | Cr4.OSFXSR | Cr4.OSXMMEXCPT | Cr4.SMEP | Cr4.SMAP
)  # fmt: skip
EFER_BITS = Efer.SCE | Efer.LME | Efer.LMA | Efer.NXE

_CR0_FLUSH = Cr0.PG | Cr0.WP  # WP matters to shadow page tables, which merge it into their rights
_CR4_FLUSH = Cr4.PSE | Cr4.PAE | Cr4.PGE | Cr4.SMEP | Cr4.SMAP
_LMSW_BITS = Cr0.PE | Cr0.MP | Cr0.EM | Cr0.TS

TSC_PER_TICK = 1000
"""Virtual time: one tick is 1 us, and the TSC runs at 1 GHz."""


def write_cr0(cpu: VirtualCpu, value: int) -> bool:
    """MOV to CR0. Reserved bits are #GP (contract.md); ET stays 1."""
    if value & ~CR0_BITS:
        raise general_protection()
    if value & Cr0.PG and not value & Cr0.PE:
        raise general_protection()
    if value & Cr0.NW and not value & Cr0.CD:
        raise general_protection()
    changed = cpu.cr0 ^ value
    if changed & Cr0.PG:
        _turn_paging(cpu, on=bool(value & Cr0.PG))
    cpu.cr0 = value | Cr0.ET
    return bool(changed & _CR0_FLUSH)


def _turn_paging(cpu: VirtualCpu, *, on: bool) -> None:
    """Paging on or off, and with it, where EFER.LME is set, long mode (SDM vol. 2, MOV to CR0)."""
    if not on:
        if is_long(cpu):  # only compatibility mode can be left
            raise general_protection()
        cpu.efer &= ~Efer.LMA
    elif cpu.efer & Efer.LME:
        if not cpu.cr4 & Cr4.PAE or cpu.segments[CS].attributes & CODE_64:
            raise general_protection()
        if cpu.tr.present and cpu.tr.attributes & 0xF in (TSS_16_AVAILABLE, TSS_16_BUSY):
            raise general_protection()
        cpu.efer |= Efer.LMA


def lmsw(cpu: VirtualCpu, value: int) -> bool:
    """LMSW: PE MP EM TS of CR0; PE can be set but not cleared."""
    return write_cr0(cpu, cpu.cr0 & ~_LMSW_BITS | value & _LMSW_BITS | cpu.cr0 & Cr0.PE)


def clts(cpu: VirtualCpu) -> None:
    """CLTS."""
    cpu.cr0 &= ~Cr0.TS


def write_cr3(cpu: VirtualCpu, value: int) -> bool:
    """MOV to CR3: bits above MAXPHYADDR are reserved; the low ones below the address are kept."""
    if value >> MAXPHYADDR:
        raise general_protection()
    cpu.cr3 = value
    return True


def write_cr4(cpu: VirtualCpu, value: int) -> bool:
    """MOV to CR4: only the platform's bits, and PAE cannot be cleared in long mode."""
    if value & ~CR4_BITS or (cpu.efer & Efer.LMA and not value & Cr4.PAE):
        raise general_protection()
    changed = cpu.cr4 ^ value
    cpu.cr4 = value
    return bool(changed & _CR4_FLUSH)


def write_cr8(cpu: VirtualCpu, value: int) -> bool:
    """MOV to CR8: the task priority, 0 to 15."""
    if value > 15:
        raise general_protection()
    cpu.cr8 = value
    return False


def check_pointers(memory: PhysicalSpace, cpu: VirtualCpu) -> None:
    """Raises #GP(0) where CR3 leads to page-directory-pointer entries with reserved bits, which a CPU
    reads when it loads CR3 or turns PAE paging on (SDM vol. 3, 4.4.1)."""
    if paging_format(cpu) is not PAE:
        return
    level, at = PAE.levels[0], cpu.cr3 & PAE.root
    for entry in (read_entry(memory, at + 8 * i, 8) for i in range(4)):
        if entry & PRESENT and entry & (level.in_table | PAE.reserved):
            raise general_protection()


def write_control(cpu: VirtualCpu, number: int, value: int) -> bool:
    """MOV to any control register; #UD for those that do not exist."""
    match number:
        case 0:
            return write_cr0(cpu, value)
        case 2:
            cpu.cr2 = value
            return False
        case 3:
            return write_cr3(cpu, value)
        case 4:
            return write_cr4(cpu, value)
        case 8:
            return write_cr8(cpu, value)
        case _:
            raise undefined_opcode()


def read_control(cpu: VirtualCpu, number: int) -> int:
    """MOV from any control register; #UD for those that do not exist."""
    match number:
        case 0:
            return cpu.cr0
        case 2:
            return cpu.cr2
        case 3:
            return cpu.cr3
        case 4:
            return cpu.cr4
        case 8:
            return cpu.cr8
        case _:
            raise undefined_opcode()


_DR6_FIXED, _DR6_WRITABLE = 0xFFFF0FF0, 0xE00F
_DR7_FIXED, _DR7_WRITABLE = 0x400, 0xFFFF23FF


def read_debug(cpu: VirtualCpu, number: int) -> int:
    """MOV from a debug register (SDM vol. 3, 17.2)."""
    return cpu.debug[_debug_number(cpu, number)]


def write_debug(cpu: VirtualCpu, number: int, value: int) -> None:
    """MOV to a debug register. Its value is kept, but no breakpoint ever fires on this platform."""
    number = _debug_number(cpu, number)
    if number >= 6 and value >> 32:
        raise general_protection()
    if number == 6:
        value = value & _DR6_WRITABLE | _DR6_FIXED
    elif number == 7:
        value = value & _DR7_WRITABLE | _DR7_FIXED
    cpu.debug[number] = value


def _debug_number(cpu: VirtualCpu, number: int) -> int:
    """The register's number: DR4 and DR5 are DR6 and DR7, or #UD with CR4.DE. There are only eight."""
    if number > 7 or (number in (4, 5) and cpu.cr4 & Cr4.DE):
        raise undefined_opcode()
    return number + 2 if number in (4, 5) else number


def read_tsc(cpu: VirtualCpu, ticks: int) -> int:
    """The TSC after ``ticks`` of virtual time."""
    return (ticks * TSC_PER_TICK + cpu.tsc_offset) & MASK64


def read_msr(cpu: VirtualCpu, number: int, ticks: int) -> int:
    """RDMSR: #GP(0) for an MSR that the platform does not have."""
    match number:
        case Msr.TSC:
            return read_tsc(cpu, ticks)
        case Msr.APIC_BASE:
            return cpu.apic_base
        case Msr.EFER:
            return cpu.efer
        case Msr.STAR:
            return cpu.star
        case Msr.LSTAR:
            return cpu.lstar
        case Msr.CSTAR:
            return cpu.cstar
        case Msr.FMASK:
            return cpu.fmask
        case Msr.FS_BASE:
            return cpu.segments[FS].base
        case Msr.GS_BASE:
            return cpu.segments[GS].base
        case Msr.KERNEL_GS_BASE:
            return cpu.kernel_gs_base
        case number if number in COUNTER_MSRS:
            return 0
        case _:
            raise general_protection()


_ADDRESSES = frozenset({Msr.LSTAR, Msr.CSTAR, Msr.FS_BASE, Msr.GS_BASE, Msr.KERNEL_GS_BASE})


def write_msr(cpu: VirtualCpu, number: int, value: int, ticks: int) -> bool:
    """WRMSR: #GP(0) for unknown MSRs, addresses that are not canonical, and reserved bits."""
    if number in _ADDRESSES and not canonical(value):
        raise general_protection()
    match number:
        case Msr.TSC:
            cpu.tsc_offset = (value - ticks * TSC_PER_TICK) & MASK64
        case Msr.APIC_BASE:
            if value & ~(ApicBase.EN | ApicBase.BSP) != ApicBase.ADDRESS:
                raise general_protection()  # it cannot be moved, and there is no x2APIC
            cpu.apic_base = value | ApicBase.BSP
        case Msr.EFER:
            return _write_efer(cpu, value)
        case Msr.STAR:
            cpu.star = value
        case Msr.LSTAR:
            cpu.lstar = value
        case Msr.CSTAR:
            cpu.cstar = value
        case Msr.FMASK:
            if value >> 32:
                raise general_protection()
            cpu.fmask = value
        case Msr.FS_BASE:
            cpu.segments[FS].base = value
        case Msr.GS_BASE:
            cpu.segments[GS].base = value
        case Msr.KERNEL_GS_BASE:
            cpu.kernel_gs_base = value
        case number if number in COUNTER_MSRS and not value:
            pass
        case _:
            raise general_protection()
    return False


def _write_efer(cpu: VirtualCpu, value: int) -> bool:
    """WRMSR to EFER: LME cannot change while paging is on; a write to LMA has no effect."""
    if value & ~EFER_BITS or (cpu.cr0 & Cr0.PG and (value ^ cpu.efer) & Efer.LME):
        raise general_protection()
    changed = cpu.efer ^ value
    cpu.efer = value & ~Efer.LMA | cpu.efer & Efer.LMA
    return bool(changed & Efer.NXE)
