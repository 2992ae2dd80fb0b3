"""Control and debug registers, INVLPG and the cache instructions (SDM vol. 3, 2.5)."""

from __future__ import annotations

from cores.vmm.emulate.emulator import Emulator, Handlers
from cores.vmm.emulate.segments import mov_segment
from cores.x86.faults import GuestFault, undefined_opcode
from cores.x86.isa.accesses import effective_offset
from cores.x86.isa.instruction import Instruction, Operand, Register
from cores.x86.mmu.segmentation import unchecked
from cores.x86.registers import SEGMENT_NAMES, Efer
from cores.x86.system import control_registers as control


def mov(e: Emulator, insn: Instruction) -> str:
    destination, source = insn.operands
    for operand in (destination, source):
        if isinstance(operand, Register):
            if operand.name in SEGMENT_NAMES:
                return mov_segment(e, insn, destination, source)
            if operand.name.startswith("cr"):
                return mov_control(e, insn, destination, source)
            if operand.name.startswith("dr"):
                return mov_debug(e, insn, destination, source)
    raise undefined_opcode()


def mov_control(e: Emulator, insn: Instruction, destination: Operand, source: Operand) -> str:
    assert isinstance(destination, Register)
    assert isinstance(source, Register)
    e.kernel_only()
    if source.name.startswith("cr"):
        value = control.read_control(e.cpu, int(source.name[2:]))
        e.write(insn, destination, value)
        return f"gave the virtual {source.name} {value:#x}"
    cpu, value = e.cpu, e.read(insn, source)
    before = cpu.cr0, cpu.cr3, cpu.cr4, cpu.efer
    flush = control.write_control(cpu, int(destination.name[2:]), value)
    if not before[3] & Efer.LMA:
        try:
            control.check_pointers(e.mmu.memory, cpu)
        except GuestFault:
            cpu.cr0, cpu.cr3, cpu.cr4, cpu.efer = before
            raise
    if flush:
        e.flush(None)
    return f"virtual {destination.name} = {value:#x}"


def mov_debug(e: Emulator, insn: Instruction, destination: Operand, source: Operand) -> str:
    assert isinstance(destination, Register)
    assert isinstance(source, Register)
    e.kernel_only()
    if source.name.startswith("dr"):
        e.write(insn, destination, control.read_debug(e.cpu, int(source.name[2:])))
        return f"gave the virtual {source.name}"
    value = e.read(insn, source)
    control.write_debug(e.cpu, int(destination.name[2:]), value)
    return f"virtual {destination.name} = {value:#x}"


def clts(e: Emulator, insn: Instruction) -> str:
    e.kernel_only()
    control.clts(e.cpu)
    return "virtual CR0.TS = 0"


def lmsw(e: Emulator, insn: Instruction) -> str:
    e.kernel_only()
    control.lmsw(e.cpu, e.read(insn, insn.operands[0], 2) & 0xFFFF)
    return f"virtual CR0 = {e.cpu.cr0:#x}"


def smsw(e: Emulator, insn: Instruction) -> str:
    e.store_word(insn, e.cpu.cr0)
    return f"gave the virtual CR0 {e.cpu.cr0:#x}"


def invlpg(e: Emulator, insn: Instruction) -> str:
    e.kernel_only()
    operand = e.memory_operand(insn)
    gva = unchecked(e.cpu, operand.segment, effective_offset(operand, e.cpu, insn.length))
    e.flush(gva)
    return f"forgot the translation of {gva:#x}"


def invalidate_caches(e: Emulator, insn: Instruction) -> str:
    e.kernel_only()
    return "nothing: the host's caches are coherent"


HANDLERS: Handlers = {
    "mov": mov,
    "clts": clts,
    "lmsw": lmsw,
    "smsw": smsw,
    "invlpg": invlpg,
    "wbinvd": invalidate_caches,
    "invd": invalidate_caches,
}
