"""Near branches and stack instructions, which depend on RIP or RSP and cannot run out of line.

On a trap core the CPU itself executes them. Only where the host process can have no mapping at RIP or
at RSP does the VMM emulate them (cores/vmm/faults/out_of_line.py).
"""

from __future__ import annotations

from dataclasses import replace

from cores.vmm.emulate.emulator import Emulator, Handlers
from cores.x86.faults import general_protection
from cores.x86.isa.accesses import accesses, effective_address
from cores.x86.isa.encoding import parse
from cores.x86.isa.instruction import Immediate, Instruction, MemoryOperand, Register
from cores.x86.registers import DS, MASK64, RAX, RBP, RCX, RSP, Flag, canonical


def near_target(e: Emulator, insn: Instruction) -> int:
    """Target of a near JMP or CALL. Raises #GP(0) if it is not canonical, before anything is pushed."""
    operand = insn.operands[-1]
    if isinstance(operand, Immediate):
        target = (e.next_rip + operand.value) & MASK64
    else:
        target = e.read(insn, operand)
    if not canonical(target):
        raise general_protection()
    return target


def jump(e: Emulator, insn: Instruction) -> str:
    e.next_rip = near_target(e, insn)
    return f"jumped to {e.next_rip:#x}"


def call(e: Emulator, insn: Instruction) -> str:
    target = near_target(e, insn)
    e.push(e.next_rip, 8)
    e.next_rip = target
    return f"called {target:#x}"


def ret(e: Emulator, insn: Instruction) -> str:
    rsp = e.cpu.gpr[RSP]
    (target,) = e.mmu.pop(rsp, 1)
    if not canonical(target):
        raise general_protection()
    released = e.read(insn, insn.operands[0]) & 0xFFFF if insn.operands else 0
    e.cpu.gpr[RSP] = (rsp + 8 + released) & MASK64
    e.next_rip = target
    return f"returned to {target:#x}"


def holds(condition: int, flags: int) -> bool:
    """Is one of the sixteen conditions of Jcc true (SDM vol. 1, appendix B)?"""
    less = bool(flags & Flag.SF) != bool(flags & Flag.OF)
    truth = (
        bool(flags & Flag.OF), bool(flags & Flag.CF), bool(flags & Flag.ZF),
        bool(flags & (Flag.CF | Flag.ZF)), bool(flags & Flag.SF), bool(flags & Flag.PF),
        less, less or bool(flags & Flag.ZF),
    )[condition >> 1]  # fmt: skip
    return truth != bool(condition & 1)


def conditional_jump(e: Emulator, insn: Instruction) -> str:
    if not holds(parse(insn.code).opcode & 0xF, e.cpu.rflags):
        return "went on"
    return jump(e, insn)


def loop(e: Emulator, insn: Instruction) -> str:
    """LOOP, LOOPE and LOOPNE, which decrement RCX, and JRCXZ, which only tests it."""
    mask = (1 << 8 * insn.address_size) - 1
    opcode = parse(insn.code).opcode
    count = e.cpu.gpr[RCX] & mask
    if opcode == 0xE3:
        return jump(e, insn) if count == 0 else "went on"
    count = (count - 1) & mask
    taken = count != 0
    if opcode != 0xE2:
        taken &= bool(e.cpu.rflags & Flag.ZF) == (opcode == 0xE1)
    handled = jump(e, insn) if taken else "went on"
    e.cpu.gpr[RCX] = count
    return handled


def push(e: Emulator, insn: Instruction) -> str:
    e.push(e.read(insn, insn.operands[0]), insn.operand_size)
    return "pushed"


def pop(e: Emulator, insn: Instruction) -> str:
    """The destination's address is computed with RSP already raised (SDM vol. 2, POP)."""
    gpr, rsp = e.cpu.gpr, e.cpu.gpr[RSP]
    (value,) = e.mmu.pop(rsp, 1, size=insn.operand_size)
    destination = insn.operands[0]
    if isinstance(destination, MemoryOperand):
        gva = accesses(insn, e.cpu)[1][0]
        e.mmu.write(gva, value.to_bytes(insn.operand_size, "little"))
    gpr[RSP] = (rsp + insn.operand_size) & MASK64
    if isinstance(destination, Register):
        e.write(insn, destination, value)
    return "popped"


def enter(e: Emulator, insn: Instruction) -> str:
    room, level = (operand.value for operand in insn.operands if isinstance(operand, Immediate))
    cpu, size, depth = e.cpu, insn.operand_size, level & 31
    rbp = cpu.gpr[RBP]
    frame = top = e.mmu.push(cpu.gpr[RSP], [rbp], size=size)
    for outer in range(1, depth):  # the outer frame may be what has just been pushed
        top = e.mmu.push(top, e.mmu.pop((rbp - size * outer) & MASK64, 1, size=size), size=size)
    if depth:
        top = e.mmu.push(top, [frame], size=size)
    cpu.gpr[RSP] = (top - (room & 0xFFFF)) & MASK64
    cpu.gpr[RBP] = frame if size == 8 else rbp & ~0xFFFF | frame & 0xFFFF
    return "made a frame"


def leave(e: Emulator, insn: Instruction) -> str:
    gpr, size = e.cpu.gpr, insn.operand_size
    frame = gpr[RBP]
    (value,) = e.mmu.pop(frame, 1, size=size)
    gpr[RSP] = (frame + size) & MASK64
    gpr[RBP] = value if size == 8 else frame & ~0xFFFF | value
    return "left the frame"


def lea(e: Emulator, insn: Instruction) -> str:
    destination, source = insn.operands
    assert isinstance(source, MemoryOperand)
    offset = effective_address(replace(source, segment=DS), e.cpu, insn.length)
    e.write(insn, destination, offset)
    return "computed an address"


def xlat(e: Emulator, insn: Instruction) -> str:
    gva = accesses(insn, e.cpu)[0][0]
    e.cpu.gpr[RAX] = e.cpu.gpr[RAX] & ~0xFF | e.mmu.read(gva, 1)[0]
    return "looked up"


_CONDITIONAL = (
    "jo", "jno", "jb", "jae", "je", "jne", "jbe", "ja",
    "js", "jns", "jp", "jnp", "jl", "jge", "jle", "jg",
)  # fmt: skip

NEAR: Handlers = {
    "jmp": jump, "call": call, "ret": ret,
    "loop": loop, "loope": loop, "loopne": loop, "jrcxz": loop, "jecxz": loop,
    **dict.fromkeys(_CONDITIONAL, conditional_jump),
}  # fmt: skip
"""Near branches."""

HANDLERS: Handlers = {
    **NEAR, "push": push, "pop": pop, "enter": enter, "leave": leave, "xlat": xlat,
}  # fmt: skip
