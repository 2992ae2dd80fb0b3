"""Free runs on Unicorn: full blocks of translated code with an exact instruction count.

Unicorn can count by itself, with a hook before each instruction; that costs a factor of 18, counts
the iterations of a REP and counts twice a store that modifies its own block. So here a hook is called
before each *block*. A block is decoded once, and its description is kept by address and length until
Unicorn translates it anew. Entering it then costs one look-up, in machine code (block_counter.py)
except for the last three kinds:

    count      its instructions are counted when it is entered; a fault gives back the rest
    REP        always ends its block; each further iteration is a block of that one instruction;
               one that stores to its own bytes is left to the VMM; REP STOS has help (bulk_store.py)
    a store    that changes its own block is restarted, in a block with no other instruction
    special    a block with an instruction for the VMM in it is walked step by step up to there

A single step needs no counting either: in an interrupt shadow, as after STI, Unicorn's blocks have one
instruction. So the shadow is set for each stepped instruction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import or_

from cores.engines.base import BUDGET_SPENT, INTERCEPT, INTERRUPTED, STEPPED, Exit, Fault
from cores.engines.unicorn.block_counter import HELPED
from cores.engines.unicorn.bulk_store import BulkStore, may_help
from cores.engines.unicorn.checks import may_stack_fault
from cores.engines.unicorn.cpu import PAGE, Fetch, UnicornCpu, opens_shadow
from cores.engines.unicorn.known_blocks import KnownBlocks
from cores.pc.physical_memory import PhysicalMemory
from cores.x86.faults import GuestFault
from cores.x86.isa.accesses import overwrites_itself
from cores.x86.isa.decoder import Truncated, decode
from cores.x86.isa.instruction import Immediate, Instruction
from cores.x86.isa.segment_limits import SEGMENTS, limited_segments, segments_used
from cores.x86.mode import code_bits, is_long
from cores.x86.registers import (
    ARITHMETIC_FLAGS,
    CS,
    MASK64,
    RCX,
    RSP,
    Cr0,
    Efer,
    Flag,
    Vector,
    canonical,
)
from cores.x86.virtual_cpu import VirtualCpu

UNLIMITED = 1 << 62
_LARGEST, _LARGEST_LONG = 1 << 22, 1 << 30
"""The largest page outside long mode, and in it (SDM vol. 3, table 4-1)."""
READS_EXCEPTIONS = frozenset({"stmxcsr", "fnstsw"})
_ASKED, _STEPPING, _NEW_REP = 0, 1, HELPED
"""Requests to call Python for every block (``BlockCounter.stop``): the run shall stop; it is a single
step; the REP under way has been translated anew, or is to be helped."""
OPENS_WINDOW = frozenset({"sti", "popf"})
"""Instructions that may set IF, besides those which the VMM completes anyway (IRET, SYSRET). A pending
interrupt is delivered after them, or after STI's shadow (SDM vol. 2, STI), although a later instruction
of the same block may clear IF again."""
MOST_ARRIVALS = 256
"""Addresses at which Unicorn stops by itself: it looks through them for each instruction that it
translates."""
STEPS_BETWEEN_RUNS = 32
"""The most single steps for which the hook stays: they cost less than translating all code twice."""


@dataclass(frozen=True, slots=True)
class Block:
    """The description of a translated block.

    offsets: of its instructions, from its first byte. special: the index of the first one that the VMM
    completes, -1 for none. rep: the offset of the REP instruction that ends it, -1 for none.
    opens: the index of the first one that may set IF, -1 for none.
    straight: the last instruction that Unicorn executes does not jump. jump: it is one jump, which
    stores nothing. alone: it has to be walked, since one of them reads the exception flags of x87 or
    SSE, which Unicorn shows only after an exit. uses: the segments that it accesses; each: those of
    each instruction (cores/x86/isa/segment_limits.py). fill: the REP STOS that ends it. arrives:
    Unicorn executes what is before ``special`` and stops there. x87: it uses the x87 register stack.
    """

    offsets: tuple[int, ...]
    special: int
    opens: int
    rep: int
    straight: bool
    jump: bool = False
    alone: bool = False
    uses: int = 0
    each: tuple[int, ...] = ()
    fill: Instruction | None = None
    arrives: bool = False
    x87: bool = False

    @property
    def length(self) -> int:
        """How many of its instructions Unicorn executes when it enters the block."""
        return self.special if self.arrives else len(self.offsets)


class FreeRunner:
    """Runs one ``UnicornCpu`` freely.

    special: is it an instruction that the VMM must complete? ``run`` stops before these.
    executed: instructions completed by the last ``run``. x87: since the last ``stop_before`` it has
    used the x87 register stack, whose faults Unicorn does not raise.
    """

    def __init__(
        self, core: UnicornCpu, memory: PhysicalMemory, special: Callable[[Instruction], bool]
    ) -> None:
        self._core = core
        self._special = special
        self._stops: frozenset[int] = frozenset()
        core.on_translation = self._on_translation
        core.on_forgotten = self.forget
        self._hook: int | None = None
        self._steps = 0
        self._limited = 0
        self._window = False  # an interrupt waits for IF
        self._counter = core.unicorn.block_counter(self._on_block, self._on_help)
        self._known: KnownBlocks[Block] = KnownBlocks(self._counter)
        quick = core.unicorn.quick_fill(self._counter, memory.ram.address)
        self._bulk = BulkStore(core, memory, quick)
        self._fetch: Fetch | None = None  # of the run, since the last translation
        self._fills: dict[int, Instruction] = {}  # of the run, too: REP STOS that may be helped
        self._stop_before = core.unicorn.before(self._on_special)
        # Where Unicorn stops: the linear address, and the physical address of its page.
        self._arrivals: set[tuple[int, int | None]] = set()
        self._arrived = self._running = False
        self.executed = 0
        self.x87 = False
        # The block entered last, its address, and the address of the REP that it ended with:
        self._block: Block | None = None
        self._at = -1
        self._held = (0, 0)
        # A single step: the address, and whether it may be entered a second time.
        self._single: int | None = None
        self._entered = self._again = False

    @property
    def active(self) -> bool:
        """Is the block hook in place?"""
        return self._hook is not None

    def stop_before(
        self, special: Callable[[Instruction], bool], stops: frozenset[int] = frozenset()
    ) -> None:
        """Set the instructions before which ``run`` stops; stops: linear addresses of more of them."""
        if special is not self._special or stops != self._stops:
            self._special, self._stops = special, stops
            self.x87 = False
            self.forget()

    def want_window(self, wanted: bool) -> None:
        """Set whether ``run`` stops before instructions that may set IF."""
        self._window = wanted

    def _watch_window(self) -> None:
        """Call Python for blocks that may set IF, while an interrupt waits for that."""
        if self._window:
            for address in self._known.space.opening:
                self._counter.forget(address)
            self._known.space.opening.clear()

    def _limit(self, limited: int) -> None:
        """Call Python for blocks that access a segment which has become limited."""
        space = self._known.space
        if added := limited & ~space.limited:
            for number in range(SEGMENTS):
                if added >> number & 1:
                    for address in space.using[number]:
                        self._counter.forget(address)
                    space.using[number].clear()
        space.limited = self._limited = limited

    def start(self, cpu: VirtualCpu) -> None:
        """Install the block hook, and discard code that was translated without it."""
        self._hook = self._core.unicorn.count_blocks(self._counter)
        self._single, self._entered, self._again = -1, True, False  # stop before the first block
        self._counter.stop(_STEPPING, True)
        try:
            self._core.stop_counting(cpu)
        finally:
            self._single = None
            self._counter.stop(_STEPPING, False)
        self._core.forget_code()

    def may_step(self) -> bool:
        """Shall ``single`` do the next step? Yes for a few steps between two runs. Many are faster
        when Unicorn counts, so the hook is then removed."""
        self._steps += 1
        if self._steps > STEPS_BETWEEN_RUNS:
            self.stop()
        return self.active

    def stop(self) -> None:
        """Remove the block hook, for exact steps that Unicorn counts."""
        if self._hook is not None:
            self._core.unicorn.unhook(self._hook)
            self._hook = None
            self._core.forget_code()

    def interrupt(self) -> None:
        """Stop the run before the next block is counted. May be called from any thread."""
        self._counter.stop(_ASKED, True)

    @property
    def _asked(self) -> bool:
        return self._counter.stopping(_ASKED)

    @property
    def _rep(self) -> int:
        """The address of the REP that ended the block entered last, -1 for none."""
        return self._counter.rep

    @property
    def _left(self) -> int:
        """Instructions left of the budget."""
        return self._counter.left

    @_left.setter
    def _left(self, value: int) -> None:
        self._counter.left = value

    def forget(self) -> None:
        """Discard all block descriptions."""
        self._catch_up()
        self._fetch = None
        self._known.forget_all()

    def flushed(self, gva: int | None = None) -> None:
        """The TLB has been flushed, by INVLPG at ``gva`` or all of it: linear addresses may be mapped
        to other code now."""
        self._known.flushed(gva, _LARGEST_LONG if self._core.cpu.efer & Efer.LMA else _LARGEST)
        self._fetch = None

    def run(self, cpu: VirtualCpu, budget: int | None) -> Exit:
        """See ``Engine.run``."""
        self._steps = 0
        if not self.active:
            self.start(cpu)
        key = (cpu.cr0 & Cr0.PG, cpu.cr3, cpu.cr4, cpu.efer, code_bits(cpu))
        self._catch_up()
        self._known.enter(key, lambda page: self._core.place(cpu, page))
        self._limit(limited_segments(cpu))
        self._watch_window()
        self._bulk.forget()
        self._fetch = None
        self._fills.clear()
        limit = UNLIMITED if budget is None else budget
        self._left = limit
        self._nowhere()
        cpu.rflags &= ~Flag.RF
        self._running = True
        try:
            return self._loop(cpu)
        finally:
            self._running = False
            self.executed = limit - self._left

    def _loop(self, cpu: VirtualCpu) -> Exit:
        core = self._core
        if self._left <= 0:
            return BUDGET_SPENT
        while not self._asked:
            self._arrived = False
            exit = core.execute(cpu)
            self._catch_up()
            if exit is not None:
                if cpu.rip >> 47 and not canonical(cpu.rip):
                    self._undo_branch(cpu)
                self._give_back(block_address(cpu))
                if isinstance(exit, Fault) and exit.vector == Vector.DB:
                    return self._single_stepped(cpu)
                if not core.translation_failed(cpu, exit):
                    return exit
                exit = self._walk(cpu, 1) if self._left else BUDGET_SPENT
            elif self._arrived:
                return INTERCEPT
            elif not self._asked:
                exit = self._examine(cpu)
            if exit is not None:
                return exit
        self._counter.stop(_ASKED, False)
        if block_address(cpu) == self._rep:
            self._left += 1  # the REP is not complete
        return INTERRUPTED

    def _undo_branch(self, cpu: VirtualCpu) -> None:
        """Undo the last block's branch to a non-canonical address. On a CPU it faults without any
        effect (SDM vol. 2, JMP, CALL, RET); Unicorn jumps, and faults there. The word that CALL has
        pushed cannot be restored, since the old one is not known (exact mode checks before it executes:
        operand_checks.check_call)."""
        if self._block is None:
            return  # a single step, which handles it itself
        at = self._at + self._block.offsets[-1]
        insn = self._core.instruction(cpu, at)
        if insn is None or not insn.ends_block or (at + insn.length) & MASK64 == cpu.rip:
            return
        mask = (1 << 8 * insn.address_size) - 1
        if insn.mnemonic == "ret":
            released = [operand.value for operand in insn.operands if isinstance(operand, Immediate)]
            cpu.gpr[RSP] = (cpu.gpr[RSP] - 8 - sum(released)) & MASK64
        elif insn.mnemonic == "call":
            cpu.gpr[RSP] = (cpu.gpr[RSP] + 8) & MASK64
        elif insn.mnemonic in ("loop", "loope", "loopne"):
            cpu.gpr[RCX] = (cpu.gpr[RCX] + 1) & mask
        cpu.rip = at

    def _single_stepped(self, cpu: VirtualCpu) -> Exit:
        """Unicorn has raised #DB for the guest's TF, which POPF set in this run. It does so after a
        load of SS, too, where a CPU waits for the next instruction (SDM vol. 3, 6.8.3)."""
        insn = self._core.instruction(cpu, self._at) if self._block is not None else None
        if insn is None or insn.mnemonic == "sti" or not opens_shadow(insn, 0):
            return Fault(Vector.DB)
        cpu.interrupt_shadow = True
        return INTERRUPTED

    def _examine(self, cpu: VirtualCpu) -> Exit | None:
        """Handle the block before which the hook has stopped the run. None: continue the run."""
        address, size = self._held
        block = self._known.space.blocks.get(self._held)
        if block is None:
            block = self._known.space.blocks[self._held] = self._learn(cpu, address, size)
            if block.rep == 0 and self._overwrites_itself(cpu, address):
                self._left += address == self._rep  # counted when it began
                return INTERCEPT
            if len(block.offsets) == 1 and (rest := self._abandoned(address)):
                # Unicorn would restart a full block here, for ever if the store changes itself.
                self._left += rest
                return self._walk(cpu, 1)
        special = self._special_in(block)
        if self._enters(block, special) and self._cost(address, block) <= self._left:
            return None
        if self._left <= 0:
            return BUDGET_SPENT
        if special < 0:
            return self._walk(cpu, min(len(block.offsets), self._left))
        if special and special == block.special and not block.arrives:
            self._arrive(cpu, address + block.offsets[special])
        exit = self._walk(cpu, min(special, self._left))
        if exit is None and block_address(cpu) == address + block.offsets[special]:
            return INTERCEPT
        return exit

    def _enters(self, block: Block, special: int) -> bool:
        """May Unicorn be let into the block? special: of ``_special_in``."""
        return not block.alone and (special < 0 or (block.arrives and special == block.special))

    def _arrive(self, cpu: VirtualCpu, at: int) -> None:
        """Have Unicorn stop before the instruction at ``at``, wherever its block begins. Without that
        each instruction before it is a step, of 9 us. Not for breakpoints, which come and go."""
        if len(self._arrivals) >= MOST_ARRIVALS or at in self._stops:
            return
        if self._core.instruction(cpu, at) is not None:
            self._arrivals.add((at, self._known.space.pages.get(at & -PAGE)))
            self._stop_before(at)

    def _on_special(self, at: int) -> None:
        """Called before each instruction at an address of ``_arrivals``."""
        if not self._running or self._single is not None:
            return
        self._catch_up()
        block = self._block
        if block is not None and block.arrives and at == self._at + block.offsets[block.special]:
            self._arrived = True
            self._core.unicorn.stop()

    def _overwrites_itself(self, cpu: VirtualCpu, address: int) -> bool:
        """Whether the REP at ``address`` stores to its own bytes. Unicorn would restart that iteration
        for ever: it abandons the block that the store changes and translates it anew."""
        insn = self._core.instruction(cpu, address)
        return insn is not None and overwrites_itself(insn, cpu)

    def _special_in(self, block: Block) -> int:
        """The index of the block's first instruction to stop before, -1 for none."""
        special = block.special
        if block.uses & self._limited:
            first = next(i for i, uses in enumerate(block.each) if uses & self._limited)
            special = first if special < 0 else min(first, special)
        if block.opens < 0 or not self._window:
            return special
        return block.opens if special < 0 else min(block.opens, special)

    def _learn(self, cpu: VirtualCpu, address: int, size: int) -> Block:
        """The description of a block, decoded if it is not known from another address space."""
        known = self._known
        frames = []
        for page in range(address & -PAGE, address + size, PAGE):
            known.space.pages[page] = self._core.place(cpu, page)
            frames.append(known.space.pages[page])
        code = (address, size), (code_bits(cpu), *frames)
        block = known.elsewhere(*code)
        if block is None:
            block, shared = self._decode(cpu, address, size)
            if shared:
                known.share(*code, block)
        return block

    def _decode(self, cpu: VirtualCpu, address: int, size: int) -> tuple[Block, bool]:
        """Decode a block, and whether the result depends on its bytes alone, not on access rights."""
        offsets, special, opens, offset, alone, shared = [], -1, -1, 0, False, True
        x87 = False
        fetch = self.fetching(cpu)
        uses: list[int] = []
        insn = None
        while offset < size:
            offsets.append(offset)
            try:
                insn = decode(fetch(address + offset), code_bits(cpu))
            except GuestFault:  # the VMM reports it: Unicorn would execute some of these
                special = len(offsets) - 1 if special < 0 else special
                shared = False
                break
            except Truncated:
                shared = False
                break  # it will fault
            uses.append(segments_used(insn))
            if special < 0 and (self._special(insn) or address + offset in self._stops):
                special = len(offsets) - 1
            if opens < 0 and insn.mnemonic in OPENS_WINDOW:
                opens = len(offsets) - 1
            alone |= insn.mnemonic in READS_EXCEPTIONS
            x87 |= special < 0 and may_stack_fault(insn)
            offset += insn.length
        rep = offsets[-1] if insn is not None and insn.repeat else -1
        straight = insn is not None and not insn.ends_block
        each = tuple(uses)
        fill = insn if insn is not None and may_help(insn) else None
        uses_all = reduce(or_, each, 0)
        jump = len(offsets) == 1 and insn is not None and insn.mnemonic.startswith(("j", "loop"))
        arrives = special > 0 and self._is_arrival(address + offsets[special])
        if arrives:
            rep, fill, straight = -1, None, True
        block = Block(
            tuple(offsets), special, opens, rep, straight, jump, alone, uses_all, each, fill, arrives,
            x87,
        )  # fmt: skip
        return block, shared

    def _is_arrival(self, at: int) -> bool:
        return (at, self._known.space.pages.get(at & -PAGE)) in self._arrivals

    def fetching(self, cpu: VirtualCpu) -> Fetch:
        """What fetches code in this run, and in the steps behind it. It remembers where pages are: code
        that is elsewhere since is translated before it runs, and discards it."""
        if self._fetch is None:
            self._fetch = self._core.fetcher(cpu)
        return self._fetch

    def _stops_at(self, insn: Instruction, at: int) -> bool:
        """Does the run stop before ``insn`` at the linear address ``at``?"""
        if self._special(insn) or at in self._stops or segments_used(insn) & self._limited:
            return True
        return self._window and insn.mnemonic in OPENS_WINDOW

    def _walk(self, cpu: VirtualCpu, steps: int) -> Exit | None:
        """Execute ``steps`` consecutive instructions one by one; only the last may jump. Each is
        looked at: those before it may have changed it, and of a block that could not be translated none
        has been."""
        for _ in range(steps):
            insn = self._core.instruction(cpu, fetch=self.fetching(cpu))
            if insn is None or self._stops_at(insn, block_address(cpu)):
                self._nowhere()
                return INTERCEPT
            exit = self.single(cpu, self.fetching(cpu))
            if exit is not STEPPED:
                return exit
            self._left -= 1
            self.x87 = self.x87 or may_stack_fault(insn)
        self._nowhere()
        return None

    def single(self, cpu: VirtualCpu, fetch: Fetch | None = None) -> Exit:
        """Complete one instruction: Stepped, Fault or Failed. fetch: fetches it in place of the CPU's
        own."""
        core = self._core
        rip, flags, shadow = cpu.rip, cpu.rflags, cpu.interrupt_shadow
        insn = core.instruction(cpu, fetch=fetch)
        self._single, self._entered = block_address(cpu), False
        self._again = insn is not None and (bool(insn.repeat) or not insn.ends_block)
        cpu.rflags &= ~Flag.RF
        self._counter.stop(_STEPPING, True)
        try:
            exit = core.execute(cpu, alone=True)
        finally:
            self._single = None
            self._counter.stop(_STEPPING, False)
        if cpu.rip >> 47 and isinstance(high := core.arrived_high(cpu, rip), Fault):
            exit = high
        if exit is not None and cpu.rip == rip:
            cpu.interrupt_shadow = shadow
            kept = Flag.RF | ARITHMETIC_FLAGS
            cpu.rflags = cpu.rflags & ~kept | flags & kept
            return exit
        cpu.interrupt_shadow = insn is not None and not shadow and opens_shadow(insn, flags)
        return STEPPED

    def _on_block(self, address: int, size: int) -> None:
        """Called before each block that the machine code does not count: count it, or stop before
        it."""
        if self._single is not None:
            self._on_single(address)
            return
        key = (address, size)
        block = self._known.space.blocks.get(key)
        if block is not None and block.fill is not None and self._on_iteration(address, size, block):
            return
        self._counter.stop(_NEW_REP, False)
        self._catch_up()
        if block is None:
            block = self._learn_now(address, size)
        if block is not None and self._enters(block, self._special_in(block)) and not self._asked:
            cost = self._cost(address, block)
            if cost <= self._left:
                self._left -= cost
                again = address == self._rep
                self._block, self._at = block, address
                self._counter.rep = address + block.rep if block.rep >= 0 else -1
                self._counter.entered(address, size)
                if block.fill is not None:  # Python is called for its next iteration, too
                    self._counter.stop(_NEW_REP, True)
                    if again:
                        return
                if block.opens >= 0 and self._window:
                    return
                if block.x87:
                    if self._core.cpu.cr0 & (Cr0.EM | Cr0.TS):
                        return  # it will fault
                    self.x87 = True
                if block.opens >= 0:
                    self._known.space.opening.add(address)
                for number in range(SEGMENTS if block.uses else 0):
                    if block.uses >> number & 1:
                        self._known.space.using[number].add(address)
                helped = block.fill is not None
                self._counter.remember(
                    address, size, block.length, block.rep, helped=helped, jump=block.jump
                )
                return
        self._held = key
        self._counter.stop(_NEW_REP, address == self._rep)
        self._core.unicorn.stop()

    def _learn_now(self, address: int, size: int) -> Block | None:
        """Learn a block without leaving Unicorn; None: ``_examine`` has to see whether it changes
        itself."""
        block = self._learn(self._core.cpu, address, size)
        if block.rep == 0 or len(block.offsets) == 1:
            return None
        self._known.space.blocks[address, size] = block
        return block

    def _on_iteration(self, address: int, size: int, block: Block) -> bool:
        """Help a REP STOS at an iteration that is not its first, in short. False: there is more to be
        asked."""
        if block.fill is None or len(block.offsets) > 1 or address != self._counter.rep:
            return False
        if block.special >= 0 or block.uses & self._limited or self._asked:
            return False
        self._block, self._at = block, address
        self._counter.entered(address, size)
        self._fills[address] = block.fill
        return self._on_help()

    def _on_help(self) -> bool:
        """Help a REP STOS that has been examined in this run: one in most pages of a kernel's memory.
        False: it has not been."""
        rep = self._counter.rep
        fill = self._fills.get(rep)
        if fill is None:
            return False
        self._counter.stop(_NEW_REP, not self._bulk.store(fill, rep))
        return True

    def _on_single(self, address: int) -> None:
        if not self._entered:
            self._entered = True
        elif address != self._single or not self._again:
            self._core.unicorn.stop()

    def _on_translation(self, address: int, size: int) -> None:
        self._catch_up()
        self._fetch = None
        self._fills.clear()
        self._bulk.code_changed()
        self._known.translated(address, size)
        if address == self._rep:  # its iterations are not counted, so not examined without a request
            self._counter.stop(_NEW_REP, True)

    def _nowhere(self) -> None:
        """Forget the block entered last: the next one does not continue it."""
        self._block, self._counter.rep = None, -1
        self._counter.entered(0, 0)

    def _catch_up(self) -> None:
        """Update ``_block`` and ``_at`` if the machine code counted the last block."""
        last = self._counter.last()
        if last is not None:
            self._block, self._at = self._known.space.blocks.get(last), last[0]

    def _cost(self, address: int, block: Block) -> int:
        """The number of instructions to count when the block is entered."""
        cost = block.length
        if address == self._rep:
            return cost - 1  # its next iteration
        return cost - self._abandoned(address) if cost == 1 else cost

    def _abandoned(self, address: int) -> int:
        """The number of instructions of the last block that have not been executed, if ``address`` is a
        store in it that has changed it; else 0. Nothing else causes a block of one instruction inside
        the last one, except a jump at its end that leads to itself."""
        block = self._block
        if block is None or address == self._rep:
            return 0
        try:
            index = block.offsets.index(address - self._at)
        except ValueError:
            return 0
        rest = block.length - index
        return rest if rest > 1 or (rest == 1 and block.straight) else 0

    def _give_back(self, rip: int) -> None:
        """The block entered last has faulted at ``rip``: uncount its instructions from there on."""
        if self._block is not None and rip - self._at in self._block.offsets:
            self._left += self._block.length - self._block.offsets.index(rip - self._at)


def block_address(cpu: VirtualCpu) -> int:
    """The linear address at RIP as Unicorn names it: outside long mode it adds CS's base and does not
    wrap at 4 GiB, although its fetches do."""
    return cpu.rip if is_long(cpu) else cpu.segments[CS].base + cpu.rip
