"""Translation for a displaced address space: the same instruction where each address is displaced.

A process cannot have a kernel's addresses in the upper half. It can have the same memory elsewhere:
each guest address A at A + D, modulo 2**64. With D in the base of GS, a GS prefix makes the CPU add D
to the address of any explicit operand, and what falls outside the process faults. So most instructions
are translated by one byte more; registers keep the guest's own addresses, and flags are untouched.

    explicit operand        a GS prefix; the guest's own GS prefix becomes FS, whose base is displaced
    RIP-relative operand    an absolute one
    push, pop, call, ret    a MOV through GS:[RSP] and LEA, which changes no flag
    strings                 RSI and RDI are displaced before, and put back after
    indirect branches       the target to RCX, and on to the dispatcher (``Emitter.dispatcher``)

Each access that may fault comes before the instruction has changed any register of the guest's but
those that ``Undo`` names, so that the guest can be stopped there as if the instruction had not begun.
"""

from __future__ import annotations

from typing import NamedTuple

from cores.x86.isa.branches import direct_target
from cores.x86.isa.encoding import ONE_BYTE, Encoding, parse
from cores.x86.isa.instruction import Immediate, Instruction, MemoryOperand, Register
from cores.x86.registers import (
    FS,
    GS,
    MASK32,
    MASK64,
    RAX,
    RCX,
    RDI,
    RDX,
    RSI,
    RSP,
    canonical,
    register_number,
)

R8 = 8
SAVED_RAX, SAVED_RCX, SAVED_RDX, SAVED_OTHER, TARGET, ONWARD, COUNT, SITE = range(0, 64, 8)
"""Offsets of words in the data page behind the code: registers saved, an indirect branch's target in
the guest and in the translation, the number of instructions, and how far before the data the
translation of the last indirect branch begins."""
TABLE, TABLE_SIZE = 4096, 1 << 20
"""Offset and size of the table of the dispatcher: an entry of 16 bytes for each 16 lower bits of a
target holds its negative and the address of its translation."""
_GS, _FS = 0x65, 0x64
_ESCAPES = (0, 1, 2, 2)  # escape bytes by opcode map


class Undo(NamedTuple):
    """What makes the guest's registers of those in the middle of a translated instruction.

    saved: (register, offset of the word that holds its value). displaced: registers that hold an
    address with the displacement added. branch: the guest has completed a branch whose target is in
    RCX (-1) or in the word at this offset; 0: RIP is at the instruction."""

    saved: tuple[tuple[int, int], ...] = ()
    displaced: tuple[int, ...] = ()
    branch: int = 0


NOTHING = Undo()
IN_RCX = -1


