"""x87 and SSE state: instructions that store or load it as a whole are completed by the VMM.

CPUs differ in what they keep of the last x87 instruction and in the bits of MXCSR that they have
(cores/x86/isa/cpu_differences.py). So the VMM reads the host CPU's state (``read_fpu``), and stores
what the platform's CPU would have stored.
"""

from __future__ import annotations

from contextlib import suppress

from cores.vmm.emulate.emulator import Emulator, Handlers
from cores.x86.faults import GuestFault, general_protection
from cores.x86.isa.accesses import accesses
from cores.x86.isa.encoding import Truncated, parse
from cores.x86.isa.instruction import Instruction
from cores.x86.isa.operand_checks import address_fault, check_operands
from cores.x86.registers import ARITHMETIC_FLAGS, MASK64, Flag, Vector, canonical
from cores.x86.system import x87_environment as x87
from cores.x86.system.x87_stack import Stack, deliver, effect, stored_indefinite

_SHORT = (14, 94)
"""Sizes of the operand with prefix 66."""


def fxsave(e: Emulator, insn: Instruction) -> str:
    gva, _ = _operand(e, insn, aligned=16)
    stored = x87.fxsave_image(_image(e), wide=parse(insn.code, insn.bits).wide)
    e.mmu.write(gva, stored)
    return "the platform's image"


def fxrstor(e: Emulator, insn: Instruction) -> str:
    gva, length = _operand(e, insn, aligned=16)
    image = x87.fxrstor_image(e.mmu.read(gva, length), wide=parse(insn.code, insn.bits).wide)
    if x87.mxcsr(image) & ~x87.MXCSR_MASK:
        raise general_protection()
    e.fpu.write_fpu(image)
    return "loaded"


def ldmxcsr(e: Emulator, insn: Instruction) -> str:
    gva, length = _operand(e, insn)
    value = int.from_bytes(e.mmu.read(gva, length), "little")
    if value & ~x87.MXCSR_MASK:
        raise general_protection()
    e.fpu.write_fpu(x87.with_mxcsr(e.fpu.read_fpu(), value))
    return f"MXCSR = {value:#x}"


def fnstenv(e: Emulator, insn: Instruction) -> str:
    gva, length = _operand(e, insn)
    image = _image(e)
    e.mmu.write(gva, x87.environment(image, short=length in _SHORT))
    e.fpu.write_fpu(x87.all_masked(image))
    return "the platform's environment"


def fnsave(e: Emulator, insn: Instruction) -> str:
    gva, length = _operand(e, insn)
    image = _image(e)
    e.mmu.write(gva, x87.environment(image, short=length in _SHORT) + x87.registers(image))
    e.fpu.write_fpu(x87.initialized(image))
    return "the platform's environment and registers"


def fldenv(e: Emulator, insn: Instruction) -> str:
    image, stored = _load(e, insn)
    e.fpu.write_fpu(x87.with_environment(image, stored))
    return "loaded"


def frstor(e: Emulator, insn: Instruction) -> str:
    image, stored = _load(e, insn)
    image = x87.with_environment(image, stored[:-80])
    e.fpu.write_fpu(x87.with_registers(image, stored[-80:]))
    return "loaded"


def fldcw(e: Emulator, insn: Instruction) -> str:
    image, stored = _load(e, insn)
    e.fpu.write_fpu(x87.lawful(stored + image[2:]))
    return f"FCW = {int.from_bytes(stored, 'little'):#x}"


def stack_fault(e: Emulator, insn: Instruction) -> str:
    """Complete an x87 instruction that has a stack fault, or copies to an empty register."""
    image, operand = e.fpu.read_fpu(), None
    if x87.pending(image):
        raise GuestFault(Vector.MF)
    encoding = parse(insn.code, insn.bits)
    what, stack = effect(encoding), Stack(image)
    assert what is not None
    if insn.access:
        operand, length = _operand(e, insn)
        e.mmu.translate(operand, write=insn.access == "w")
        e.mmu.translate(operand + length - 1 & MASK64, write=insn.access == "w")
    if what.kind == "copy" and not stack.faults(what):
        stack.set(what.into[0], stack.get(0))
        for _ in range(what.pops):
            stack.pop()
    elif stack.invalid(overflow=what.pushes and stack.used(7)):
        if what.kind == "store" and operand is not None:
            e.mmu.write(operand, stored_indefinite(encoding, length))
        elif what.kind == "flags":
            e.cpu.rflags = e.cpu.rflags & ~ARITHMETIC_FLAGS | Flag.ZF | Flag.PF | Flag.CF
        deliver(stack, what)
    e.fpu.write_fpu(stack.image())
    return "an x87 stack fault"


def _image(e: Emulator) -> bytes:
    """The guest's state as the platform's CPU holds it. Where the engine does not keep the opcode of
    the instruction with a pending exception, it is read again from memory."""
    image = x87.lawful(e.fpu.read_fpu())
    if x87.pending(image) and not x87.opcode_of(image):
        with suppress(GuestFault, Truncated):
            insn = parse(e.mmu.peek(x87.instruction_pointer(image)))
            image = x87.with_opcode(image, (insn.opcode & 7) << 8 | insn.modrm & 0xFF)
    return image


def _load(e: Emulator, insn: Instruction) -> tuple[bytes, bytes]:
    """The present image, and the bytes that the instruction loads. Raises GuestFault #MF where a
    waiting x87 instruction does (SDM vol. 1, 8.7)."""
    image = e.fpu.read_fpu()
    if x87.pending(image):
        raise GuestFault(Vector.MF)
    gva, length = _operand(e, insn)
    return image, e.mmu.read(gva, length)


def _operand(e: Emulator, insn: Instruction, aligned: int = 1) -> tuple[int, int]:
    """Address and length of the memory operand. Raises GuestFault for an invalid address."""
    gva, length, _ = accesses(insn, e.cpu)[0]
    if not canonical(gva) or not canonical(gva + length - 1 & MASK64):
        raise address_fault(insn, e.cpu)
    if gva % aligned:
        raise general_protection()
    check_operands(insn, e.cpu, e.mmu.translate)
    return gva, length


HANDLERS: Handlers = {
    "fxsave": fxsave, "fxrstor": fxrstor, "ldmxcsr": ldmxcsr, "fnstenv": fnstenv, "fnsave": fnsave,
    "fldenv": fldenv, "frstor": frstor,
}  # fmt: skip
