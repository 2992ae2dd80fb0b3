"""CPUID, MSRs, RDTSC and HLT: the results depend on the platform's CPU and on virtual time."""

from __future__ import annotations

from cores.pc import cpuid as platform_cpuid
from cores.vmm.emulate.emulator import Emulator, Handlers
from cores.x86.faults import general_protection
from cores.x86.isa.instruction import Instruction
from cores.x86.registers import ARITHMETIC_FLAGS, RAX, RBX, RCX, RDX, ApicBase, Cr4
from cores.x86.system import control_registers as control


def rdmsr(e: Emulator, insn: Instruction) -> str:
    e.kernel_only()
    number = e.cpu.gpr[RCX] & 0xFFFFFFFF
    value = control.read_msr(e.cpu, number, e.ticks())
    e.cpu.gpr[RAX], e.cpu.gpr[RDX] = value & 0xFFFFFFFF, value >> 32
    return f"gave the virtual MSR {number:#x}: {value:#x}"


def wrmsr(e: Emulator, insn: Instruction) -> str:
    e.kernel_only()
    cpu = e.cpu
    number = cpu.gpr[RCX] & 0xFFFFFFFF
    value = (cpu.gpr[RDX] & 0xFFFFFFFF) << 32 | cpu.gpr[RAX] & 0xFFFFFFFF
    if control.write_msr(cpu, number, value, e.ticks()):
        e.flush(None)
    return f"virtual MSR {number:#x} = {value:#x}"


def rdtsc(e: Emulator, insn: Instruction) -> str:
    cpu = e.cpu
    if cpu.cr4 & Cr4.TSD and cpu.cpl != 0:
        raise general_protection()
    value = control.read_tsc(cpu, e.ticks())
    cpu.gpr[RAX], cpu.gpr[RDX] = value & 0xFFFFFFFF, value >> 32
    if insn.mnemonic == "rdtscp":
        cpu.gpr[RCX] = 0  # the platform has no IA32_TSC_AUX
    return f"gave virtual time {value}"


def rdpmc(e: Emulator, insn: Instruction) -> str:
    raise general_protection()  # the platform has no performance counter


def cpuid(e: Emulator, insn: Instruction) -> str:
    gpr = e.cpu.gpr
    leaf = gpr[RAX] & 0xFFFFFFFF
    gpr[RAX], gpr[RBX], gpr[RCX], gpr[RDX] = platform_cpuid.cpuid(leaf, gpr[RCX] & 0xFFFFFFFF)
    if leaf == 1 and not e.cpu.apic_base & ApicBase.EN:
        gpr[RDX] &= ~(1 << platform_cpuid.APIC)
    return f"leaf {leaf:#x} of the platform's CPU"


def hlt(e: Emulator, insn: Instruction) -> str:
    e.kernel_only()
    e.halted = True
    return "the virtual CPU sleeps"


def bit_scan(e: Emulator, insn: Instruction) -> str:
    """BSF or BSR in the encoding of TZCNT or LZCNT, which the platform's CPU lacks (SDM vol. 2:
    there the REP prefix is ignored)."""
    destination, source = insn.operands
    value = e.read(insn, source)
    e.cpu.rflags &= ~ARITHMETIC_FLAGS
    e.set_zero_flag(value == 0)
    if value:
        lowest = (value & -value).bit_length() - 1
        e.write(insn, destination, lowest if insn.mnemonic == "bsf" else value.bit_length() - 1)
    return "without the newer encoding's meaning"


HANDLERS: Handlers = {
    "rdmsr": rdmsr,
    "wrmsr": wrmsr,
    "rdtsc": rdtsc,
    "rdpmc": rdpmc,
    "cpuid": cpuid,
    "hlt": hlt,
    "rdtscp": rdtsc,
    "bsf": bit_scan,
    "bsr": bit_scan,
}
