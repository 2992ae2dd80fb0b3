"""The guest's stack: pushes and pops at SS:RSP, with the stack pointer's width (SDM vol. 1, 6.2).

A ``Stack`` is a stack pointer that moves while an instruction or a delivery works, and becomes the
CPU's by ``commit``, when nothing can fault any more.
"""

from __future__ import annotations

from collections.abc import Sequence

from cores.x86.mmu.paging import PAGE, Mmu, by_page
from cores.x86.mmu.segmentation import on_stack
from cores.x86.mode import stack_bits
from cores.x86.registers import MASK16, MASK32, MASK64, RSP, SS
from cores.x86.virtual_cpu import Segment

_MASKS = {16: MASK16, 32: MASK32, 64: MASK64}


class Stack:
    """The stack at ``pointer`` in ``segment``.

    bits: the width of the pointer; of a wider register SP leaves the upper half of ESP as it is.
    user: whether its accesses are user-mode accesses, None: if CPL is 3. error: the code of its #SS.
    """

    __slots__ = ("_mask", "bits", "cpu", "error", "mmu", "pointer", "segment", "user")

    def __init__(
        self,
        mmu: Mmu,
        pointer: int,
        segment: Segment,
        bits: int,
        *,
        user: bool | None = None,
        error: int = 0,
    ) -> None:
        self.mmu, self.cpu = mmu, mmu.cpu
        self.pointer, self.segment, self.bits = pointer, segment, bits
        self.user, self.error = user, error
        self._mask = _MASKS[bits]

    @classmethod
    def current(cls, mmu: Mmu, *, error: int = 0) -> Stack:
        """The stack that the CPU is using."""
        cpu = mmu.cpu
        return cls(mmu, cpu.gpr[RSP], cpu.segments[SS], stack_bits(cpu), error=error)

    @property
    def offset(self) -> int:
        """The pointer within the segment."""
        return self.pointer & self._mask

    def moved(self, by: int) -> int:
        """The pointer after ``by`` more bytes; the pointer itself stays."""
        low = self.pointer + by & self._mask
        return self.pointer & 0xFFFF_0000 | low if self.bits == 16 else low

    def push(self, values: Sequence[int], size: int) -> None:
        """Push ``values`` of ``size`` bytes, the first one first: all of them or, when one faults,
        none. A page fault has the address of the first push that fails, as on the CPU."""
        mask, length = (1 << 8 * size) - 1, size * len(values)
        bottom = self.moved(-length)
        if self.bits == 64:
            # Within a page, the check of the first push covers all.
            checks = 1 if (bottom & PAGE - 1) + length <= PAGE else len(values)
            for pushed in range(1, checks + 1):
                self._check(self.moved(-size * pushed), size, write=True)
            data = b"".join((v & mask).to_bytes(size, "little") for v in reversed(values))
            self.mmu.write(bottom, data, user=self.user)
        else:
            places = [
                self._check(self.moved(-size * pushed) & self._mask, size, write=True)
                for pushed in range(1, len(values) + 1)
            ]
            for place, value in zip(places, values, strict=True):
                self.mmu.write(place, (value & mask).to_bytes(size, "little"), user=self.user)
        self.pointer = bottom

    def pop(self, count: int, size: int) -> list[int]:
        """Pop ``count`` values of ``size`` bytes."""
        values = self.peek(count, size)
        self.pointer = self.moved(size * count)
        return values

    def peek(self, count: int, size: int, at: int = 0) -> list[int]:
        """The values that ``pop`` would give, from ``at`` bytes above the pointer on."""
        if not count:
            return []
        if self.bits == 64:
            rsp, length = self.pointer + at & MASK64, size * count
            checks = 1 if (rsp & PAGE - 1) + length <= PAGE else count
            for slot in range(checks):
                self._check((rsp + size * slot) & MASK64, size)
            data = self.mmu.read(rsp, length, user=self.user)
            return [int.from_bytes(data[at : at + size], "little") for at in range(0, length, size)]
        places = [self._check(self.moved(at + size * n) & self._mask, size) for n in range(count)]
        return [int.from_bytes(self.mmu.read(at, size, user=self.user), "little") for at in places]

    def move_to(self, pointer: int) -> None:
        """Move the pointer there, within the stack's width."""
        self.pointer = self.moved(pointer - self.pointer)

    def release(self, length: int) -> None:
        """Move the pointer up."""
        self.pointer = self.moved(length)

    def commit(self) -> None:
        """Make this the CPU's stack."""
        self.cpu.gpr[RSP] = self.pointer
        self.cpu.segments[SS] = self.segment

    def _check(self, offset: int, size: int, *, write: bool = False) -> int:
        """Check one access; returns its linear address."""
        place = on_stack(self.segment, offset, size, bits=self.bits, error=self.error)
        for page, _ in by_page(place, size):
            self.mmu.translate(page, write=write, user=self.user)
        return place
