"""Near branches and stack instructions, which depend on RIP or RSP and cannot run out of line.

On a trap core the CPU itself executes them. Only where the host process can have no mapping at RIP or
at RSP does the VMM emulate them (cores/vmm/faults/out_of_line.py).
"""

from __future__ import annotations

from cores.vmm.emulate.emulator import Emulator, Handlers
from cores.x86.faults import general_protection
from cores.x86.isa.accesses import effective_offset
from cores.x86.isa.branches import holds
from cores.x86.isa.encoding import parse
from cores.x86.isa.instruction import Immediate, Instruction, MemoryOperand, Register
from cores.x86.mmu.segmentation import linear
from cores.x86.mmu.stack import Stack
from cores.x86.mode import is_long
from cores.x86.registers import CS, RAX, RBP, RCX, RSP, Flag, canonical
from cores.x86.virtual_cpu import VirtualCpu


def near_target(e: Emulator, insn: Instruction) -> int:
    """Target of a near JMP or CALL, truncated to the operand size. Raises #GP(0) if it is not canonical
    or beyond CS's limit, before anything is pushed."""
    operand = insn.operands[-1]
    if isinstance(operand, Immediate):
        target = (e.next_rip + operand.value) & ((1 << 8 * insn.operand_size) - 1)
    else:
        target = e.read(insn, operand)
    check_target(e.cpu, target)
    return target


def check_target(cpu: VirtualCpu, target: int) -> None:
    """#GP(0) where a near branch may not lead."""
    if is_long(cpu):
        if not canonical(target):
            raise general_protection()
    elif target > cpu.segments[CS].limit:
        raise general_protection()


def jump(e: Emulator, insn: Instruction) -> str:
    e.next_rip = near_target(e, insn)
    return f"jumped to {e.next_rip:#x}"


def call(e: Emulator, insn: Instruction) -> str:
    target = near_target(e, insn)
    e.push(e.next_rip, insn.operand_size)
    e.next_rip = target
    return f"called {target:#x}"


def ret(e: Emulator, insn: Instruction) -> str:
    stack = Stack.current(e.mmu)
    (target,) = stack.pop(1, insn.operand_size)
    check_target(e.cpu, target)
    stack.release(e.read(insn, insn.operands[0]) & 0xFFFF if insn.operands else 0)
    stack.commit()
    e.next_rip = target
    return f"returned to {target:#x}"


def conditional_jump(e: Emulator, insn: Instruction) -> str:
    if not holds(parse(insn.code, insn.bits).opcode & 0xF, e.cpu.rflags):
        return "went on"
    return jump(e, insn)


def loop(e: Emulator, insn: Instruction) -> str:
    """LOOP, LOOPE and LOOPNE, which decrement RCX, and JRCXZ, which only tests it."""
    mask = (1 << 8 * insn.address_size) - 1
    opcode = parse(insn.code, insn.bits).opcode
    count = e.cpu.gpr[RCX] & mask
    if opcode == 0xE3:
        return jump(e, insn) if count == 0 else "went on"
    count = (count - 1) & mask
    taken = count != 0
    if opcode != 0xE2:
        taken &= bool(e.cpu.rflags & Flag.ZF) == (opcode == 0xE1)
    handled = jump(e, insn) if taken else "went on"
    e.cpu.gpr[RCX] = count if insn.address_size >= 4 else e.cpu.gpr[RCX] & ~mask | count
    return handled


def push(e: Emulator, insn: Instruction) -> str:
    e.push(e.read(insn, insn.operands[0]), insn.operand_size)
    return "pushed"


