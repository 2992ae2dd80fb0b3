"""One decoded instruction, with the properties that the VMM needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, StrEnum


class Reason(StrEnum):
    """The reason an instruction leaves the guest (contract.md, Counting); also the non-instruction
    exits."""

    IO = "io"
    MMIO = "mmio"
    HLT = "hlt"
    CR = "cr"
    MSR = "msr"
    DESCRIPTOR = "descriptor"
    FLAGS = "flags"
    SEGMENT = "segment"
    INT = "int"
    IRET = "iret"
    SYSCALL = "syscall"
    SYSRET = "sysret"
    CPUID = "cpuid"
    TSC = "tsc"
    INVLPG = "invlpg"
    STATE = "state"
    EXCEPTION = "exception"
    IRQ = "irq"
    HYPERCALL = "hypercall"
    SHUTDOWN = "shutdown"
    SHADOW = "shadow"
    SCAN = "scan"
    CALLOUT = "callout"

    __hash__ = str.__hash__
    """``Enum.__hash__`` is written in Python, and every exit is counted by reason."""


class Sensitivity(Enum):
    """Behaviour of an instruction at ring 3, in Popek and Goldberg's classes."""

    ORDINARY = "ordinary"
    """It has the same effect at every privilege level: runs directly."""
    PRIVILEGED = "privileged"
    """Sensitive, and traps at ring 3 (#GP or #UD): trap-and-emulate catches it by itself."""
    SILENT = "silent"
    """Sensitive, and may not trap at ring 3: the VMM must find it and make it trap."""
    ABSENT = "absent"
    """The platform's CPU lacks it (contract.md, The CPU): #UD, whatever this host's CPU can do."""


@dataclass(frozen=True, slots=True)
class Register:
    """A register operand. name: as Capstone writes it ("eax", "cr3", "ds", "xmm0", "r8b")."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Immediate:
    """An immediate, sign-extended to 64 bits and taken modulo 2**64. Branch targets: the displacement
    from the *end* of the instruction, so that the decoded instruction does not depend on its place."""

    value: int
    size: int


@dataclass(frozen=True, slots=True)
class MemoryOperand:
    """[segment: base + index*scale + displacement], ``size`` bytes.

    base, index: general register numbers in encoding order; None for none.
    relative: RIP-relative: add the address of the next instruction.
    segment: the number of the segment register. In 64-bit code only the bases of FS and GS count.
    address_size: 8, 4 or 2; the sum is truncated to so many bytes before the segment base is added.
    displacement: signed.
    bits: the width of the code, as ``Instruction.bits``.
    """

    segment: int
    base: int | None
    index: int | None
    scale: int
    displacement: int
    relative: bool
    size: int
    address_size: int
    bits: int = 64


Operand = Register | Immediate | MemoryOperand


@dataclass(frozen=True, slots=True)
class Instruction:
    """A decoded instruction; position-independent and immutable, so that it is cached by its bytes and
    the width of the code.

    code: its bytes. length: how many these are.
    mnemonic: lower case, without prefixes, Capstone's spelling with the aliases folded away
        ("insb" -> "ins", "outsw" -> "outs", "movsq" -> "movs", "iretq" -> "iret", "retfq" -> "retf",
        "sal" -> "shl", "movabs" -> "mov", "pushfq" -> "pushf", "xlatb" -> "xlat", "pushal" -> "pusha");
        far call and jmp are "lcall" and "ljmp", with the operands (selector, offset) where the pointer
        is an immediate; tzcnt and lzcnt, which the platform lacks, "bsf" and "bsr".
    bits: 16, 32 or 64, the width of the code as the code segment gives it (``system.mode.code_bits``).
    operand_size: 1, 2, 4 or 8 bytes, as prefixes and opcode give it.
    repeat: "" | "rep" | "repne" (on string instructions only: elsewhere the prefix means otherwise).
    reason: its exit reason when it leaves the guest, None for ORDINARY ones.
    undefined: RFLAGS bits that are undefined after it whatever its operands.
    undefined_rule: the rule in undefined_results.py, "fixed" when ``undefined`` is all, "" when nothing
        is undefined.
    implicit: memory that it accesses besides its explicit operands, by a rule of accesses.py: "" |
        "push" | "pop" | "pusha" | "popa" | "call" | "ret" | "enter" | "leave" | "string" | "bits" |
        "xlat" | "maskmov" | "lcall" | "retf" | "iret".
    access: what it does to its explicit memory operand: "" | "r" | "w" | "rw".
    floating: uses x87, MMX or SSE state (compare it, and #NM/#UD by CR0.TS, CR0.EM, CR4.OSFXSR).
    ends_block: control may not go on at the next instruction (branches, ret, int, hlt, ud2...).
    varies: CPUs differ in it, and the VMM completes it on every core (cpu_differences.py).
    mistranslated: Unicorn executes it wrongly (``operand_checks.mistranslated``).
    plain: nothing has to be checked before any engine executes it, unless EFLAGS.AC is set. Most
        instructions are plain, and the VMM asks this one bit before each step.
    """

    code: bytes
    mnemonic: str
    operands: tuple[Operand, ...]
    operand_size: int
    address_size: int
    repeat: str
    lock: bool
    sensitivity: Sensitivity
    reason: Reason | None
    undefined: int
    undefined_rule: str
    implicit: str
    access: str
    floating: bool
    ends_block: bool
    varies: bool
    mistranslated: bool = False
    bits: int = 64
    plain: bool = field(init=False)
    length: int = field(init=False)

    def __post_init__(self) -> None:
        checked = self.repeat or self.floating or self.varies or self.mistranslated
        if self.bits != 64:  # segments have limits
            checked = checked or self.access or self.implicit or self.ends_block
        plain = self.sensitivity is Sensitivity.ORDINARY and self.implicit != "call" and not checked
        object.__setattr__(self, "plain", plain)
        object.__setattr__(self, "length", len(self.code))
