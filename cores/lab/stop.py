"""Why a guest was left, as a student's VMM is told (docs/lab.md)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar, NoReturn

from cores.lab.errors import NoSuchName
from cores.x86.isa.accesses import effective_address
from cores.x86.isa.decoder import text
from cores.x86.isa.instruction import Immediate, Instruction, MemoryOperand, Register
from cores.x86.isa.instruction import Operand as Encoded
from cores.x86.registers import VECTOR_NAMES
from cores.x86.virtual_cpu import VirtualCpu

FAULT, PATCHED, SYSCALL, TIMER = "fault", "patched", "syscall", "timer"


class _Told:
    """Names its fields where a student asks for another."""

    __slots__ = ()
    called: ClassVar[str]
    """As the manual calls it."""

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        there = ", ".join(field.name for field in fields(self))  # type: ignore[arg-type]
        raise NoSuchName(f"{self.called} has no {name!r:.40}: it has {there}")


@dataclass(frozen=True, slots=True)
class Operand(_Told):
    """One operand of an instruction.

    kind: "register", "immediate" or "memory". size: in bytes. name: of a register ("al", "cr3", "ds"),
    else "". value: an immediate's, modulo 2**64, else 0. address: the linear
    address of one in memory, else 0."""

    called: ClassVar[str] = "an operand"
    kind: str
    size: int
    name: str = ""
    value: int = 0
    address: int = 0


@dataclass(frozen=True, slots=True)
class Decoded(_Told):
    """The instruction at which the guest was left.

    mnemonic: lower case, without prefix or size: "out", "outs" (for outsb too), "pushf", "iret".
    operands: in Intel's order. length: in bytes. size: the operand size in bytes, 1, 2, 4 or 8.
    repeat: "rep", "repne" or "". text: for people."""

    called: ClassVar[str] = "stop.instruction"
    mnemonic: str
    operands: tuple[Operand, ...]
    length: int
    size: int
    repeat: str
    text: str


@dataclass(frozen=True, slots=True)
class Stop(_Told):
    """One exit.

    number: of the exit, from 1. kind: "fault", "patched", "syscall" or "timer". vector, error, address:
    of a fault: the exception's number, its error code (None where it has none), and of a page fault
    the linear address. rip: where the guest was left. instruction: what is there; None for a timer, and
    where no code is mapped."""

    called: ClassVar[str] = "stop"
    number: int
    kind: str
    vector: int
    error: int | None
    address: int | None
    rip: int
    instruction: Decoded | None

    @property
    def reason(self) -> str:
        """The kind in a few words: "#GP(0x0)", "#PF on 0x1000", "patched"."""
        if self.kind != FAULT:
            return self.kind
        name = VECTOR_NAMES.get(self.vector, f"vector {self.vector}")
        error = "" if self.error is None else f"({self.error:#x})"
        return f"{name}{error}" + ("" if self.address is None else f" on {self.address:#x}")

    def __str__(self) -> str:
        there = f" `{self.instruction.text}`" if self.instruction else ""
        return f"exit {self.number}: {self.reason} at {self.rip:#x}{there}"


def decoded(insn: Instruction, cpu: VirtualCpu) -> Decoded:
    """An instruction at RIP, with its operands' addresses in the state before it."""
    operands = tuple(_operand(operand, insn, cpu) for operand in insn.operands)
    return Decoded(
        insn.mnemonic, operands, insn.length, insn.operand_size, insn.repeat, text(insn, cpu.rip)
    )


def _operand(operand: Encoded, insn: Instruction, cpu: VirtualCpu) -> Operand:
    match operand:
        case Register(name, size):
            return Operand("register", size, name=name)
        case Immediate(value, size):
            return Operand("immediate", size, value=value)
        case MemoryOperand():
            return Operand("memory", operand.size, address=effective_address(operand, cpu, insn.length))
