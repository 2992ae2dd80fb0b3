"""Layout of a CPU's registers in a pane: the PC's, or the foreign machine's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cores.machine.report import MachineSnapshot
from cores.x86.mode import Mode


@dataclass(frozen=True, slots=True)
class RegisterFile:
    """general: sixteen in columns, with ``digits`` hexadecimal digits each. spare: two that fill what
    three columns leave over. system: the others; the first ``outer`` of them go under the columns
    where there is no room for all beside them. flags: (name, bit) in register ``flags_in``.
    pc: points at the next instruction. modes: words for the rings, None where they have numbers.
    beside: shown with the general ones. titles: what a register is called where not by its own name.
    bits: of a general register."""

    general: tuple[str, ...]
    digits: int
    spare: tuple[str, str]
    system: tuple[str, ...]
    outer: int
    flags_in: str
    flags: tuple[tuple[str, int], ...]
    pc: str
    modes: tuple[str, str] | None = None
    beside: tuple[str, ...] = ()
    titles: Mapping[str, str] = field(default_factory=dict)
    bits: int = 64

    def title(self, name: str, value: int) -> str:
        """The name of a register that holds ``value``: in 16-bit code AX, EAX where more is in it."""
        if name == self.flags_in:
            return "flags"
        words = self.titles.get(name, name)
        return f"e{words}" if self.bits == 16 and name in self.titles and value >> 16 else words

    @property
    def span(self) -> str:
        """The general registers in words: "rax to r15"."""
        first, last = (self.titles.get(name, name) for name in (self.general[0], self.general[-1]))
        return f"{first} to {last}"


X86 = RegisterFile(
    general=(
        "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp",
        "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
    ),
    digits=16,
    spare=("cr0", "cr3"),
    system=(
        "cs", "ss", "ds", "es", "fs", "gs",
        "cr0", "cr2", "cr3", "cr4", "cr8", "efer", "fs_base", "gs_base",
    ),
    outer=6,
    flags_in="rflags",
    flags=(
        ("of", 11), ("df", 10), ("if", 9), ("tf", 8), ("sf", 7),
        ("zf", 6), ("af", 4), ("pf", 2), ("cf", 0),
    ),
    pc="rip",
)  # fmt: skip

_LEGACY = X86.general[:8]
_SEGMENTS = ("cs", "ss", "ds", "es", "fs", "gs")
X86_32 = replace(
    X86, general=_LEGACY, digits=8, beside=_SEGMENTS,
    system=(*_SEGMENTS, "cr0", "cr2", "cr3", "cr4", "efer"),
    titles={name: f"e{name[1:]}" for name in (*_LEGACY, "rip")}, bits=32,
)  # fmt: skip
X86_16 = replace(X86_32, titles={name: name[1:] for name in (*_LEGACY, "rip")}, bits=16)
"""In 16-bit code the registers have 32 bits, too, of which most instructions know 16."""

M68000 = RegisterFile(
    general=(
        "d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7",
        "a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7",
    ),
    digits=8,
    spare=("usp", "ssp"),
    system=("pc", "sr", "usp", "ssp"),
    outer=0,
    flags_in="sr",
    flags=(("t", 15), ("s", 13), ("x", 4), ("n", 3), ("z", 2), ("v", 1), ("c", 0)),
    pc="pc",
    modes=("supervisor", "user"),
)  # fmt: skip


def register_file(m: MachineSnapshot) -> RegisterFile:
    """The register file of this machine's CPU."""
    if M68000.pc in m.registers:
        return M68000
    match m.mode:
        case Mode.LONG:
            return X86
        case Mode.REAL | Mode.PROTECTED_16:
            return X86_16
        case Mode.PROTECTED_32 | Mode.COMPATIBILITY:
            return X86_32


def program_counter(m: MachineSnapshot) -> int:
    """The address of the next instruction."""
    return m.registers.get(register_file(m).pc, 0)
