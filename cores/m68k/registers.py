"""The registers of a 68000 (M68000PM/AD, 1.1 and 1.3)."""

from __future__ import annotations

from dataclasses import dataclass, field

MASK32 = 0xFFFF_FFFF
MASK24 = 0xFF_FFFF
"""A 68000 has 24 address lines: it ignores the upper eight bits of an address."""

STATE_NAMES = (
    "d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7",
    "a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7", "pc", "sr", "usp", "ssp",
)  # fmt: skip

TRACE, SUPERVISOR = 1 << 15, 1 << 13
X, N, Z, V, C = 1 << 4, 1 << 3, 1 << 2, 1 << 1, 1 << 0
SR_BITS = 0xA71F
"""The bits of SR that exist: T, S, the interrupt mask, XNZVC. The others read zero."""
RESET_SR = 0x2700
"""SR after a reset: supervisor, no tracing, every interrupt masked."""


@dataclass(slots=True)
class M68kCpu:
    """The registers. d, a: eight data and eight address registers; a[7] is the active stack pointer.
    other_stack: the inactive one, USP in supervisor mode, SSP in user mode."""

    d: list[int] = field(default_factory=lambda: [0] * 8)
    a: list[int] = field(default_factory=lambda: [0] * 8)
    pc: int = 0
    sr: int = RESET_SR
    other_stack: int = 0

    @property
    def supervisor(self) -> bool:
        return bool(self.sr & SUPERVISOR)

    @property
    def usp(self) -> int:
        return self.other_stack if self.supervisor else self.a[7]

    @property
    def ssp(self) -> int:
        return self.a[7] if self.supervisor else self.other_stack

    def set_sr(self, value: int) -> None:
        """Load SR, and with it the stack pointer of the mode that it chooses."""
        was_supervisor = self.supervisor
        self.sr = value & SR_BITS
        if self.supervisor is not was_supervisor:
            self.a[7], self.other_stack = self.other_stack, self.a[7]

    def state(self) -> tuple[int, ...]:
        """All registers, in the order of ``STATE_NAMES``."""
        return (*self.d, *self.a, self.pc, self.sr, self.usp, self.ssp)

    def copy(self) -> M68kCpu:
        return M68kCpu(self.d.copy(), self.a.copy(), self.pc, self.sr, self.other_stack)

    def assign(self, other: M68kCpu) -> None:
        """Become equal to ``other``."""
        self.d, self.a = other.d.copy(), other.a.copy()
        self.pc, self.sr, self.other_stack = other.pc, other.sr, other.other_stack
