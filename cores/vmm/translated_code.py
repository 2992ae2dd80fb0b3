"""Translated code: blocks of the guest's instructions, translated once and kept.

A block is straight code up to a branch, the end of its page, or an instruction that the VMM has to
complete. It begins by counting its instructions. Direct branches lead from block to block; one whose
target is not translated yet leads to a HLT, and is linked when the guest has got there. Indirect ones
go by the dispatcher and its table (cores/x86/isa/displaced.py).

All is kept by the guest's addresses, and dropped together when a byte of translated code changes, or
when the guest's tables no longer lead to it. Where the guest has been stopped, ``place`` tells what the
process's registers mean.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from cores.engines.base import CODE_SIZE, TRANSLATED
from cores.vmm.patching.twin import HLT
from cores.x86.faults import GuestFault, Unsupported
from cores.x86.isa.displaced import COUNT, IN_RCX, NOTHING, SITE, TABLE, TABLE_SIZE, Emitter, Undo
from cores.x86.isa.instruction import Instruction
from cores.x86.mmu.code_fetch import instruction_at
from cores.x86.mmu.paging import PAGE, Mmu
from cores.x86.registers import MASK64, RCX
from cores.x86.virtual_cpu import VirtualCpu

MOST = 64
"""Instructions of one block."""
ROOM = 8192
"""More bytes than a block takes."""
DATA = TRANSLATED.start + CODE_SIZE
ENDS = ("jmp", "call", "ret")
"""Instructions behind which the guest does not go on."""


class StraightCode(NamedTuple):
    """The guest's instructions of one block, with their addresses. following: the address behind the
    last one. leaves: the instruction there has to be completed by the VMM. parts: the bytes that were
    decoded, by page: (first, end) of each."""

    code: list[tuple[int, Instruction]]
    following: int
    leaves: bool
    parts: dict[int, list[tuple[int, int]]]


def straight_code(
    cpu: VirtualCpu, mmu: Mmu, rip: int, leaves: Callable[[Instruction], bool]
) -> StraightCode:
    """The block at ``rip``, which ends before an instruction that ``leaves``. Raises the GuestFault of
    the fetch of its first instruction."""
    code: list[tuple[int, Instruction]] = []
    parts: dict[int, list[tuple[int, int]]] = {}
    at, left = rip, False
    while len(code) < MOST and not (at ^ rip) & -PAGE and not (code and code[-1][1].ends_block):
        try:
            insn = instruction_at(cpu, mmu, at)
        except (GuestFault, Unsupported):
            if at == rip:
                raise
            break
        page, offset, end = at & -PAGE, at % PAGE, at % PAGE + insn.length
        parts.setdefault(page, []).append((offset, min(end, PAGE)))
        if end > PAGE:
            parts.setdefault(page + PAGE & MASK64, []).append((0, end - PAGE))
        left = leaves(insn)
        if left:
            break
        code.append((at, insn))
        at = at + insn.length & MASK64
    return StraightCode(code, at, left, parts)


class Place(NamedTuple):
    """Where the guest is when the process is at an address of the translation.

    rip: the guest's. ahead: instructions of its block that are counted and not completed."""

    rip: int
    ahead: int
    undo: Undo


