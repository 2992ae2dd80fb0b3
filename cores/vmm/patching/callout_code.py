"""The machine code of callouts: routines in the guest's own process that answer CLI, STI, PUSHF, POPF.

Over such an instruction in the patched twin stands a jump,

    E9 F4 F4 F4 xx      to the same place a fixed distance away

whose later bytes are HLT, or IN, INS and the like: whoever branches into its middle meets #GP. Each
instruction under the jump is copied behind the answer, and a jump leads back. The answers work on one
page of data (``Field``). They leave registers, status flags and the memory below the stack pointer as
the CPU would: sums are made by LEA, which changes no flag.

Where a routine is interrupted at the beginning of an instruction of the guest's (``places``), the guest
is at that instruction; nothing between two of these can fault.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from cores.x86.isa.branches import direct_target
from cores.x86.isa.encoding import parse
from cores.x86.isa.instruction import Instruction, MemoryOperand, Sensitivity
from cores.x86.registers import MASK32, RAX, RCX, Flag

HLT = 0xF4
JUMP_LENGTH = 5
DISTANCES = tuple(bytes([HLT, HLT, HLT, last]) for last in (0xF4, 0x6C, 0xEC, 0x6F, 0xE4))
"""The distance of the jump: bytes of which each is an instruction that ring 3 may not execute, or the
beginning of one: HLT, INS, OUTS, IN."""

PUSHF, POPF, CLI, STI = b"\x9c", b"\x9d", b"\xfa", b"\xfb"
ANSWERED = frozenset({PUSHF, POPF, CLI, STI})

_IF = int(Flag.IF)
_STRANGE = int(
    Flag.TF | Flag.IOPL | Flag.NT | Flag.RF | Flag.VM | Flag.AC | Flag.VIF | Flag.VIP | Flag.ID
)
"""A POPF of any of these leaves the guest."""
_CMP = 7  # ModRM.reg of opcode 83


class Field(IntEnum):
    """The words of the data page, by their number.

    A, C: RAX and RCX while a routine uses them. FLAG: the virtual IF, as in RFLAGS. DELTA: the virtual
    flags less those that PUSHF pushes at ring 3. PENDING: an interrupt waits for IF. COUNT: of answers.
    STI: the address behind the last STI: there interrupts wait for one more instruction.
    """

    A = 0
    C = 1
    FLAG = 2
    DELTA = 3
    PENDING = 4
    COUNT = 5
    STI = 6


class NotCopiedError(Exception):
    """An instruction under the jump would not mean the same elsewhere."""


@dataclass(frozen=True, slots=True)
class Callout:
    """One planted jump. gva, offset: of the instruction, and in its page. landing: the jump's target.

    copies: the guest's addresses under the jump, each with that of its copy."""

    gva: int
    offset: int
    landing: int
    copies: dict[int, int]