def pop(e: Emulator, insn: Instruction) -> str:
    """The destination's address is computed with RSP already raised (SDM vol. 2, POP)."""
    size = insn.operand_size
    stack = Stack.current(e.mmu)
    (value,) = stack.pop(1, size)
    destination = insn.operands[0]
    if isinstance(destination, MemoryOperand):
        raised = size if destination.base == RSP else 0
        offset = effective_offset(destination, e.cpu, insn.length, raised)
        gva = linear(e.cpu, destination.segment, offset, size, write=True)
        e.mmu.write(gva, value.to_bytes(size, "little"))
    stack.commit()
    if isinstance(destination, Register):
        e.write(insn, destination, value)
    return "popped"


def enter(e: Emulator, insn: Instruction) -> str:
    room, level = (operand.value for operand in insn.operands if isinstance(operand, Immediate))
    cpu, size, depth = e.cpu, insn.operand_size, level & 31
    rbp, stack = cpu.gpr[RBP], Stack.current(e.mmu)
    outer = Stack(e.mmu, rbp, stack.segment, stack.bits)
    stack.push([rbp], size)
    frame = stack.pointer
    for level in range(1, depth):  # the outer frame may be what has just been pushed
        stack.push(outer.peek(1, size, -size * level), size)
    if depth:
        stack.push([frame], size)
    stack.release(-(room & 0xFFFF))
    stack.commit()
    cpu.gpr[RBP] = _pointer(rbp, frame, size)
    return "made a frame"


def _pointer(before: int, value: int, size: int) -> int:
    """RBP after a load of ``size`` bytes."""
    return before & ~0xFFFF | value & 0xFFFF if size == 2 else value


def leave(e: Emulator, insn: Instruction) -> str:
    gpr, size, stack = e.cpu.gpr, insn.operand_size, Stack.current(e.mmu)
    stack.move_to(gpr[RBP])
    (value,) = stack.pop(1, size)
    stack.commit()
    gpr[RBP] = _pointer(gpr[RBP], value, size)
    return "left the frame"


def pusha(e: Emulator, insn: Instruction) -> str:
    stack = Stack.current(e.mmu)
    stack.push(e.cpu.gpr[:8], insn.operand_size)
    stack.commit()
    return "pushed eight registers"


def popa(e: Emulator, insn: Instruction) -> str:
    """The stack pointer in the frame is skipped (SDM vol. 2, POPA)."""
    gpr, size, stack = e.cpu.gpr, insn.operand_size, Stack.current(e.mmu)
    for number, value in zip(range(7, -1, -1), stack.pop(8, size), strict=True):
        if number != RSP:
            gpr[number] = _pointer(gpr[number], value, size)
    stack.commit()
    return "popped eight registers"


def lea(e: Emulator, insn: Instruction) -> str:
    destination, source = insn.operands
    assert isinstance(source, MemoryOperand)
    offset = effective_offset(source, e.cpu, insn.length)
    e.write(insn, destination, offset)
    return "computed an address"


def xlat(e: Emulator, insn: Instruction) -> str:
    operand = e.memory_operand(insn)
    offset = effective_offset(operand, e.cpu, insn.length, e.cpu.gpr[RAX] & 0xFF)
    gva = linear(e.cpu, operand.segment, offset)
    e.cpu.gpr[RAX] = e.cpu.gpr[RAX] & ~0xFF | e.mmu.read(gva, 1)[0]
    return "looked up"


_CONDITIONAL = (
    "jo", "jno", "jb", "jae", "je", "jne", "jbe", "ja",
    "js", "jns", "jp", "jnp", "jl", "jge", "jle", "jg",
)  # fmt: skip

NEAR: Handlers = {
    "jmp": jump, "call": call, "ret": ret,
    "loop": loop, "loope": loop, "loopne": loop, "jrcxz": loop, "jecxz": loop, "jcxz": loop,
    **dict.fromkeys(_CONDITIONAL, conditional_jump),
}  # fmt: skip
"""Near branches."""

HANDLERS: Handlers = {
    **NEAR, "push": push, "pop": pop, "enter": enter, "leave": leave, "pusha": pusha, "popa": popa,
    "xlat": xlat,
}  # fmt: skip
