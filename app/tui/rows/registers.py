"""Layout of a CPU's registers in a pane: the PC's, or the foreign machine's."""

from __future__ import annotations

from dataclasses import dataclass

from cores.machine.report import MachineSnapshot


@dataclass(frozen=True, slots=True)
class RegisterFile:
    """general: sixteen in columns, with ``digits`` hexadecimal digits each. spare: two that fill what
    three columns leave over. system: the others; the first ``outer`` of them go under the columns
    where there is no room for all beside them. flags: (name, bit) in register ``flags_in``.
    pc: points at the next instruction. modes: words for the rings, None where they have numbers."""

    general: tuple[str, ...]
    digits: int
    spare: tuple[str, str]
    system: tuple[str, ...]
    outer: int
    flags_in: str
    flags: tuple[tuple[str, int], ...]
    pc: str
    modes: tuple[str, str] | None = None


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
    return M68000 if M68000.pc in m.registers else X86


def program_counter(m: MachineSnapshot) -> int:
    """The address of the next instruction."""
    return m.registers.get(register_file(m).pc, 0)
