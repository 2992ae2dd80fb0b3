"""Equivalence check: compares the state of machines after the same instruction.

Popek and Goldberg's first property is checked literally (contract.md, Commands): after each instruction
the registers and the memory that it wrote; at each exit the pages written since the last one; at the
end all of RAM. The first difference is reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from cores.machine.machine import ACCESSED_AND_DIRTY, Machine
from cores.machine.report import Divergence
from cores.pc.stop import Stop
from cores.x86.fxsave import differences
from cores.x86.isa.decoder import text
from cores.x86.isa.instruction import Instruction
from cores.x86.mmu.paging import PAGE
from cores.x86.mmu.table_pages import table_pages
from cores.x86.registers import STATE_NAMES

Values = dict[str, dict[str, int | str | None]]

_PACE = {
    width: int.from_bytes(ACCESSED_AND_DIRTY.to_bytes(width, "little") * (PAGE // width), "little")
    for width in (4, 8)
}
"""The A and D bits of a page full of page-table entries, by the bytes of an entry."""
STALE = (
    "Before it the guest has changed its page tables, and has neither executed INVLPG nor loaded CR3"
    " since. Until it does, the CPU may use the old translation or the new one (SDM vol. 3, 4.10.4.3):"
    " if this instruction depends on it, all of these results are right."
)


def _are_equal(values: Sequence[object]) -> bool:
    """Are all of them equal? Asked at each step, so in one call, and not by a generator."""
    return values.count(values[0]) == len(values)


class Lockstep:
    """Compares machines that have completed equally many instructions; the first is the reference.

    compared: steps found equal. divergence: the first difference; nothing is compared after it.

    _written: pages stored to since the last exit. _unflushed: the same since the reference's TLB was
    last flushed (``_flushes`` times so far).
    """

    def __init__(self, machines: list[Machine]) -> None:
        self.machines = machines
        self.compared = 0
        self.divergence: Divergence | None = None
        self._written: set[int] = set()
        self._unflushed: set[int] = set()
        self._flushes = 0
        self._ended = False  # all of RAM has been compared at the end
        self._exits = [0] * len(machines)
        self._watch()

    def after_step(self) -> None:
        """Compare after all machines have made the same step."""
        reference = self.machines[0]
        vmm = reference.vmm
        differs = self._registers()
        ranges = self._ranges()
        for gpa, length in ranges:
            differs |= self._memory(gpa, length)
        insn = vmm.last
        differs |= self._outcome()
        if insn is not None and insn.floating:
            differs |= self._floating()
        if differs:
            self._diverged(differs, insn)
            return
        self.compared += 1
        self._at_exits(insn)

    def at_end(self) -> None:
        """Compare all of RAM, and the screens, after all machines have stopped."""
        if self.divergence is not None or len(self.machines) < 2 or self._ended:
            return
        first = self.machines[0].memory_image()
        differs: Values = {}
        for machine in self.machines[1:]:
            image = machine.memory_image(first)
            page = next(image.differing_pages(first), None)
            if page is not None:
                ours, theirs = first.page(page), image.page(page)
                address = page + next(i for i in range(PAGE) if ours[i] != theirs[i])
                differs |= {f"mem:{address:#x}": self._byte(address)}
                break
        screens = {m.core: m.board.screen() for m in self.machines}
        if len(set(screens.values())) > 1:
            differs["screen"] = dict(screens)
        if differs:
            self._diverged(differs, None)
        self._ended = True

    def after_stretch(self) -> None:
        """Compare registers, x87 state and outcome after a stretch of equally many instructions
        (cores/lockstep/leader.py)."""
        if differs := self._registers() | self._outcome() | self._floating():
            self._diverged(differs, None)
        self.compared = self.machines[0].vmm.instructions

    def pages_differ(self, pages: set[int]) -> bool:
        """Does any of these pages (GPA) differ between machines?"""
        return any(self._memory(page, PAGE) for page in pages)

    @staticmethod
    def same_page(page: int, one: Machine, other: Machine) -> bool:
        """Is a page (GPA) of RAM the same on two machines, except A and D bits in page tables?"""
        return Lockstep.same_pages((page,), one, other)

    @staticmethod
    def same_pages(pages: Iterable[int], one: Machine, other: Machine) -> bool:
        """Are all of these the same, as ``same_page`` says?"""
        found: tuple[dict[int, int], ...] | None = None  # the tables' pages of both
        for page in pages:
            ours, theirs = (bytes(m.memory.view[page : page + PAGE]) for m in (one, other))
            if ours == theirs:
                continue
            differing = int.from_bytes(ours, "little") ^ int.from_bytes(theirs, "little")
            if differing & ~_PACE[4]:
                return False
            if found is None:
                found = tuple(table_pages(m.memory, m.roots) for m in (one, other))
            if not any(page in tables and not differing & ~_PACE[tables[page]] for tables in found):
                return False
        return True

    # What is compared

    def _registers(self) -> Values:
        states = [machine.cpu.state() for machine in self.machines]
        if _are_equal(states):
            return {}
        columns = zip(STATE_NAMES, *states, strict=True)
        return {
            name: dict(zip(self._names(), values, strict=True))
            for name, *values in columns
            if len(set(values)) > 1
        }

    def _ranges(self) -> set[tuple[int, int]]:
        """Guest physical ranges written on any machine since the last comparison."""
        ranges: set[tuple[int, int]] = set()
        for machine in self.machines:
            log = machine.memory.writes
            if log:
                if machine.vmm.patched is not None:
                    machine.vmm.patched.wrote(log)
                ranges.update(log)
                log.clear()
            if machine.vmm.stored:
                ranges.update(machine.vmm.stored)
        flushes = self.machines[0].vmm.flushes
        if flushes != self._flushes:
            self._flushes = flushes
            self._unflushed.clear()
        for gpa, length in ranges:
            pages = range(gpa // PAGE, (gpa + length - 1) // PAGE + 1)
            self._written.update(pages)
            self._unflushed.update(pages)
        return ranges

    def _memory(self, gpa: int, length: int) -> Values:
        if _are_equal([machine.memory.view[gpa : gpa + length] for machine in self.machines]):
            return {}
        for at in range(gpa, gpa + length):
            values = {machine.memory.view[at] for machine in self.machines}
            if len(values) > 1 and not self._only_accessed_or_dirty(at, values):
                return {f"mem:{at:#x}": self._byte(at)}
        return {}

    def _only_accessed_or_dirty(self, gpa: int, values: set[int]) -> bool:
        """Do the values differ only in the A and D bits of a page-table entry?"""
        if gpa % 4 or any((a ^ b) & ~ACCESSED_AND_DIRTY for a, b in pairwise(values)):
            return False
        tables = (table_pages(m.memory, m.roots) for m in self.machines)
        return any(gpa & -PAGE in found and gpa % found[gpa & -PAGE] == 0 for found in tables)

    def _byte(self, gpa: int) -> dict[str, int | str | None]:
        return {machine.core: machine.memory.view[gpa] for machine in self.machines}

    def _floating(self) -> Values:
        images = [machine.fpu() for machine in self.machines]
        failed = any(machine.stop is Stop.ERROR for machine in self.machines)  # it may have none
        if failed or _are_equal(images):
            return {}
        return differences(dict(zip(self._names(), images, strict=True)))

    def _outcome(self) -> Values:
        machines = self.machines
        first = machines[0]
        running = first.vmm.stop is None  # then the lengths of the consoles are enough
        if running and _are_equal(
            [(m.vmm.stop, m.vmm.exit_status, len(m.board.console)) for m in machines]
        ):
            return {}
        differs: Values = {}
        if any(m.vmm.stop is not first.vmm.stop for m in machines):
            differs["stop"] = {m.core: m.vmm.stop for m in machines}
        if any(m.vmm.exit_status != first.vmm.exit_status for m in machines):
            differs["exit_status"] = {m.core: m.vmm.exit_status for m in machines}
        length = len(first.board.console)
        if any(len(m.board.console) != length for m in machines) or (
            first.vmm.stop is not None and any(m.board.console != first.board.console for m in machines)
        ):
            differs["console"] = {m.core: m.console() for m in machines}
        return differs

    def _at_exits(self, insn: Instruction | None) -> None:
        """At an exit: compare the pages written since the last one."""
        exits = [machine.vmm.trace.exits for machine in self.machines]
        if exits == self._exits:
            return
        self._exits = exits
        differs: Values = {}
        for page in self._written:
            differs |= self._memory(page * PAGE, PAGE)
        self._written.clear()
        if differs:
            self._diverged(differs, insn)

    def _names(self) -> list[str]:
        return [machine.core for machine in self.machines]

    def _diverged(self, differs: Values, insn: Instruction | None) -> None:
        vmm = self.machines[0].vmm
        done = max(0, vmm.instructions - 1) if insn is not None else vmm.instructions
        values: Values = {
            core: {name: columns[core] for name, columns in differs.items()} for core in self._names()
        }
        asm = text(insn, vmm.last_rip) if insn is not None else None
        remark = STALE if self._translations_may_be_stale() else ""
        self.divergence = Divergence(done, vmm.last_rip, asm, tuple(differs), values, remark)
        self.pause()

    def _translations_may_be_stale(self) -> bool:
        """Has the guest stored to its page tables since it last flushed a TLB entry?"""
        first = self.machines[0]
        tables = table_pages(first.memory, first.roots)
        return any(page * PAGE in tables for page in self._unflushed)

    def leave(self, failed: list[Machine]) -> None:
        """Compare without these machines from here on."""
        self.machines = [machine for machine in self.machines if machine not in failed]
        self._exits = [machine.vmm.trace.exits for machine in self.machines]
        self._watch()

    def pause(self) -> None:
        """Stop recording writes, while machines go elsewhere in time or after they have diverged."""
        for machine in self.machines:
            machine.memory.writes = None
            machine.vmm.watching = False

    def resume(self, instruction: int) -> None:
        """Compare again from ``instruction``, where all machines are, unless they diverged before
        it."""
        if self.divergence is not None and self.divergence.instruction < instruction:
            return
        self.divergence = None
        self._ended = False
        self.compared = instruction
        self._watch()
        self._written.clear()
        self._unflushed.clear()
        self._exits = [machine.vmm.trace.exits for machine in self.machines]

    def _watch(self) -> None:
        if len(self.machines) < 2:
            self.pause()
            return
        for machine in self.machines:
            machine.memory.writes = []
        for machine in self.machines[:1]:
            machine.vmm.watching = True
