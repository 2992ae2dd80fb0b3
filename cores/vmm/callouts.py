"""Callouts: CLI, STI, PUSHF and POPF answered inside the guest's process, without leaving it.

A kernel asks for its flags at each lock, and each time an exit costs 10 us where the CPU would take a
nanosecond. So in free mode, on the real CPU, one of these instructions that has left the guest twice is
replaced, in the patched twin, by a jump to a routine that keeps the virtual IF in a page of data
(cores/vmm/patching/callout_code.py). It is what VMware's translator did. The VMM reads the virtual IF
after each exit, and writes it, with a word that says whether an interrupt waits, before each entry.

The routines lie in the *region*, at addresses where the guest's own tables map nothing. That is so
while the region is *open*:

    opened    at the first jump: a fault there. The guest's tables are asked, and those pages of them
              which say that nothing is mapped are watched: they are mapped for reading only
    closed    by a store to one of these, by whatever drops the guest's mappings, and while a flag or
              segment has a value that the routines do not know; for virtual ring 3 it always is
    given up  where the guest maps something there itself: each instruction exits again

A routine that is interrupted is led on to the next instruction of the guest's. Counted as ``callout``,
which is no exit (contract.md, Counting). Never in exact mode, nor with ``--slow``; never in a page of
code and data that is shared (cores/vmm/patching/twin.py), where the guest could store into a jump.
"""

from __future__ import annotations

from typing import NamedTuple

from cores.engines.base import (
    CALLOUT_CODE,
    CALLOUT_REGION,
    CODE_SIZE,
    DATA_SIZE,
    INTERRUPTED,
    STEPPED,
    DeprivilegedEngine,
    Exit,
    Fault,
    Handler,
)
from cores.pc.ram import TRANSLATIONS
from cores.vmm.known_exits import KnownExits
from cores.vmm.patching.callout_code import (
    ANSWERED,
    DISTANCES,
    JUMP_LENGTH,
    Callout,
    Field,
    NotCopiedError,
    Routine,
    may_be_copied,
)
from cores.vmm.patching.code_page import CodePage
from cores.vmm.patching.patcher import Patcher
from cores.vmm.shadow_tlb import ShadowPages
from cores.vmm.state import GuestContext
from cores.vmm.trace import ExitEvent
from cores.x86.faults import GuestFault
from cores.x86.isa.instruction import Instruction, Reason, Sensitivity
from cores.x86.mmu.paging import PAGE
from cores.x86.mmu.vacancy import empty_tables
from cores.x86.mode import is_flat, is_long
from cores.x86.registers import CS, MASK32, SS, USER_FLAGS, Cr0, Flag, Vector

NOTE = (
    "running freely, CLI, STI, PUSHF and POPF of the guest's kernel are answered inside its process: "
    "these are no exits"
)
# The region: targets of jumps from code of one aligned range a fixed distance away, with a page more,
# as that is no multiple of a page; then the routines, and a page of data.
CODE_WINDOW, SIZE = CALLOUT_CODE, CALLOUT_REGION
PADDING = b"\x90\xcc"
"""NOP, INT3."""
MOST_SEEN = 4096
MOST_MISSES = 8
"""So often the guest may branch into the middle of a jump before it is taken away."""
MOST_STEPS = 64
"""More than any routine has instructions."""
_IF, _LENT = int(Flag.IF), int(USER_FLAGS | Flag.RF)
_GENERAL_PROTECTION = Fault(Vector.GP, 0)
_NO_WORDS = memoryview(bytes(8 * len(Field))).cast("Q")


class _Place(NamedTuple):
    """A place in a routine at which the guest is at one of its own instructions, or before it leaves.

    answer: that is one of ``ANSWERED``. leave: it stopped at a HLT of the routine's."""

    rip: int
    callout: Callout
    answer: bool
    leave: bool


