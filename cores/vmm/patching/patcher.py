"""Binary patching: sensitive instructions that do not trap are made to, in free mode on the real CPU.

In exact mode every instruction is decoded before it runs. At full speed none is, and PUSHF, SGDT or a
far return would show the guest the host's state. So guest code is never executed from the guest's RAM,
but from a *twin* of it, in which

    every byte not yet decoded        is 0xF4, HLT: a jump there traps, the code is decoded as far as
                                      direct branches lead, and the guest goes on (reason ``scan``)
    every harmless instruction        is itself
    every sensitive, silent one       begins with 0xF4: it traps, and is emulated; so are its other
                                      bytes, unless they are another instruction's
    some of these, in the end         are a jump to where they are answered (cores/vmm/callouts.py)

HLT serves because RIP stays at it, and because no guest can execute it itself at ring 3. Where the CPU
has protection keys the twin's pages are execute-only, and a guest that reads or writes code as data
accesses RAM, which is unchanged: it cannot find the patches. Without them the twin can be read. Then
bytes not yet decoded have to be the guest's own, and no HLT catches a branch to them; so every indirect
branch is patched too, with each RET to an address that the code itself has pushed. A direct branch
within the page is followed ahead, but a call, or a branch to another page, is patched until it is
executed: all that calls lead to together is most of a program, of which a run executes a tenth.

Invariant: an instruction stands in the twin as it is, or it begins with HLT. An instruction that
overlaps a patch is patched itself; one that reaches into the next page is checked again when that page
changes. An address in the middle of a known instruction is decoded when the VMM or a direct branch
leads there. An indirect branch into the middle of a harmless one is not seen: its bytes have to stand.

A page in which code and data are mixed would fault at each access to its data. After a few of those
it is *shared*: the twin's page becomes readable and writable, holds the real bytes but for the
patches, and is synchronized with RAM at each exit and entry. When its code changes it is as other
pages again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from cores.pc.physical_memory import PhysicalMemory
from cores.vmm.patching.callout_code import Callout
from cores.vmm.patching.code_page import CodePage, differing
from cores.x86.faults import GuestFault
from cores.x86.isa.branches import direct_target, is_indirect, words_pushed
from cores.x86.isa.decoder import Truncated, decode
from cores.x86.isa.instruction import Instruction, Reason, Sensitivity
from cores.x86.mmu.paging import PAGE, Mmu
from cores.x86.registers import MASK64, Cr0, Cr4
from cores.x86.virtual_cpu import VirtualCpu

HLT = 0xF4
SHARE_AFTER = 24
"""Data accesses to a code page, each some 100 us, before it becomes a shared one; twice as many after
each change of its code, up to ``MOST_DOUBLED`` times: each then costs more than they did."""
MOST_DOUBLED = 6
TRUST = 16
"""An indirect branch that has been caught this often, and always led to code already known, is no
longer patched. Otherwise a loop that calls through a pointer costs 60 us a turn."""
MOST_TARGETS = 65_536
"""Limit of known branch targets, some 100 bytes each. A guest that rewrites its branches makes ever
more of them; none may be dropped alone, so past the limit everything is discovered anew
(``crowded``)."""
LONGEST = 15
"""Bytes of the longest instruction."""
_NO_CODE = bytes(PAGE)


class Patcher:
    """Decodes guest code and keeps the twin.

    bits: the width of the code that is patched; the same bytes are other instructions in another.
    hidden: the twin's pages are execute-only. floating: x87 and SSE instructions must trap too (the
    guest has set CR0.TS, say). catch_branches: indirect branches must trap too. trusts: some of these
    are no longer caught (``TRUST``). on_change: called when code or its patches change. on_forget:
    called with the GPA of a page of which all that was decoded is forgotten.
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
        self.twin = twin
        self.memory = memory
        self.mmu = mmu
        self.cpu = cpu
        self.bits = bits
        self.hidden = hidden
        self._on_change, self._on_forget = on_change, on_forget
        self.pages: dict[int, CodePage] = {}
        self.shared: list[CodePage] = []
        self.renewed: list[int] = []  # GPAs of pages that have to be mapped anew
        self.floating = False
        self.catch_branches = not hidden
        self.trusts = False
        self._targets: dict[int, set[int]] = {}  # GVA of a page -> branch targets in it
        self._known = 0  # targets in all
        self._last: tuple[int, CodePage | None] = -1, None  # GVA and page that code was decoded in last

    @property
    def crowded(self) -> bool:
        """Are there so many targets that a new patcher has to begin without any?"""
        return self._known > MOST_TARGETS

    # Discovery

    def adopt(self, gpa: int) -> CodePage:
        """The code page at ``gpa``, made at its first use."""
        page = self.pages.get(gpa)
        if page is None:
            page = self.pages[gpa] = CodePage(gpa)
            self._forget(page)
        return page

    def release(self, gpa: int) -> bool:
        """True: the page at ``gpa`` was a page of code, has none left, as that of a program that has
        ended, and is none from now on. It has to be unmapped before it is stored to or executed."""
        page = self.pages.get(gpa)
        if page is None or page.shared or page.code != _NO_CODE:
            return False
        del self.pages[gpa]
        return True

    def guard(self, page: CodePage) -> None:
        """Discard what was decoded: from now on every store to this page is seen."""
        page.guarded = True
        self._forget(page)

    def _changed(self, page: CodePage) -> None:
        """The code of a page has changed. Where the twin can be read nothing would stop the guest at a
        branch to the new code, and a shared page could be written: they are mapped anew, and decoded
        from the known targets."""
        if page.shared:
            self.shared.remove(page)
        if page.shared or not self.hidden:
            self.renewed.append(page.gpa)
        page.shared, page.data_accesses, page.changes = False, 0, page.changes + 1
        self._forget(page)

    def _forget(self, page: CodePage) -> None:
        """Fill the twin's page as unknown code: HLT, or RAM's bytes where the twin can be read."""
        page.forget()
        self._on_change()
        self._on_forget(page.gpa)
        at = slice(page.gpa, page.gpa + PAGE)
        self.twin[at] = bytes([HLT]) * PAGE if self.hidden else self.memory.view[at]
        self._loosen_heads(page)

    def _loosen_heads(self, page: CodePage) -> None:
        """Refuse instructions of the page before that reach into this one, which has changed."""
        for gpa in page.heads:
            before = self.pages.get(gpa)
            if before is None:
                continue  # it was released, with what reached into this one
            for offset in [o for o, tail in before.tails.items() if tail == page.gpa]:
                self._refuse(before, offset)
        page.heads.clear()

    def _refuse(self, page: CodePage, offset: int) -> None:
        """Patch an offset at which no instruction begins that may run; a jump there is decoded anew."""
        self._make_room(page, offset, offset + 1)
        page.starts.pop(offset, None)
        page.postponed.discard(offset)
        page.tails.pop(offset, None)
        page.refused.add(offset)
        page.code[offset] = 1
        self._patch(page, offset, offset + 1)

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
                        todo += self._promised(target)
                if insn.sensitivity is not Sensitivity.ORDINARY:
                    self._keep_pushed_words(following, words)
                    break
                if insn.mnemonic in ("jmp", "ret", "ud2"):
                    break
                if (following ^ at) & -PAGE:
                    todo += self._promised(following)
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
        return self._promised(target) if (target ^ rip) & -PAGE else [(target, 0)]

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

    def executed(self, gva: int) -> None:
        """Note that a page is mapped for execution, and decode from the targets known in it."""
        try:
            gpa = self.mmu.translate(gva, execute=True)
        except GuestFault:
            return
        gva &= -PAGE
        page = self.adopt(gpa & -PAGE)
        page.aliased |= page.at not in (None, gva)
        page.at = gva
        if page.aliased:
            self._patch(page, PAGE - 1, PAGE)
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
        if end <= PAGE and self._stands_alone(page, offset, insn):
            page.starts[offset] = insn
            page.code[offset:end] = b"\1" * insn.length
            if self.hidden:
                self.twin[page.gpa + offset : page.gpa + end] = insn.code
        else:
            if insn.mnemonic == "ret" and words:
                page.pushed_words[offset] = words
            self._show_beside(page, offset, insn, tail)
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

    def _stands_alone(self, page: CodePage, offset: int, insn: Instruction) -> bool:
        """Can a new instruction, like most, simply stand in the twin, having nothing in common with
        those that are known?"""
        if page.shared or page.callouts or not insn.plain or insn.ends_block:
            return False
        return 1 not in page.code[offset : offset + insn.length]

    def _show_beside(self, page: CodePage, offset: int, insn: Instruction, tail: int) -> None:
        """Put an instruction into the twin that may have to trap, or that shares bytes with others.
        tail: GPA of its part in the next page, if it has one."""
        gpa, within = page.gpa + offset, min(insn.length, PAGE - offset)
        self._make_room(page, offset, offset + within)
        page.starts[offset] = insn
        page.postponed.discard(offset)
        page.refused.discard(offset)
        there = slice(gpa, gpa + within)
        before, overlaps = bytes(self.twin[there]), any(page.code[offset : offset + within])
        self._show_instruction(page, offset, insn, 0, within)
        page.code[offset : offset + within] = b"\1" * within
        if within < insn.length:
            page.tails[offset] = tail
            second, rest = self.adopt(tail), insn.length - within
            second.heads.add(page.gpa)
            self._make_room(second, 0, rest)
            self._show_instruction(second, 0, insn, within, insn.length)
            second.code[:rest] = b"\1" * rest
            self._patch(second, 0, rest)
        # Others stand as before, unless they share bytes with it that are changed now. Looking at each
        # offset before it took a third of the analysis of a program.
        if (overlaps and self.twin[there] != before) or self.has_to_trap(page, offset):
            self._patch(page, offset, offset + within)

    def _show_instruction(
        self, page: CodePage, offset: int, insn: Instruction, first: int, end: int
    ) -> None:
        """Put the bytes ``first`` to ``end`` of an instruction into the twin. One that is never
        executed there leaves those of others alone; its own are HLT, which catches a branch into its
        middle."""
        code, gpa = insn.code[first:end], page.gpa + offset
        if self._covers(page, insn):
            known = page.code[offset : offset + len(code)]
            there = self.twin[gpa : gpa + len(code)]
            code = bytes(byte if k else HLT for byte, k in zip(there, known, strict=True))
        self._show(gpa, code)

    def _covers(self, page: CodePage, insn: Instruction) -> bool:
        """Is all of an instruction HLT in the twin? A page that can be read shows the guest's bytes."""
        return self.hidden and not page.shared and self.must_trap(insn)

    def _show(self, gpa: int, code: bytes) -> None:
        """Put bytes into the twin that are not stores of the guest's."""
        self.twin[gpa : gpa + len(code)] = code
        page = self.pages[gpa & -PAGE]
        if page.shared:
            page.image[gpa % PAGE : gpa % PAGE + len(code)] = code

    def _patch(self, page: CodePage, low: int, high: int) -> None:
        """Restore the invariant after a change of these bytes: each instruction that overlaps them
        stands there as it is, or traps. Downwards, since a patch may lie in the middle of those before
        it."""
        todo = [(page, low, high)]
        while todo:
            page, low, high = todo.pop()
            at, low = high - 1, low - LONGEST + 1
            while at >= max(low, 0):
                # lesson: the-patch
                # HLT is one byte long and traps in ring 3. It goes into the twin that the CPU executes;
                # the guest's RAM keeps the guest's byte.
                if self.twin[page.gpa + at] != HLT and self.has_to_trap(page, at):
                    self._show(page.gpa + at, bytes([HLT]))
                    self._on_change()  # a privileged instruction there would be refused as itself
                    low = min(low, at - LONGEST + 1)

                at -= 1
            if low < 0:
                todo += [(self.pages[gpa], PAGE - 1, PAGE) for gpa in page.heads]

    def has_to_trap(self, page: CodePage, offset: int) -> bool:
        """Must the guest be stopped at this offset? (An instruction that another's patch overlaps is
        then executed from the real page.)"""
        if page.callouts and page.covering(offset):
            return False  # a jump to its answer stands there, or a byte of one, which traps
        insn = page.starts.get(offset)
        if insn is None:
            return offset in page.refused
        if offset in page.postponed:
            return True
        leaps = is_indirect(insn) and (insn.mnemonic != "ret" or offset in page.pushed_words)
        if leaps and self.catch_branches and page.trusted.get(offset, 0) < TRUST:
            return True
        return self.must_trap(insn) or not self._stands(page, offset, insn)

    def _stands(self, page: CodePage, offset: int, insn: Instruction) -> bool:
        """Is all of an instruction but its first byte in the twin as it is?"""
        first, within = page.gpa + offset, min(insn.length, PAGE - offset)
        if self.twin[first + 1 : first + within] != insn.code[1:within]:
            return False
        if within == insn.length:
            return True
        tail, rest = page.tails[offset], insn.code[within:]
        return not page.aliased and self.twin[tail : tail + len(rest)] == rest

    def must_trap(self, insn: Instruction) -> bool:
        """Would the CPU execute this instruction where the VMM has to?"""
        if insn.sensitivity in (Sensitivity.SILENT, Sensitivity.ABSENT):
            return True
        if insn.reason is Reason.SYSCALL or insn.reason is Reason.INT:
            return True  # they stop, but not before the CPU has changed RCX, R11 or half of RAX
        return insn.varies or (insn.floating and self.floating)

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

    def is_patched(self, gpa: int) -> bool:
        """Does a HLT stand in the twin where the guest has something else, or a callout's jump where it
        has an instruction that would not trap?"""
        page = self.pages.get(gpa & -PAGE)
        if page is not None and page.callouts and page.covering(gpa % PAGE):
            insn = page.starts.get(gpa % PAGE)
            return insn is None or insn.sensitivity is not Sensitivity.PRIVILEGED
        return self.twin[gpa] == HLT and self.memory.view[gpa] != HLT

    # Callouts

    def plant(self, page: CodePage, callout: Callout, jump: bytes, span: int) -> None:
        """Put a callout's jump into the twin. span: the bytes of the instructions under it."""
        offset = callout.offset
        page.callouts[offset] = callout
        page.code[offset : offset + span] = b"\1" * span
        self._show(page.gpa + offset, jump)
        self._patch(page, offset, offset + len(jump))

    def _make_room(self, page: CodePage, low: int, high: int) -> None:
        """Other code than that which a callout has copied is found under its jump: take it away."""
        if page.callouts and any(page.covering(at) for at in range(low, high)):
            self.uncover(page)

    def uncover(self, page: CodePage | None = None) -> None:
        """Take the callouts of a page away, or of all pages: their instructions trap again."""
        for each in (page,) if page is not None else tuple(self.pages.values()):
            if each.callouts:
                self._rescan(each)

    # Changes

    def control_changed(self) -> None:
        """After a write to CR0 or CR4: patch or restore x87 and SSE instructions."""
        unusual = self.cpu.cr0 & (Cr0.TS | Cr0.EM) or not self.cpu.cr4 & Cr4.OSFXSR
        if bool(unusual) != self.floating:
            self.floating = bool(unusual)
            for page in self.pages.values():
                self._rescan(page)

    def written(self, gpa: int, length: int) -> bool:
        """Note a store to RAM by the VMM or in a step of the guest's. True: it changed code."""
        changed = False
        for base in range(gpa & -PAGE, gpa + length, PAGE):
            page = self.pages.get(base)
            if page is None or page.shared:
                continue
            low, high = max(gpa, base) - base, min(gpa + length, base + PAGE) - base
            if any(page.code[low:high]):
                changed = True
                self._changed(page)
            elif not self.hidden:
                self.twin[base + low : base + high] = self.memory.view[base + low : base + high]
        return changed

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

    def _rescan(self, page: CodePage) -> None:
        """Build the twin's page anew from the decoded instructions."""
        self._on_change()
        page.callouts.clear()
        if page.shared or not self.hidden:
            self.twin[page.gpa : page.gpa + PAGE] = self.memory.view[page.gpa : page.gpa + PAGE]
        standing = []
        for offset, insn in page.starts.items():
            end = min(PAGE, offset + insn.length)
            place = slice(page.gpa + offset, page.gpa + end)
            if self._covers(page, insn):
                self.twin[place] = bytes([HLT]) * (end - offset)
            else:
                standing.append((place, insn.code[: end - offset]))
        for place, code in standing:
            self.twin[place] = code
        if page.shared:
            page.synced = bytearray(self.memory.view[page.gpa : page.gpa + PAGE])
            page.image = bytearray(self.twin[page.gpa : page.gpa + PAGE])
        self._patch(page, 0, PAGE)

    def restore(self, gpa: int, length: int) -> None:
        """Build bytes of the twin's page anew that something else has been written over."""
        at = slice(gpa, gpa + length)
        self.twin[at] = bytes([HLT]) * length if self.hidden else self.memory.view[at]
        page = self.pages.get(gpa & -PAGE)
        if page is not None:
            self._rescan(page)

    # Shared pages

    def left(self) -> bool:
        """After an exit: copy what the guest stored in shared pages to RAM. True: it changed code."""
        changed = []
        for page in self.shared:
            now = bytes(self.twin[page.gpa : page.gpa + PAGE])
            if now == page.image:
                continue
            changes = differing(now, page.image)
            for at in changes:
                self.memory.view[page.gpa + at] = page.image[at] = page.synced[at] = now[at]
            if any(page.code[at] for at in changes):
                changed.append(page)
        for page in changed:
            self._changed(page)
        return bool(changed)

    def enter(self) -> None:
        """Before an entry: copy what the VMM stored in RAM to the shared pages."""
        changed = []
        for page in self.shared:
            now = bytes(self.memory.view[page.gpa : page.gpa + PAGE])
            if now == page.synced:
                continue
            changes = differing(now, page.synced)
            if any(page.code[at] for at in changes):
                changed.append(page)
                continue
            for at in changes:
                self._show(page.gpa + at, now[at : at + 1])
            page.synced[:] = now
        for page in changed:
            self._changed(page)
