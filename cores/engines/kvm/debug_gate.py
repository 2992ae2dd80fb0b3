"""A temporary #DB gate in the guest's IDT, in place for one entry into ring 3."""

from __future__ import annotations

from dataclasses import dataclass
from struct import pack_into
from types import TracebackType

from cores.engines.kvm import guest_handlers as handlers
from cores.x86.faults import GuestFault
from cores.x86.mmu.paging import PAGE, Mmu
from cores.x86.registers import MASK64, Vector

_FRAME = 48
_RSP0 = 4
_GATE_AT = Vector.DB * handlers.GATE_BYTES


@dataclass(slots=True)
class TrapGate:
    """While installed (``with``), #DB is delivered to ``entry``, an address that no other gate uses.

    Ring 3 can read neither the IDT nor the stack that receives the frame; both are restored on exit.
    mmu: the guest's. saved: the overwritten bytes, by physical address.
    """

    mmu: Mmu
    entry: int
    gate: bytes
    saved: list[tuple[int, bytes]]

    @classmethod
    def prepare(cls, mmu: Mmu, idt: bytes, entries: list[int | None]) -> TrapGate | None:
        """Prepare a gate modelled on one of the guest's own; None where the IDT holds no present gate
        or is too short, or where the IDT or the stack is not mapped."""
        model = next((v for v in (Vector.DB, *range(handlers.GATES)) if entries[v] is not None), None)
        if model is None or len(idt) < _GATE_AT + handlers.GATE_BYTES:
            return None
        entry = _unused(entries)
        gate = bytearray(idt[model * handlers.GATE_BYTES :][: handlers.GATE_BYTES])
        pack_into("<H", gate, 0, entry & 0xFFFF)
        pack_into("<HI", gate, 6, entry >> 16 & 0xFFFF, entry >> 32)
        gate[4] = 0  # no IST: the frame lands below RSP0
        cpu = mmu.cpu
        try:
            top = mmu.read_u64((cpu.tr.base + _RSP0) & MASK64, implicit=True) & -16
            places = _pieces(mmu, cpu.idtr.base + _GATE_AT, handlers.GATE_BYTES)
            places += _pieces(mmu, top - _FRAME, _FRAME)
        except GuestFault:
            return None
        return cls(mmu, entry, bytes(gate), [(gpa, mmu.memory.read(gpa, n)) for gpa, n in places])

    def __enter__(self) -> TrapGate:
        done = 0
        for gpa, old in self.saved:
            piece = self.gate[done : done + len(old)]
            self.mmu.memory.view[gpa : gpa + len(piece)] = piece
            done += len(piece)
            if done == len(self.gate):
                break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for gpa, old in self.saved:
            self.mmu.memory.view[gpa : gpa + len(old)] = old


def _unused(entries: list[int | None]) -> int:
    """An address near the guest's handlers (so it is canonical) that is not one of them."""
    entry = next(e for e in entries if e is not None)
    while entry in entries:
        entry += 1
    return entry


def _pieces(mmu: Mmu, gva: int, length: int) -> list[tuple[int, int]]:
    """(GPA, length) of ``length`` bytes at ``gva``: one piece, or two where they cross a page's end."""
    gva &= MASK64
    here = min(length, PAGE - gva % PAGE)
    pieces = [(mmu.translate(gva, user=False, implicit=True), here)]
    if here < length:
        pieces.append((mmu.translate((gva + here) & MASK64, user=False, implicit=True), length - here))
    return pieces
