"""The patcher: which code is decoded, and so may stand in the patched twin (twin.py).

Code is decoded from where the guest is about to execute, as far as direct branches lead within the
page, up to the next instruction that traps; and from the branch targets known in a page, when that is
mapped for execution.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from cores.pc.physical_memory import PhysicalMemory
from cores.vmm.patching.code_page import CodePage
from cores.vmm.patching.twin import HLT, LONGEST, TRUST, Twin
from cores.x86.faults import GuestFault
from cores.x86.isa.branches import direct_target, words_pushed
from cores.x86.isa.decoder import Truncated, decode
from cores.x86.isa.instruction import Instruction, Sensitivity
from cores.x86.mmu.paging import PAGE, Mmu
from cores.x86.registers import MASK32, MASK64, Cr0, Cr4
from cores.x86.virtual_cpu import VirtualCpu

SHARE_AFTER = 24
"""Data accesses to a code page, each some 100 us, before it becomes a shared one; twice as many after
each change of its code, up to ``MOST_DOUBLED`` times: each then costs more than they did."""
MOST_DOUBLED = 6
MOST_TARGETS = 65_536
"""Limit of known branch targets, some 100 bytes each. A guest that rewrites its branches makes ever
more of them; none may be dropped alone, so past the limit everything is discovered anew
(``crowded``)."""


class Patcher(Twin):
    """Decodes guest code and keeps the twin.

    bits: the width of the code that is patched; the same bytes are other instructions in another.
    trusts: some indirect branches are no longer caught (``TRUST``). The others: see ``Twin``.
    """

    def __init__(
        self,
        twin: memoryview,
        memory: PhysicalMemory,
        mmu: Mmu,
        cpu: VirtualCpu,
        *,
        bits: int = 64,
        hidden: bool,
        on_change: Callable[[], None] = lambda: None,
        on_forget: Callable[[int], None] = lambda _: None,
    ) -> None:
        super().__init__(twin, memory, hidden=hidden, on_change=on_change, on_forget=on_forget)
        self.mmu = mmu
        self.cpu = cpu
        self.bits = bits
        self.trusts = False
        self._mask = MASK64 if bits == 64 else MASK32
        self._targets: dict[int, set[int]] = {}  # GVA of a page -> branch targets in it
        self._known = 0  # targets in all
        self._last: tuple[int, CodePage | None] = -1, None  # GVA and page that code was decoded in last

    @property
    def crowded(self) -> bool:
        """Are there so many targets that a new patcher has to begin without any?"""
        return self._known > MOST_TARGETS

    # Discovery

    def discover(self, rip: int) -> bool:
        """Decode from ``rip`` as far as direct branches lead, up to the next instruction that traps.
        False: everything was known already."""
        self._last = -1, None
        released = self._release(rip)
        found = released is not None
        todo = [*(released or ()), (rip, self._pushed_words(rip))]
        while todo:
            at, words = todo.pop()
            while (insn := self._reveal(at, words)) is not None:
                found = True
                following = at + insn.length
                words = words_pushed(insn, words)
                todo += self._inside(at, following)
                target = direct_target(insn, following) if insn.ends_block else None
                if target is not None and not self._postpones(insn, at, target):
                    if (target ^ rip) & -PAGE == 0:
                        todo.append((target, words if insn.mnemonic == "jmp" else 0))
                    else:
                        todo += self._leaving(at, target)
                if insn.sensitivity is not Sensitivity.ORDINARY:
                    self._keep_pushed_words(following, words)
                    break
                if insn.mnemonic in ("jmp", "ret", "ud2"):
                    break
                if (following ^ at) & -PAGE:
                    todo += self._leaving(at, following)
                    break
                at = following
        return found

    def _place(self, rip: int) -> tuple[CodePage | None, int]:
        """The page of code at ``rip``, if it is one, and the offset there."""
        try:
            gpa = self.mmu.locate(rip)
        except GuestFault:
            return None, 0
        return self.pages.get(gpa & -PAGE), gpa % PAGE

    def _pushed_words(self, rip: int) -> int:
        """Number of words that the code before ``rip`` has pushed (cores/x86/isa/branches.py)."""
        page, offset = self._place(rip)
        return page.pushed_words.get(offset, 0) if page is not None else 0

    def _postpones(self, insn: Instruction, at: int, target: int) -> bool:
        """Shall a direct branch trap once, since its target is not decoded yet and no HLT stands
        there?"""
        elsewhere = (target ^ at) & -PAGE != 0
        if self.hidden or not (elsewhere or insn.mnemonic == "call"):
            return False
        page, offset = self._place(at)
        if page is None:
            return False
        known = self._targets.get(target & -PAGE, ()) if elsewhere else page.starts
        if (target if elsewhere else target % PAGE) in known:
            return False
        page.postponed.add(offset)
        self._patch(page, offset, offset + 1)
        return True

    def _release(self, rip: int) -> list[tuple[int, int]] | None:
        """Let a branch that ``_postpones`` has caught run from now on. Gives what is to be decoded;
        None: there is no such branch."""
        page, offset = self._place(rip)
        if page is None or offset not in page.postponed:
            return None
        page.postponed.discard(offset)
        insn = page.starts[offset]
        self._show(page.gpa + offset, insn.code[:1])
        self._patch(page, offset, offset + 1)
        target = direct_target(insn, rip + insn.length)
        assert target is not None
        return self._leaving(rip, target) if (target ^ rip) & -PAGE else [(target, 0)]

    def _keep_pushed_words(self, rip: int, words: int) -> None:
        """Keep the count where the guest will stop: the stack is the same when it goes on."""
        with suppress(GuestFault):
            gpa = self.mmu.locate(rip)
            if words and self.memory.is_ram(gpa):
                self.adopt(gpa & -PAGE).pushed_words[gpa % PAGE] = words

    def _promised(self, target: int) -> list[tuple[int, int]]:
        """Note a branch target in another page. Where no HLT would catch the branch it is decoded now,
        else when that page is first executed. Gives (address, pushed words) of what to decode."""
        known = self._targets.setdefault(target & -PAGE, set())
        self._known += target not in known
        known.add(target)
        return [(target, 0)] if self._visible(target) else []

    def _leaving(self, at: int, target: int) -> list[tuple[int, int]]:
        """``_promised`` for an instruction at ``at`` that leads out of its page: from each address at
        which the page is executed it leads elsewhere."""
        todo, page = self._promised(target), self._place(at)[0]
        if page is not None and page.aliased:
            for place in page.places - {at & -PAGE}:
                todo += self._promised(target - (at & -PAGE) + place & self._mask)
        return todo

    def _promise_from(self, page: CodePage, gva: int) -> None:
        """A page is executed at one more address: decode where its instructions lead from there."""
        for offset, insn in tuple(page.starts.items()):
            following = gva + offset + insn.length & self._mask
            target = direct_target(insn, following)
            ways = [following] if insn.mnemonic not in ("jmp", "ret", "ud2") else []
            if target is not None and offset not in page.postponed:
                ways.append(target)
            for way in ways:
                if (way ^ gva) & -PAGE:
                    for at, _ in self._promised(way):
                        self.discover(at)

    def _inside(self, at: int, following: int) -> list[tuple[int, int]]:
        """The branch targets in the middle of an instruction that has just been put into the twin."""
        known = self._targets.get(at & -PAGE)
        return [(t, 0) for t in range(at + 1, following) if t in known] if known else []

    def _visible(self, target: int) -> bool:
        """Would code at ``target`` run undecoded: its page is mapped for execution, and without a
        HLT?"""
        try:
            gpa = self.mmu.locate(target)
        except GuestFault:
            return False
        page = self.pages.get(gpa & -PAGE)
        if page is None or page.at is None or gpa % PAGE in page.starts:
            return False
        return page.shared or not self.hidden or self.twin[gpa] != HLT

    def entering(self, rip: int) -> bool:
        """Decode ``rip`` if execution there would otherwise go unnoticed. True: code was found."""
        return self._visible(rip) and self.discover(rip)

    def _reveal(self, rip: int, words: int) -> Instruction | None:
        """Put one instruction into the twin. None: it is there already, or none can be decoded. words:
        how many return addresses the code has pushed that a RET would return to."""
        page, offset = self._executing(rip), rip % PAGE
        insn = self._decode(page, rip) if page is not None else None
        if page is None or insn is None:
            return None
        end, tail = offset + insn.length, 0
        if end > PAGE:
            tail = self.mmu.translate(rip + PAGE - offset, execute=True)
            if not self.memory.is_ram(tail):
                return None
        known = page.starts.get(offset)
        if known is not None and known.code == insn.code and page.tails.get(offset, 0) == tail:
            return None
        if insn.mnemonic == "ret" and words:
            page.pushed_words[offset] = words
        self.show_new(page, offset, insn, tail)
        return insn

    def _decode(self, page: CodePage, rip: int) -> Instruction | None:
        """The instruction at ``rip``, which lies in ``page``; None where none may be executed."""
        offset = rip % PAGE
        at = page.gpa + offset
        inside = offset <= PAGE - LONGEST
        try:
            code = bytes(self.memory.view[at : at + LONGEST]) if inside else self.mmu.fetch(rip)
            return decode(code, self.bits)
        except Truncated:
            return None
        except GuestFault:  # the platform lacks it; this host's CPU may have it
            self._refuse(page, offset)
            return None

    def _executing(self, rip: int) -> CodePage | None:
        """The page of code that is executed at ``rip``. None: there is none, or a device, which holds
        no code. It stays the same as long as code is decoded without the guest going on."""
        gva = rip & -PAGE
        if self._last[0] != gva:
            try:
                gpa = self.mmu.translate(rip, execute=True) & -PAGE
            except GuestFault:
                return None
            if not self.memory.is_ram(gpa, PAGE):
                return None
            self._last = gva, self.adopt(gpa)
        return self._last[1]

    # Pages that are mapped for execution

    def executed(self, gva: int) -> None:
        """Note that a page is mapped for execution, and decode from the targets known in it."""
        try:
            gpa = self.mmu.translate(gva, execute=True)
        except GuestFault:
            return
        gva &= -PAGE
        page = self.adopt(gpa & -PAGE)
        page.at = gva
        new = gva not in page.places
        page.places.add(gva)
        if page.aliased:
            self._patch(page, PAGE - 1, PAGE)
            if new:
                self._promise_from(page, gva)
        for neighbour in (gva, gva - PAGE):
            self._look_behind(neighbour & MASK64)
        targets = self._targets.get(gva, set())
        if page.met == len(targets) and not page.aliased:
            return  # it was executed before, and is mapped again
        page.met = len(targets)
        for target in tuple(targets):  # decoding may add targets in this page
            self.entering(target)

    def has_met(self, page: CodePage, gva: int) -> bool:
        """Would ``executed`` find nothing new in this page at ``gva``, but for the page behind it?"""
        return not page.aliased and page.at == gva and page.met == len(self._targets.get(gva, ()))

    def _look_behind(self, gva: int) -> None:
        """Refuse instructions that reach into the next page where another page follows now."""
        with suppress(GuestFault):  # no page follows
            page = self.pages.get(self.mmu.locate(gva))
            if page is not None and page.tails:
                behind = self.mmu.locate(gva + PAGE & MASK64)
                for offset in [o for o, tail in page.tails.items() if tail != behind]:
                    self._refuse(page, offset)

    # What changes the patches

    def branched(self, branch: int, target: int) -> None:
        """Note where an indirect branch led (GVAs), and stop catching it after ``TRUST`` known
        targets."""
        known = not self.discover(target)
        gpa = self.mmu.locate(branch)
        page, offset = self.pages[gpa & -PAGE], gpa % PAGE
        page.trusted[offset] = page.trusted.get(offset, 0) + 1 if known else 0
        if page.trusted[offset] == TRUST and not page.covering(offset):
            self.trusts = True
            self._show(gpa, bytes(self.memory.view[gpa : gpa + 1]))
            self._patch(page, offset, offset + 1)

    def control_changed(self) -> None:
        """After a write to CR0 or CR4: patch or restore x87 and SSE instructions."""
        unusual = self.cpu.cr0 & (Cr0.TS | Cr0.EM) or not self.cpu.cr4 & Cr4.OSFXSR
        if bool(unusual) != self.floating:
            self.floating = bool(unusual)
            for page in self.pages.values():
                self._rescan(page)

    def count_data_access(self, page: CodePage) -> bool:
        """Count a data access to a code page. True: the page has just become a shared one."""
        page.data_accesses += 1
        if page.shared or page.data_accesses < SHARE_AFTER << min(page.changes, MOST_DOUBLED):
            return False
        page.shared = True
        self.shared.append(page)
        if not self.catch_branches:  # no uncaught branch may lead into a shared page
            self.catch_branches = True
            for other in self.pages.values():
                self._rescan(other)
        self._rescan(page)
        for target in [target for targets in self._targets.values() for target in targets]:
            self.entering(target)
        return True
