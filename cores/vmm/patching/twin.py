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
executed: of all that calls lead to a run executes a third or less.

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

from cores.pc.physical_memory import PhysicalMemory
from cores.vmm.patching.callout_code import Callout
from cores.vmm.patching.code_page import CodePage, differing
from cores.x86.isa.branches import is_indirect
from cores.x86.isa.instruction import Instruction, Reason, Sensitivity
from cores.x86.mmu.paging import PAGE

HLT = 0xF4
TRUST = 16
"""An indirect branch that has been caught this often, and always led to code already known, is no
longer patched. Otherwise a loop that calls through a pointer costs 60 us a turn."""
LONGEST = 15
"""Bytes of the longest instruction."""
_NO_CODE = bytes(PAGE)


class Twin:
    """The patched twin: what stands in it, given which code has been decoded (patcher.py).

    hidden: the twin's pages are execute-only. floating: x87 and SSE instructions must trap too (the
    guest has set CR0.TS, say). catch_branches: indirect branches must trap too. on_change: called when
    code or its patches change. on_forget: called with the GPA of a page of which all that was decoded
    is forgotten.
    """

    def __init__(
        self,
        twin: memoryview,
        memory: PhysicalMemory,
        *,
        hidden: bool,
        on_change: Callable[[], None] = lambda: None,
        on_forget: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.twin = twin
        self.memory = memory
        self.hidden = hidden
        self._on_change, self._on_forget = on_change, on_forget
        self.pages: dict[int, CodePage] = {}
        self.shared: list[CodePage] = []
        self.renewed: list[int] = []  # GPAs of pages that have to be mapped anew
        self.floating = False
        self.catch_branches = not hidden

    # Pages

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

    # Instructions

    def show_new(self, page: CodePage, offset: int, insn: Instruction, tail: int) -> None:
        """Put an instruction that has just been decoded into the twin. tail: GPA of its part in the
        next page, if it has one."""
        end = offset + insn.length
        if end > PAGE or not self._stands_alone(page, offset, insn):
            self._show_beside(page, offset, insn, tail)
            return
        page.starts[offset] = insn
        page.code[offset:end] = b"\1" * insn.length
        if self.hidden:
            self.twin[page.gpa + offset : page.gpa + end] = insn.code

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