class TranslatedCode:
    """The blocks of one guest. memory: holds code and data from ``begin`` on; in the process they lie
    at ``TRANSLATED``.

    displacement: of all addresses of the guest's. left: addresses of a HLT in place of an instruction
    that the VMM has to complete. pages: the pages of the guest's that were translated, by address, and
    their frames."""

    def __init__(self, memory: memoryview, begin: int) -> None:
        self._memory = memory
        self._code, self._data = begin, begin + CODE_SIZE
        self.displacement = 0
        self.left: set[int] = set()
        self.pages: dict[int, int] = {}
        self._blocks: dict[int, int] = {}  # guest's address -> that of its translation
        self._places: dict[int, Place] = {}
        self._links: dict[int, tuple[int, int]] = {}  # HLT -> (distance to write, the guest's target)
        self._entries: set[int] = set()  # filled entries of the table
        self._end = TRANSLATED.start
        self._dispatcher = self._missed = 0

    def clear(self, displacement: int) -> None:
        """Drop all blocks."""
        self.displacement = displacement
        self.left.clear()
        self.pages.clear()
        self._blocks.clear()
        self._places.clear()
        self._links.clear()
        for at in self._entries:
            self._memory[at : at + 16] = bytes(16)
        self._entries.clear()
        self._memory[self._data + TABLE] = 1  # else an empty entry would be one for address 0
        out = Emitter(TRANSLATED.start, DATA, displacement)
        out.dispatcher()
        self._dispatcher, self._missed = out.at, out.missed
        for at, undo in out.stops.items():
            self._places[at] = Place(0, 0, undo)
        self._write(out.at, out.code)
        self._end = out.here

    @property
    def full(self) -> bool:
        """Is there no room for another block?"""
        return TRANSLATED.start + CODE_SIZE - self._end < ROOM

    def counted(self) -> int:
        """The number of instructions since the last call, those of a block counted at its begin."""
        at = self._data + COUNT
        count = int.from_bytes(self._memory[at : at + 8], "little")
        self._memory[at : at + 8] = bytes(8)
        return count

    def block(self, rip: int) -> int | None:
        """The address of the translation of the code at ``rip``."""
        return self._blocks.get(rip)

    def add(self, found: StraightCode) -> None:
        """Translate a block."""
        code, following = found.code, found.following
        first = code[0][0] if code else following
        size = self._length(code)
        out = Emitter(self._end, DATA, self.displacement)
        if size:
            out.count(size)
        bounds = {out.at: Place(first, 0, NOTHING)}
        for number, (rip, insn) in enumerate(code[:size]):
            begin = out.here
            out.translate(insn, rip, self._dispatcher)
            for at, undo in out.stops.items():
                bounds.setdefault(at, Place(rip, size - number, undo))
            bounds[begin] = Place(rip, size - number, NOTHING)
        if size < len(code) or found.leaves:
            bounds[out.here] = Place(code[size][0] if size < len(code) else following, 0, NOTHING)
            self.left.add(out.here)
            out.put(bytes([HLT]))
        elif code[-1][1].mnemonic not in ENDS:
            out.jump("e9", following)
        for at, target in out.jumps:
            self._lead(out, at, target, bounds)
        self._places |= bounds
        self._write(out.at, out.code)
        self._blocks[first] = out.at
        self._enter(first, out.at)
        self._end = out.here

    def _length(self, code: list[tuple[int, Instruction]]) -> int:
        """How many of the instructions can be translated."""
        trial = Emitter(self._end, DATA, self.displacement)
        for number, (rip, insn) in enumerate(code):
            if not trial.translate(insn, rip, self._dispatcher):
                return number
        return len(code)

    def _lead(self, out: Emitter, at: int, target: int, bounds: dict[int, Place]) -> None:
        """Lead the branch whose distance is at ``at`` to the translation of ``target``."""
        there = self._blocks.get(target)
        if there is None:
            there = out.here
            bounds[there] = Place(target, 0, NOTHING)
            self._links[there] = at, target
            out.put(bytes([HLT]))
        out.code[at - out.at : at - out.at + 4] = (there - at - 4).to_bytes(4, "little", signed=True)

    def _enter(self, rip: int, at: int) -> None:
        """Enter a block into the dispatcher's table."""
        entry = self._data + TABLE + 16 * (rip & TABLE_SIZE // 16 - 1)
        self._memory[entry : entry + 8] = (-rip & MASK64).to_bytes(8, "little")
        self._memory[entry + 8 : entry + 16] = at.to_bytes(8, "little")
        self._entries.add(entry)

    def waits(self, at: int) -> bool:
        """Does a branch wait at the HLT at ``at``, whose target is not translated or not linked?"""
        return at in self._links or at == self._missed

    def branch(self) -> Place | None:
        """Where the last indirect branch is."""
        return self._places.get(DATA - self._word(SITE))

    def link(self, at: int, rip: int) -> None:
        """Link the branch that waits at ``at`` to the block at ``rip``."""
        there = self._blocks.get(rip)
        if there is None:
            return
        if at in self._links:
            distance, target = self._links[at]
            assert target == rip
            self._write(distance, (there - distance - 4).to_bytes(4, "little", signed=True))
        elif at == self._missed:  # another block may have had its entry
            self._enter(rip, there)

    def place(self, at: int, gpr: list[int]) -> Place | None:
        """Where the guest is, and its registers, when the process is at ``at``. gpr: the process's,
        which become the guest's. None: in the middle of an instruction, or nowhere."""
        found = self._places.get(at)
        if found is None or found.undo is NOTHING:
            return found
        undo = found.undo
        rip = found.rip
        if undo.branch:
            rip = gpr[RCX] if undo.branch == IN_RCX else self._word(undo.branch)
        for register, offset in undo.saved:
            gpr[register] = self._word(offset)
        for register in undo.displaced:
            gpr[register] = gpr[register] - self.displacement & MASK64
        return Place(rip, found.ahead, undo)

    def origin(self, at: int) -> int | None:
        """The guest's address of the instruction whose translation begins at ``at``."""
        found = self._places.get(at)
        return None if found is None else found.rip

    def _word(self, offset: int) -> int:
        at = self._data + offset
        return int.from_bytes(self._memory[at : at + 8], "little")

    def _write(self, at: int, code: bytes | bytearray) -> None:
        place = self._code + at - TRANSLATED.start
        self._memory[place : place + len(code)] = code
