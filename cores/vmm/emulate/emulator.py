"""The environment of an emulation handler: the virtual CPU, guest memory, ports and time.

A handler takes the decoded instruction, changes ``VirtualCpu``, guest memory and devices as the
SDM's operation section for that instruction says (vol. 2), and returns in a few words what it
did. It first checks what the CPU would check at the guest's *virtual* privilege: ``cli`` in guest
user mode raises GuestFault, for the guest's kernel to handle.

The same handlers (cores/vmm/emulate/table.py) serve every engine: on the trap cores for every
sensitive instruction, on the interpreter and on KVM for those whose result a host may choose (time,
CPUID, ports).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cores.x86.faults import general_protection, undefined_opcode
from cores.x86.isa.accesses import effective_offset
from cores.x86.isa.instruction import Immediate, Instruction, MemoryOperand, Operand, Register
from cores.x86.mmu.paging import Mmu
from cores.x86.mmu.segmentation import linear
from cores.x86.mmu.stack import Stack
from cores.x86.registers import REGISTER_FILE, SEGMENT_NAMES, SS, Cr0, Flag
from cores.x86.system import descriptors
from cores.x86.virtual_cpu import VirtualCpu


class Ports(Protocol):
    """The port bus, as the emulator needs it."""

    def read(self, port: int, size: int) -> int: ...

    def write(self, port: int, size: int, value: int) -> None: ...

    def read_string(self, port: int, size: int, count: int) -> bytes: ...

    def write_string(self, port: int, size: int, data: bytes) -> None: ...

    def describe(self, port: int, size: int, value: int, is_write: bool) -> str: ...

    def name_of(self, port: int) -> str: ...


class Fpu(Protocol):
    """Access to x87 and SSE state as a 512-byte FXSAVE64 image; engines implement it."""

    def read_fpu(self) -> bytes: ...

    def write_fpu(self, image: bytes) -> None: ...


class Emulator:
    """The state that handlers work on, and the operand accesses that they share.

    flush: called when the guest invalidates a translation (GVA), or all of them (None).
    fpu: the guest's x87 and SSE state.
    ticks: virtual time. halted: set by HLT; the VMM acts on it and clears it.
    next_rip: RIP after the instruction; branches change it. shadows_next: the instruction blocks
    interrupts until the next one is complete. Both are set anew for each instruction.
    """

    def __init__(
        self,
        cpu: VirtualCpu,
        mmu: Mmu,
        ports: Ports,
        ticks: Callable[[], int],
        flush: Callable[[int | None], None],
        fpu: Fpu,
    ) -> None:
        self.cpu = cpu
        self.mmu = mmu
        self.ports = ports
        self.ticks = ticks
        self.flush = flush
        self.fpu = fpu
        self.halted = False
        self.next_rip = 0
        self.shadows_next = False

    # Shared by the handlers

    def read(self, insn: Instruction, operand: Operand, size: int | None = None) -> int:
        """The value of a general-register, segment, immediate or memory operand."""
        match operand:
            case Register(name):
                place = REGISTER_FILE.get(name)
                if place is None:
                    return self.cpu.segments[SEGMENT_NAMES.index(name)].selector
                number, width, shift = place
                return (self.cpu.gpr[number] >> shift) & ((1 << 8 * width) - 1)
            case Immediate(value):
                return value
            case MemoryOperand():
                length = size or operand.size
                gva = self.place(insn, operand, length)
                return int.from_bytes(self.mmu.read(gva, length), "little")

    def write(self, insn: Instruction, operand: Operand, value: int, size: int | None = None) -> None:
        """Store to a general register (32-bit writes clear the upper half) or to memory."""
        match operand:
            case Register(name):
                number, width, shift = REGISTER_FILE[name]
                if width >= 4:
                    self.cpu.gpr[number] = value & ((1 << 8 * width) - 1)
                else:
                    mask = ((1 << 8 * width) - 1) << shift
                    self.cpu.gpr[number] = (self.cpu.gpr[number] & ~mask) | (value << shift & mask)
            case MemoryOperand():
                length = size or operand.size
                gva = self.place(insn, operand, length, write=True)
                self.mmu.write(gva, (value & ((1 << 8 * length) - 1)).to_bytes(length, "little"))
            case Immediate():
                raise TypeError("an immediate is no destination")

    def place(
        self, insn: Instruction, operand: MemoryOperand, size: int, *, write: bool = False
    ) -> int:
        """The linear address of ``size`` bytes at a memory operand, if its segment permits it."""
        offset = effective_offset(operand, self.cpu, insn.length)
        return linear(self.cpu, operand.segment, offset, size, write=write)

    def memory_operand(self, insn: Instruction) -> MemoryOperand:
        """The memory operand of an instruction that has one."""
        return next(o for o in insn.operands if isinstance(o, MemoryOperand))

    def kernel_only(self) -> None:
        if self.cpu.cpl != 0:
            raise general_protection()

    def protected_only(self) -> None:
        """#UD in real mode, where there are no descriptors to ask about."""
        if not self.cpu.cr0 & Cr0.PE:
            raise undefined_opcode()

    def push(self, value: int, size: int) -> None:
        stack = Stack.current(self.mmu)
        stack.push([value], size)
        stack.commit()

    def store_word(self, insn: Instruction, value: int) -> None:
        """SMSW, SLDT, STR, MOV r/m, Sreg: 16 bits to memory, the operand size to a register."""
        operand = insn.operands[0]
        self.write(insn, operand, value, 2 if isinstance(operand, MemoryOperand) else None)

    def set_zero_flag(self, value: bool) -> None:
        self.cpu.rflags = (self.cpu.rflags & ~Flag.ZF) | (Flag.ZF if value else 0)

    def arrived(self) -> str:
        """Take over RIP and CS as a far transfer has set them; gives the new place in words."""
        self.next_rip = self.cpu.rip
        return f"to virtual ring {self.cpu.cpl} at {self.cpu.rip:#x}"

    def far_pointer(self, insn: Instruction, operand: Operand) -> tuple[int, int]:
        """(offset, selector) of a far pointer in memory."""
        size = insn.operand_size
        assert isinstance(operand, MemoryOperand)
        image = self.mmu.read(self.place(insn, operand, size + 2), size + 2)
        return int.from_bytes(image[:size], "little"), int.from_bytes(image[size:], "little")

    def load_segment(self, index: int, selector: int) -> str:
        descriptors.load_segment(self.mmu, self.cpu, index, selector)
        self.shadows_next = index == SS
        return f"virtual {SEGMENT_NAMES[index]} = {selector:#x}"


Handler = Callable[[Emulator, Instruction], str]
Handlers = dict[str, Handler]
"""Mnemonic to the handler, which completes the instruction and returns in words what it did."""