class Callouts:
    """The callouts of one guest. known: set when it exists. wanted: plant any.

    in_copy: the last exit is the fault of a copied instruction, and not of a byte of a jump.
    """

    def __init__(self, guest: GuestContext, engine: DeprivilegedEngine, shadow: ShadowPages) -> None:
        self._guest, self._engine, self._shadow = guest, engine, shadow
        self._cpu, self._trace = guest.cpu, guest.trace
        self._offset = guest.memory.ram.scratch + TRANSLATIONS + CODE_SIZE + DATA_SIZE
        self.known: KnownExits | None = None
        self.wanted = True
        self.in_copy = False
        self.patcher: Patcher | None = None
        self._words = _NO_WORDS
        shadow.on_watched, shadow.host.on_hidden = self.close, self._hidden
        shadow.on_reserved, shadow.on_resumed = self._give_up, self._resumed
        self.reset(None)

    def reset(self, patcher: Patcher | None) -> None:
        """Forget everything: the guest's code is patched anew, or no longer."""
        self.patcher = patcher
        if self._words is not _NO_WORDS:
            self._words.release()  # else the twin could not be closed
            self._words = _NO_WORDS
        self.region = range(0)
        self._given_up = self._entered = False
        self._distance = 0
        self._jump = b""
        self._next = 0  # the address of the next routine
        self._landings: dict[int, Callout] = {}
        self._middles: dict[int, Callout] = {}  # the guest's addresses under a jump
        self._places: dict[int, _Place] = {}
        self._seen: set[int] = set()
        self._refused: set[int] = set()
        self._misses: dict[int, int] = {}
        self._shadow.host.reserved, self._shadow.watched = range(0), frozenset()
        self._shadow.host.shown = False

    # Planting

    def take(self, record: ExitEvent) -> bool:
        """An instruction has left the guest the long way. True: it is answered from now on, or may be
        at the next time; so no handler is made for it."""
        rip = record.rip
        if record.reason is not Reason.FLAGS or record.code not in ANSWERED or record.ring:
            return False
        if rip in self._refused or self._given_up or not self.wanted or rip >> 47:
            return False
        if rip not in self._seen:
            if len(self._seen) >= MOST_SEEN:
                self._seen.clear()
            self._seen.add(rip)
            return True
        if self._stands(rip) is not None or self._plant(rip):
            return True
        self._refused.add(rip)
        return False

    def _plant(self, rip: int) -> bool:
        patcher, offset = self.patcher, rip % PAGE
        if patcher is None or not self._suits() or offset > PAGE - JUMP_LENGTH:
            return False
        try:
            page = patcher.pages.get(self._guest.mmu.locate(rip) & -PAGE)
        except GuestFault:
            return False
        if page is None or page.shared or page.aliased or page.at != rip & -PAGE:
            return False
        if not self.region and not self._choose_region(rip):
            return False
        landing = self._landing(rip)
        there = self._landings.get(landing)
        if (there is not None and self._stands(there.gva) is there) or not self._holds(landing):
            return False
        made = self._routine(page, rip)
        if made is None:
            return False
        routine, span = made
        jump = Routine(landing, 0, routine.bits)
        jump.leave(routine.start)
        self._write(landing, jump.code)
        self._write(routine.start, routine.code)
        self._next = routine.here
        copies = {at: place for at, place in routine.copies.items() if at != rip}
        callout = self._landings[landing] = Callout(rip, offset, landing, copies)
        self._middles.update(dict.fromkeys(copies, callout))
        for place, at in routine.places.items():
            self._places[place] = _Place(at, callout, place in routine.answers, place in routine.leaves)
        patcher.plant(page, callout, self._jump, span)
        self._guest.notes[NOTE] = None
        return True

    def _holds(self, landing: int) -> bool:
        """Is it among the targets that the region has room for?"""
        return self.region.start <= landing <= self.region.start + CODE_WINDOW

    def _landing(self, rip: int) -> int:
        mask = (1 << 64) - 1 if is_long(self._cpu) else MASK32
        return rip + JUMP_LENGTH + self._distance & mask

    def _choose_region(self, rip: int) -> bool:
        """The first distance that leads to where nothing is mapped, and the process has room."""
        for jump in DISTANCES:
            self._distance = int.from_bytes(jump, "little", signed=True)
            start = self._landing(rip & -CODE_WINDOW) & -PAGE
            region = range(start, start + SIZE)
            if region.stop > 1 << 47 or not self._shadow.host.can_reserve(region):
                continue
            if empty_tables(self._guest.memory, self._cpu, region) is None:
                continue
            self._jump = b"\xe9" + jump
            self.region = self._shadow.host.reserved = region
            self._next = start + CODE_WINDOW + PAGE
            data = self._offset + SIZE - PAGE
            assert self.patcher is not None
            self._words = self.patcher.twin[data : data + PAGE].cast("Q")
            for number in range(len(self._words)):
                self._words[number] = 0
            if self.known is not None:
                self.known.forget()  # handlers have to keep the page of data up to date
            return True
        self._given_up = True
        return False

    def _routine(self, page: CodePage, rip: int) -> tuple[Routine, int] | None:
        """The routine for the instruction at ``rip``, and the length of all instructions under the
        jump. None: one of these cannot be copied, or there is no room."""
        patcher = self.patcher
        assert patcher is not None
        bits = 64 if is_long(self._cpu) else 32
        routine = Routine(self._next, self.region.stop - PAGE, bits)
        at, reached = rip, True
        while at < rip + JUMP_LENGTH:
            offset = at - (rip & -PAGE)
            if offset < PAGE and offset not in page.starts and (reached or self._is_padding(at)):
                patcher.discover(at)
            insn = page.starts.get(offset)
            if insn is None or offset + insn.length > PAGE or page.covering(offset) is not None:
                return None
            reached = insn.mnemonic not in ("jmp", "ret")
            if not self._add(routine, page, offset, insn, at):
                return None
            at += insn.length
        routine.go_back(at)
        if routine.here > self.region.stop - PAGE:
            self._given_up = True
            return None
        return routine, at - rip

    def _is_padding(self, at: int) -> bool:
        """Is there what compilers put between functions? Behind a RET may lie data, too, and a store
        to what is taken for code has the whole page decoded anew."""
        return self._guest.memory.view[self._guest.mmu.locate(at)] in PADDING

    def _add(self, routine: Routine, page: CodePage, offset: int, insn: Instruction, at: int) -> bool:
        patcher = self.patcher
        assert patcher is not None
        try:
            if insn.code in ANSWERED:
                routine.answer(insn, at)
            elif insn.sensitivity is not Sensitivity.ORDINARY:
                routine.leave(at)
            elif not may_be_copied(insn) or patcher.has_to_trap(page, offset):
                return False
            else:
                routine.copy(insn, at)
        except NotCopiedError:
            return False
        return True

    def _write(self, at: int, code: bytes | bytearray) -> None:
        assert self.patcher is not None
        place = self._offset + at - self.region.start
        self.patcher.twin[place : place + len(code)] = code

    def _stands(self, rip: int) -> Callout | None:
        """The callout at ``rip``, if the patcher has left it there."""
        callout = self._landings.get(self._landing(rip)) if self.region else None
        if callout is None or self.patcher is None:
            return None
        try:
            page = self.patcher.pages.get(self._guest.mmu.locate(rip) & -PAGE)
        except GuestFault:
            return None
        return callout if page is not None and page.callouts.get(rip % PAGE) is callout else None

    def _give_up(self) -> None:
        """The guest maps the region itself: every instruction exits again."""
        self.close()
        self._shadow.forget_others()
        self._given_up = True
        self._shadow.host.reserved = range(0)
        if self.patcher is not None:
            self.patcher.uncover()

    # Open and closed

    def _suits(self) -> bool:
        """Can the routines work in the CPU's present state?"""
        cpu = self._cpu
        if cpu.rflags & ~(_LENT | _IF) != Flag.FIXED or not cpu.cr0 & Cr0.PG:
            return False
        return is_long(cpu) or (is_flat(cpu, CS) and is_flat(cpu, SS))

    def open(self) -> bool:
        """Map the region, if it is not the guest's."""
        patcher, shadow = self.patcher, self._shadow
        if self._shadow.host.shown:
            return True
        if patcher is None or self._given_up or self._cpu.cpl or not self._suits():
            return False
        frames = empty_tables(self._guest.memory, self._cpu, self.region)
        if frames is None:
            self._give_up()
            return False
        if any(
            frame in patcher.pages or not self._guest.memory.is_ram(frame, PAGE) for frame in frames
        ):
            return False
        shadow.watch_tables(frames)
        shadow.host.shown = bool(shadow.watched) and shadow.host.show_reserved(self._offset)
        return shadow.host.shown

    def _hidden(self) -> None:
        """Everything has been unmapped."""
        self._shadow.host.shown, self._shadow.watched = False, frozenset()

    def _resumed(self) -> None:
        """The guest has come back to tables with which the region was open."""
        frames = empty_tables(self._guest.memory, self._cpu, self.region) if self.region else None
        if frames is None or frozenset(frames) != self._shadow.watched:
            self.close()

    def close(self) -> None:
        """Unmap the region until the next jump to it."""
        if self._shadow.host.shown:
            self._hidden()
            self._shadow.host.hide_reserved()

    # Entries and exits

    def entering(self) -> None:
        """Before an entry: the virtual IF into the page of data, and RIP to a copy where the guest is
        under a jump."""
        cpu = self._cpu
        self._entered = bool(self.region) and not cpu.rip >> 47  # nothing is planted in the upper half
        if not self._entered:
            return
        self.give()
        if cpu.cpl:
            return
        if self._shadow.host.shown and not self._suits():
            self.close()
        copy = self._copy_of(cpu.rip)
        if copy is not None and self.open():
            cpu.rip = copy

    def _copy_of(self, rip: int) -> int | None:
        """Where the copy of an instruction in the middle of a jump is."""
        callout = self._middles.get(rip)
        if callout is None or self._stands(callout.gva) is not callout:
            return None
        return callout.copies.get(rip)

    def left(self, exit: Exit) -> Exit:
        """After an exit: registers and exit as they would be without callouts."""
        self.in_copy = False
        if not self._entered:
            return exit
        cpu = self._cpu
        if cpu.rip in self.region:
            exit = self._leave(exit)
        words = self._words
        if words[Field.STI]:
            if words[Field.STI] == cpu.rip and words[Field.FLAG]:
                cpu.interrupt_shadow = True
                if self.known is not None:
                    self.known.shadow_at = cpu.rip
            words[Field.STI] = 0
        self.take_back()
        return exit

    def _leave(self, exit: Exit) -> Exit:
        """The guest was stopped in the region."""
        cpu = self._cpu
        callout = self._landings.get(cpu.rip)
        if callout is not None:  # it has jumped, and no more
            cpu.rip = callout.gva
            if isinstance(exit, Fault) and exit.vector == Vector.PF:
                return INTERRUPTED if self.open() else _GENERAL_PROTECTION
            return _GENERAL_PROTECTION if exit is STEPPED else exit
        steps = 0
        while (place := self._places.get(cpu.rip)) is None:
            steps += 1
            stepped = self._engine.step(cpu) if steps < MOST_STEPS else _GENERAL_PROTECTION
            if cpu.rip not in self.region:
                return exit
            if isinstance(stepped, Fault):  # the guest has got here by itself: it has nothing there
                return Fault(Vector.PF, None, cpu.rip)
            if stepped.__class__ not in (STEPPED.__class__, INTERRUPTED.__class__):
                return stepped
        cpu.rip = place.rip
        if place.leave or (place.answer and isinstance(exit, Fault)):
            return _GENERAL_PROTECTION
        self.in_copy = isinstance(exit, Fault)
        return exit

    def give(self) -> None:
        """Write the virtual IF, and whether an interrupt waits for it."""
        words, flag, guest = self._words, self._cpu.rflags & _IF, self._guest
        words[Field.FLAG] = flag
        words[Field.DELTA] = 0 if flag else (1 << 64) - _IF
        words[Field.PENDING] = guest.board.interrupt_pending

    def take_back(self) -> None:
        """Read the virtual IF, and count the answers."""
        words, cpu = self._words, self._cpu
        cpu.rflags = cpu.rflags & ~_IF | words[Field.FLAG] & _IF
        count = words[Field.COUNT]
        if count:
            words[Field.COUNT] = 0
            self._trace.by_reason[Reason.CALLOUT] += min(count, MASK32)

    def around(self, handler: Handler) -> Handler:
        """A handler of known exits (cores/vmm/known_exits.py) that finds the virtual IF where the VMM
        has it."""
        if not self.region:
            return handler

        def handle() -> bool | None:
            self.take_back()
            self._words[Field.STI] = 0  # the instruction of this exit was executed after it
            went_on = handler()
            self.give()
            return went_on

        return handle

    def missed(self, rip: int) -> bool:
        """The guest has branched into the middle of a jump, to an ordinary instruction. True: it goes
        on in its copy."""
        if not self.region or self._copy_of(rip) is None or not self.open():
            return False
        gva = self._middles[rip].gva
        misses = self._misses[gva] = self._misses.get(gva, 0) + 1
        if misses > MOST_MISSES and self.patcher is not None:
            self._refused.add(gva)
            self.patcher.uncover(self.patcher.pages[self._guest.mmu.locate(rip) & -PAGE])
        return True