class Routine:
    """The answers to the instructions under one jump, and the copies of the others.

    start: where its code will be. data: the address of the data page. bits: 32 or 64.
    places: addresses in it -> the guest's, where the guest has completed all before. answers: those of
    these at which an answer begins. leaves: those of a HLT, at which the guest leaves for the VMM.
    """

    def __init__(self, start: int, data: int, bits: int) -> None:
        self.start, self.data, self.bits = start, data, bits
        self.code = bytearray()
        self.places: dict[int, int] = {}
        self.answers: set[int] = set()
        self.leaves: set[int] = set()
        self.copies: dict[int, int] = {}
        self._wide = b"\x48" if bits == 64 else b""
        self._word = bits // 8
        self._misses: list[tuple[int, int]] = []  # places of jumps to a HLT, and the guest's address

    @property
    def here(self) -> int:
        return self.start + len(self.code)

    # The instructions under the jump

    def answer(self, insn: Instruction, at: int) -> None:
        """Answer one of ``ANSWERED``."""
        self._note(at)
        self.answers.add(self.here)
        match insn.code:
            case b"\x9c":
                self._pushf()
            case b"\x9d":
                self._popf(at)
            case b"\xfa":
                self._set_flag(0)
                self._count(RAX, Field.A)
            case _:
                self._sti(at)

    def leave(self, at: int) -> None:
        """An instruction that leaves the guest where it stands, for under the jump is a HLT."""
        self._jump(b"\xe9", at)

    def copy(self, insn: Instruction, at: int) -> None:
        """Copy an ordinary instruction. Raises NotCopiedError."""
        self._note(at)
        following = at + insn.length
        if not insn.ends_block:
            self.code += self._elsewhere(insn, at)
            return
        target = direct_target(insn, following)
        first = insn.code[0]
        if insn.code in (b"\xc3", b"\xf3\xc3"):
            self.code += insn.code
        elif target is None or insn.operand_size == 2:
            raise NotCopiedError
        elif first in (0xEB, 0xE9):
            self._jump(b"\xe9", target)
        elif first == 0xE8:
            self._push(following)
            self.places[self.here] = target
            self._jump(b"\xe9", target)
        elif first & 0xF0 == 0x70:
            self._jump(bytes([0x0F, 0x80 | first & 0xF]), target)
        elif first == 0x0F and insn.code[1] & 0xF0 == 0x80:
            self._jump(insn.code[:2], target)
        else:
            raise NotCopiedError

    def go_back(self, at: int) -> None:
        """The way back, and the places at which the guest leaves."""
        self.places[self.here] = at
        self._jump(b"\xe9", at)
        for place, guest in self._misses:
            self.code[place : place + 4] = (len(self.code) - place - 4).to_bytes(4, "little")
            self._hlt(guest)

    # The answers

    def _pushf(self) -> None:
        self.code += PUSHF  # it faults, if at all, before anything is changed
        self._store(RAX, Field.A)
        self._store(RCX, Field.C)
        self.code += self._wide + b"\x8b\x04\x24"  # mov rax, [rsp]
        self._load(RCX, Field.DELTA)
        self.code += self._wide + b"\x8d\x04\x08"  # lea rax, [rax + rcx]
        self.code += self._wide + b"\x89\x04\x24"  # mov [rsp], rax
        self._load(RCX, Field.C)
        self._add_one(RAX)
        self._load(RAX, Field.A)

    def _popf(self, at: int) -> None:
        """POPF itself sets the status flags, so that these may be used before it."""
        self.code += self._wide + b"\xf7\x04\x24" + _STRANGE.to_bytes(4, "little")  # test [rsp], ...
        self._unless_zero(at)
        self.code += b"\xf6\x44\x24\x01\x02\x74"  # test byte [rsp + 1], IF >> 8; jz closes
        to_closes = len(self.code)
        self.code.append(0)
        self._with_field(0x83, _CMP, Field.PENDING, b"\0")
        self._unless_zero(at)
        self._set_flag(_IF)
        self.code.append(0xEB)
        to_end = len(self.code)
        self.code.append(0)
        self.code[to_closes] = len(self.code) - to_closes - 1
        self._set_flag(0)
        self.code[to_end] = len(self.code) - to_end - 1
        self._count(RAX, Field.A)
        self.code += POPF

    def _sti(self, at: int) -> None:
        self._store(RCX, Field.C)
        self._load(RCX, Field.PENDING)
        self.code += b"\xe3\0"  # jrcxz over
        over = len(self.code)
        self._load(RCX, Field.C)
        self._hlt(at)
        self.code[over - 1] = len(self.code) - over
        self._set_flag(_IF)
        behind = (at + 1).to_bytes(self._word, "little")
        self.code += self._wide + b"\xb9" + behind  # mov rcx, behind
        self._store(RCX, Field.STI)
        self._add_one(RCX)
        self._load(RCX, Field.C)

    def _set_flag(self, value: int) -> None:
        self._with_field(0xC7, 0, Field.FLAG, value.to_bytes(4, "little"))
        self._with_field(0xC7, 0, Field.DELTA, (value - _IF).to_bytes(4, "little", signed=True))

    def _count(self, register: int, saved: Field) -> None:
        self._store(register, saved)
        self._add_one(register)
        self._load(register, saved)

    def _add_one(self, register: int) -> None:
        self._load(register, Field.COUNT)
        self.code += self._wide + bytes([0x8D, 0x40 | register << 3 | register, 1])
        self._store(register, Field.COUNT)

    # Encodings

    def _note(self, at: int) -> None:
        self.places[self.here] = at
        self.copies[at] = self.here

    def _hlt(self, at: int) -> None:
        self.places[self.here] = at
        self.leaves.add(self.here)
        self.code.append(HLT)

    def _unless_zero(self, at: int) -> None:
        """JNZ to a HLT."""
        self.code += b"\x0f\x85\0\0\0\0"
        self._misses.append((len(self.code) - 4, at))

    def _load(self, register: int, field: Field) -> None:
        self._with_field(0x8B, register, field)

    def _store(self, register: int, field: Field) -> None:
        self._with_field(0x89, register, field)

    def _with_field(self, opcode: int, reg: int, field: Field, immediate: bytes = b"") -> None:
        """An instruction with a word of the data page: relative to RIP, and in 32-bit code in the stack
        segment, which is flat and can be written to."""
        at, modrm = self.data + 8 * field, reg << 3 | 5
        if self.bits == 64:
            self.code += bytes([0x48, opcode, modrm])
            at -= self.here + 4 + len(immediate)
        else:
            self.code += bytes([0x36, opcode, modrm])
        self.code += (at & MASK32).to_bytes(4, "little") + immediate

    def _jump(self, opcode: bytes, target: int) -> None:
        self.code += opcode + self._distance(target - (self.here + len(opcode) + 4))

    def _push(self, value: int) -> None:
        if self.bits == 64 and value >> 31:  # PUSH would extend its sign
            raise NotCopiedError
        self.code += b"\x68" + value.to_bytes(4, "little")

    def _elsewhere(self, insn: Instruction, at: int) -> bytes:
        """The code of an instruction that is no branch, for the present place."""
        if not any(isinstance(o, MemoryOperand) and o.relative for o in insn.operands):
            return insn.code
        e = parse(insn.code, insn.bits)
        end = insn.length - sum(size for _, size in e.immediates)
        displacement = int.from_bytes(insn.code[end - 4 : end], "little", signed=True)
        moved = self._distance(displacement + at - self.here)
        return insn.code[: end - 4] + moved + insn.code[end:]

    def _distance(self, distance: int) -> bytes:
        if self.bits == 64 and not -(1 << 31) <= distance < 1 << 31:
            raise NotCopiedError
        return (distance & MASK32).to_bytes(4, "little")


def may_be_copied(insn: Instruction) -> bool:
    """Is it an instruction whose copy means the same, wherever it is (``Routine.copy`` may refuse a
    branch all the same)?"""
    return insn.sensitivity is Sensitivity.ORDINARY and not insn.varies