class Emitter:
    """Writes translated code for the address ``at``; words at ``data``, not farther than 2 GiB.

    stops: the addresses at which the guest may be stopped within an instruction. jumps: (address of a
    32-bit distance, the guest's address to which it is to lead). missed: the dispatcher's HLT."""

    def __init__(self, at: int, data: int, displacement: int) -> None:
        self.at, self.data, self.displacement = at, data, displacement
        self.code = bytearray()
        self.stops: dict[int, Undo] = {}
        self.jumps: list[tuple[int, int]] = []
        self.missed = 0

    @property
    def here(self) -> int:
        return self.at + len(self.code)

    def put(self, code: str | bytes) -> None:
        self.code += bytes.fromhex(code) if isinstance(code, str) else code

    def stop(self, undo: Undo) -> None:
        self.stops[self.here] = undo

    def word(self, opcode: str, register: int, offset: int) -> None:
        """``opcode`` with a 64-bit register and the word at ``offset``."""
        self.put(bytes([0x48 | register >> 3 << 2]) + bytes.fromhex(opcode))
        self.put(bytes([(register & 7) << 3 | 5]))
        self.put((self.data + offset - self.here - 4).to_bytes(4, "little", signed=True))

    def save(self, register: int, offset: int) -> None:
        self.word("89", register, offset)

    def load(self, register: int, offset: int) -> None:
        self.word("8b", register, offset)

    def constant(self, register: int, value: int) -> None:
        self.put(
            bytes([0x48 | register >> 3, 0xB8 | register & 7]) + (value & MASK64).to_bytes(8, "little")
        )

    def jump(self, opcode: str, target: int) -> None:
        """A branch to the guest's code at ``target``."""
        self.put(opcode)
        self.jumps.append((self.here, target))
        self.put("00000000")

    def count(self, number: int) -> None:
        """Add to the number of instructions, without a change of flags."""
        self.save(RAX, SAVED_RAX)
        self.load(RAX, COUNT)
        self.put(b"\x48\x8d\x80" + number.to_bytes(4, "little"))  # lea rax, [rax + number]
        self.save(RAX, COUNT)
        self.load(RAX, SAVED_RAX)

    def dispatcher(self) -> None:
        """The code that leads an indirect branch to its translation. At its begin RCX is the target,
        and the guest's RCX is saved. It ends in a HLT where the target has none."""
        early = Undo(((RCX, SAVED_RCX),), (), IN_RCX)
        late = Undo(((RAX, SAVED_RAX), (RCX, SAVED_RCX), (RDX, SAVED_RDX)), (), TARGET)
        steps: list[str | tuple[str, int, int]] = [
            ("89", RCX, TARGET),
            ("89", RAX, SAVED_RAX),
            ("89", RDX, SAVED_RDX),
            "0fb7d1",  # movzx edx, cx
            ("8d", RAX, TABLE),
            "488d1412",  # lea rdx, [rdx + rdx]
            "488d04d0",  # lea rax, [rax + rdx * 8]
            "488b10",  # mov rdx, [rax]
            "488d0c11",  # lea rcx, [rcx + rdx]
            "e316",  # jrcxz over the next four, 22 bytes
            ("8b", RCX, SAVED_RCX),
            ("8b", RDX, SAVED_RDX),
            ("8b", RAX, SAVED_RAX),
            "f4",  # hlt
            "488b4008",  # mov rax, [rax + 8]
            ("89", RAX, ONWARD),
            ("8b", RCX, SAVED_RCX),
            ("8b", RDX, SAVED_RDX),
            ("8b", RAX, SAVED_RAX),
        ]
        for number, step in enumerate(steps):
            self.stop(early if number < 3 else late)
            if step == "f4":
                self.missed = self.here
            if isinstance(step, str):
                self.put(step)
            else:
                self.word(*step)
        self.stop(late)
        self.put("ff25")  # jmp [onward]
        self.put((self.data + ONWARD - self.here - 4).to_bytes(4, "little", signed=True))

    def translate(self, insn: Instruction, rip: int, dispatcher: int) -> bool:
        """Append an ordinary instruction of the guest's at ``rip``. dispatcher: its address. False: it
        has to be completed by the VMM; then nothing was appended."""
        e = parse(insn.code, insn.bits)
        following = rip + insn.length & MASK64
        if insn.ends_block:
            return self._branch(insn, e, following, dispatcher)
        if insn.mnemonic == "lea":
            return self._lea(insn, following)
        match insn.implicit:
            case "":
                if not insn.access:
                    self.put(insn.code)
                    return True
                return self._with_operand(insn, e, following)
            case "bits" | "xlat" | "maskmov":
                return self._with_operand(insn, e, following)
            case "push":
                return self._push(insn, e, following)
            case "pop":
                return self._pop(insn)
            case "leave" if insn.operand_size == 8:
                self.save(RAX, SAVED_RAX)
                self.stop(Undo(((RAX, SAVED_RAX),)))
                self.put("65488b4500")  # mov rax, gs:[rbp]
                self.put("488d65084889c5")  # lea rsp, [rbp + 8]; mov rbp, rax
                self.load(RAX, SAVED_RAX)
                return True
            case "string":
                return self._string(insn)
            case _:
                return False

    # Operands

    def _prefix(self, operand: MemoryOperand) -> int:
        """The segment prefix with which the CPU finds an operand; 0: it cannot."""
        if operand.address_size != 8 or operand.segment == FS:
            return 0
        return _FS if operand.segment == GS else _GS

    def _with_operand(self, insn: Instruction, e: Encoding, following: int) -> bool:
        operand = next(o for o in insn.operands if isinstance(o, MemoryOperand))
        prefix = self._prefix(operand)
        if not prefix:
            return False
        start = bytes([0xF0] * e.lock + [e.rep] * bool(e.rep) + [0x66] * e.operand_prefix + [prefix])
        first = e.opcode_at - _ESCAPES[e.map]
        if not operand.relative:
            code = start + bytes([e.rex] * bool(e.rex)) + insn.code[first:]
            if len(code) > 15:
                return False
            self.put(code)
            return True
        target = following + operand.displacement & MASK64
        opcode = insn.code[first : e.opcode_at + 1]
        immediates = insn.code[e.opcode_at + 6 :]
        rex = bytes([e.rex & ~3] * bool(e.rex))
        if _fits(target):
            modrm = bytes([e.modrm & 0x38 | 4, 0x25]) + (target & MASK32).to_bytes(4, "little")
            self.put(start + rex + opcode + modrm + immediates)
            return True
        free = RDI if e.modrm >> 3 & 7 != RDI else RSI  # no such instruction has it as another operand
        self.save(free, SAVED_OTHER)
        self.constant(free, target)
        self.stop(Undo(((free, SAVED_OTHER),)))
        self.put(start + rex + opcode + bytes([e.modrm & 0x38 | free]) + immediates)
        self.load(free, SAVED_OTHER)
        return True

    def _load(self, register: int, insn: Instruction, e: Encoding, following: int, undo: Undo) -> bool:
        """MOV of an instruction's ModRM operand of 64 bits, register or memory, to RAX or RCX."""
        source = insn.operands[0]
        if isinstance(source, Register):
            number = register_number(source.name)
            self.put(bytes([0x48 | number >> 3, 0x8B, 0xC0 | register << 3 | number & 7]))
            return source.size == 8
        if not isinstance(source, MemoryOperand) or source.size != 8:
            return False
        prefix = self._prefix(source)
        if not prefix:
            return False
        target = following + source.displacement & MASK64
        if source.relative and not _fits(target):
            self.constant(register, target)  # saved before, and the operand uses no register
            self.stop(undo)
            self.put(bytes([prefix, 0x48, 0x8B, register << 3 | register]))
            return True
        self.stop(undo)
        if source.relative:
            self.put(bytes([prefix, 0x48, 0x8B, register << 3 | 4, 0x25]))
            self.put((target & MASK32).to_bytes(4, "little"))
            return True
        modrm = e.modrm & 0xC7 | register << 3
        self.put(bytes([prefix, 0x48 | e.rex & 3, 0x8B, modrm]) + insn.code[e.opcode_at + 2 :])
        return True

    def _lea(self, insn: Instruction, following: int) -> bool:
        destination, source = insn.operands
        if not isinstance(source, MemoryOperand) or not source.relative:
            self.put(insn.code)
            return True
        if not isinstance(destination, Register) or source.address_size != 8 or destination.size < 4:
            return False
        value = following + source.displacement & MASK64
        value = value if destination.size == 8 else value & MASK32
        self.constant(register_number(destination.name), value)
        return True

    def _string(self, insn: Instruction) -> bool:
        operands = [o for o in insn.operands if isinstance(o, MemoryOperand)]
        if any(o.segment in (FS, GS) or o.address_size != 8 for o in operands):
            return False
        moved = tuple(sorted({o.base for o in operands if o.base is not None}))
        self.save(R8, SAVED_OTHER)
        self._displace(moved, self.displacement)
        self.stop(Undo(((R8, SAVED_OTHER),), moved))
        self.put(insn.code)
        self._displace(moved, -self.displacement)
        self.load(R8, SAVED_OTHER)
        return True

    def _displace(self, registers: tuple[int, ...], by: int) -> None:
        self.constant(R8, by)
        for register in registers:  # lea register, [register + r8]
            self.put(bytes([0x4A, 0x8D, register << 3 | 4, R8 - 8 << 3 | register]))

    # The stack

    def _lower(self, by: int = -8) -> None:
        """LEA RSP, [RSP + by]."""
        if -0x80 <= by < 0x80:
            self.put(b"\x48\x8d\x64\x24" + by.to_bytes(1, "little", signed=True))
        else:
            self.put(b"\x48\x8d\xa4\x24" + by.to_bytes(4, "little", signed=True))

    def _push_constant(self, value: int, undo: Undo) -> None:
        """PUSH of a 64-bit number. undo: of what was emitted for this instruction already."""
        if _fits(value):
            self.stop(undo)
            self.put(b"\x65\x48\xc7\x44\x24\xf8" + (value & MASK32).to_bytes(4, "little"))
        else:
            self.save(RAX, SAVED_RAX)
            self.constant(RAX, value)
            self.stop(Undo((*undo.saved, (RAX, SAVED_RAX))))
            self.put("6548894424f8")  # mov gs:[rsp - 8], rax
            self.load(RAX, SAVED_RAX)
        self._lower()

    def _push(self, insn: Instruction, e: Encoding, following: int) -> bool:
        (source,) = insn.operands
        if insn.operand_size != 8:
            return False
        if isinstance(source, Immediate):
            self._push_constant(source.value, NOTHING)
        elif isinstance(source, Register):
            number = register_number(source.name)
            self.put(bytes([_GS, 0x48 | number >> 3 << 2, 0x89, 0x44 | (number & 7) << 3, 0x24, 0xF8]))
            self._lower()
        else:
            undo = Undo(((RAX, SAVED_RAX),))
            if not self._prefix(source):
                return False
            self.save(RAX, SAVED_RAX)
            self._load(RAX, insn, e, following, undo)
            self.stop(undo)
            self.put("6548894424f8")
            self.load(RAX, SAVED_RAX)
            self._lower()
        return True

    def _pop(self, insn: Instruction) -> bool:
        (destination,) = insn.operands
        if insn.operand_size != 8 or not isinstance(destination, Register):
            return False
        number = register_number(destination.name)
        self.put(bytes([_GS, 0x48 | number >> 3 << 2, 0x8B, 0x04 | (number & 7) << 3, 0x24]))
        if number != RSP:
            self._lower(8)
        return True

    # Branches

    def _branch(self, insn: Instruction, e: Encoding, following: int, dispatcher: int) -> bool:
        if insn.operand_size != 8 or (e.map == ONE_BYTE and e.address_size != 8):
            return False
        undo, begin = Undo(((RCX, SAVED_RCX),)), self.here
        target = direct_target(insn, following)
        if target is not None:
            if not canonical(target):
                return False
            self._direct(insn, e, following, target)
            return True
        if insn.mnemonic == "ret":
            released = insn.operands[0] if insn.operands else None
            self.save(RCX, SAVED_RCX)
            self.stop(undo)
            self.put("65488b0c24")  # mov rcx, gs:[rsp]
            self._lower(8 + (released.value & 0xFFFF if isinstance(released, Immediate) else 0))
        elif insn.mnemonic in ("jmp", "call"):
            (source,) = insn.operands
            if source.size != 8 or (isinstance(source, MemoryOperand) and not self._prefix(source)):
                return False
            self.save(RCX, SAVED_RCX)
            self._load(RCX, insn, e, following, undo)
            if insn.mnemonic == "call":
                self._push_constant(following, undo)
        else:
            return False
        self.put("c705")  # mov dword [site], how far before the data
        self.put((self.data + SITE - self.here - 8).to_bytes(4, "little", signed=True))
        self.put((self.data - begin).to_bytes(4, "little"))
        self.put("e9")
        self.put((dispatcher - self.here - 4).to_bytes(4, "little", signed=True))
        return True

    def _direct(self, insn: Instruction, e: Encoding, following: int, target: int) -> None:
        if insn.mnemonic == "call":
            self._push_constant(following, NOTHING)
            self.jump("e9", target)
        elif insn.mnemonic == "jmp":
            self.jump("e9", target)
        elif e.map == ONE_BYTE and 0xE0 <= e.opcode <= 0xE3:  # LOOP and JRCXZ reach 127 bytes
            self.put(bytes([e.opcode]) + b"\x02\xeb\x05")
            self.jump("e9", target)
        else:
            self.jump(f"0f{0x80 | e.opcode & 0xF:02x}", target)


def _fits(value: int) -> bool:
    """Is it a 32-bit number, sign-extended?"""
    return value < 1 << 31 or value >= (1 << 64) - (1 << 31)
