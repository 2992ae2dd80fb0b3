"""What pure trap-and-emulate misses, found and made to trap: free mode on the real CPU.

In exact mode every instruction is decoded before it runs. At full speed nobody looks, and PUSHF,
SGDT or a far return would show the guest the host's world. So guest code is never executed from
the guest's RAM, but from a *twin* of it, in which

    every byte not yet looked at      is 0xF4, HLT: whoever jumps there traps, is decoded as far as
                                      direct branches lead, and runs on (reason ``scan``)
    every harmless instruction        is itself
    every sensitive, silent one       begins with 0xF4: it traps, and is emulated

HLT serves because RIP stays at it, and because no guest can execute it itself. Where the CPU has
protection keys the twin's pages are execute-only, and whoever reads or writes code as data sees RAM,
where nothing was ever changed: the guest cannot find the patches. Where it has none, the twin can be
read. Then bytes not yet looked at have to be the guest's own, and no HLT waits for those who arrive
by an unseen way; so every indirect branch is patched too, and every known target decoded ahead.

A page in which code and data are mixed would fault at each access to its data. After a few of those
it is *shared*: the twin's page becomes readable and writable, holds the real bytes but for the
patches, and is brought together with RAM whenever the guest is left or entered.
"""

from __future__ import annotations

from .memory import PhysicalMemory
from .virtual_cpu import VirtualCpu
from .x86.decode import Truncated, decode
from .x86.faults import GuestFault
from .x86.instruction import Immediate, Instruction, Reason, Sensitivity
from .x86.paging import PAGE, Mmu
from .x86.registers import Cr0, Cr4

HLT = 0xF4
SHARE_AFTER = 24
"""Data accesses to a code page, each some 100 us, before it becomes a shared one."""
TRUST = 16
"""An indirect branch that has been caught so often, and always led to code already known, runs by
itself from then on. A loop that calls through a pointer would cost 60 us a turn otherwise."""
NEAR_BRANCHES = ("jmp", "call")


class CodePage:
    """One page of guest RAM that code has been executed from. Offsets are within the page.

    starts: of the instructions discovered, with their decoded form.
    code: 1 for each byte that belongs to one of them. refused: where no instruction begins.
    touched: data accesses so far. wrote_code: one of them changed an instruction.
    guarded: nothing stores here unseen any more; what was decoded before that may be stale.
    trusted: how often an indirect branch here has led to known code; TRUST times are enough.
    executed: it is mapped for execution somewhere, so that branches into it arrive.
    """

    def __init__(self, gpa: int) -> None:
        self.gpa = gpa
        self.starts: dict[int, Instruction] = {}
        self.code = bytearray(PAGE)
        self.refused: set[int] = set()
        self.touched = 0
        self.wrote_code = False
        self.executed = False
        self.guarded = False
        self.trusted: dict[int, int] = {}
        self.shared = False
        self.synced = b""  # RAM's bytes when the twin last agreed with it
        self.image = b""  # the twin's own bytes at that moment


class Patcher:
    """Keeps the twin.

    hidden: the twin's pages are execute-only. floating: x87 and SSE instructions must trap too (the
    guest has set CR0.TS, say). catch_branches: so must indirect branches.
    """

    def __init__(
        self, twin: memoryview, memory: PhysicalMemory, mmu: Mmu, cpu: VirtualCpu, *, hidden: bool
    ) -> None:
        self.twin = twin
        self.memory = memory
        self.mmu = mmu
        self.cpu = cpu
        self.hidden = hidden
        self.pages: dict[int, CodePage] = {}
        self.shared: list[CodePage] = []
        self.floating = False
        self.catch_branches = not hidden
        self._targets: dict[int, set[int]] = {}  # GVA of a page -> branch targets in it

    # Discovery

    def adopt(self, gpa: int) -> CodePage:
        """The page at ``gpa`` is about to be executed from."""
        page = self.pages.get(gpa)
        if page is None:
            page = self.pages[gpa] = CodePage(gpa)
            self._blank(page)
        return page

    def guard(self, page: CodePage) -> None:
        """From now on every store to this page is seen: what is known of it begins here."""
        page.guarded = True
        self._blank(page)

    def _blank(self, page: CodePage) -> None:
        """Nothing is known of this page: fill the twin's with what unknown code is to be."""
        page.starts.clear()
        page.refused.clear()
        page.code = bytearray(PAGE)
        at = slice(page.gpa, page.gpa + PAGE)
        self.twin[at] = bytes([HLT]) * PAGE if self.hidden else self.memory.view[at]

    def discover(self, rip: int) -> bool:
        """Decode from ``rip`` as far as direct branches lead, up to the next instruction that traps.
        False: known already."""
        found = False
        todo = [rip]
        while todo:
            at = todo.pop()
            while (insn := self._reveal(at)) is not None:
                found = True
                following = at + insn.length
                target = _direct_target(insn, following)
                if target is not None:
                    if (target ^ rip) & -PAGE == 0:
                        todo.append(target)
                    else:
                        todo += self._promised(target)
                if insn.sensitivity is not Sensitivity.ORDINARY or insn.mnemonic in (
                    "jmp",
                    "ret",
                    "ud2",
                ):
                    break
                if (following ^ at) & -PAGE:
                    todo += self._promised(following)
                    break
                at = following
        if found:
            for page in self.shared:
                self._remember(page)
        return found

    def _promised(self, target: int) -> list[int]:
        """A branch leads into another page. Where no HLT waits it must not arrive unseen: decode now,
        or when that page is first executed."""
        self._targets.setdefault(target & -PAGE, set()).add(target)
        return [target] if self._visible(target) else []

    def _visible(self, target: int) -> bool:
        """Would execution at ``target`` go unnoticed: the page is mapped, and no HLT stands there?"""
        try:
            gpa = self.mmu.locate(target)
        except GuestFault:
            return False
        page = self.pages.get(gpa & -PAGE)
        if page is None or not page.executed or gpa % PAGE in page.starts:
            return False
        return page.shared or not self.hidden

    def entering(self, rip: int) -> None:
        """The guest is about to be entered at ``rip``, or a page of it to be executed first."""
        if self._visible(rip):
            self.discover(rip)

    def executed(self, gva: int) -> None:
        """A page is mapped for execution: decode from the branch targets already known in it."""
        try:
            gpa = self.mmu.translate(gva, execute=True)
        except GuestFault:
            return
        self.adopt(gpa & -PAGE).executed = True
        for target in self._targets.get(gva & -PAGE, ()):
            self.entering(target)

    def _reveal(self, rip: int) -> Instruction | None:
        """Put one instruction into the twin. None: it is there already, or none can be decoded."""
        try:
            gpa = self.mmu.translate(rip, execute=True)
            code = self.mmu.fetch(rip)
        except GuestFault:
            return None
        if not self.memory.is_ram(gpa):
            return None  # devices hold no code: its fetch fails
        page = self.adopt(gpa & -PAGE)
        offset = gpa % PAGE
        try:
            insn = decode(code)
        except Truncated:
            return None
        except GuestFault:  # for this platform; this host's CPU may know it
            page.refused.add(offset)
            page.code[offset] = 1
            self.twin[gpa] = HLT
            return None
        if page.starts.get(offset) is insn:
            return None
        within = min(insn.length, PAGE - offset)
        tail = self.mmu.translate(rip + within, execute=True) if within < insn.length else 0
        if not self.memory.is_ram(tail):
            return None
        page.starts[offset] = insn
        page.code[offset : offset + within] = b"\1" * within
        self.twin[gpa : gpa + within] = insn.code[:within]
        if within < insn.length:
            second, rest = self.adopt(tail), insn.length - within
            second.code[:rest] = b"\1" * rest
            self.twin[tail : tail + rest] = insn.code[within:]
            self._patch_overlaps(second, 0, rest)
        self._patch_overlaps(page, offset, within)
        return insn

    def _patch_overlaps(self, page: CodePage, offset: int, length: int) -> None:
        """Patch what must trap among the instructions that touch these bytes. An instruction that has
        another's patch in its middle is patched too, and executed from the real page."""
        near = range(max(0, offset - 14), offset + length)
        for start in near:
            insn = page.starts.get(start)
            if insn is None:
                continue
            inside = (page.starts.get(o) for o in range(start + 1, start + insn.length))
            # lesson: the-patch
            # HLT is one byte long and traps in ring 3. It goes into the twin that the CPU executes;
            # the guest's RAM keeps the guest's byte.
            caught = self.catch_branches and is_indirect(insn) and page.trusted.get(start, 0) < TRUST
            if caught or self.must_trap(insn) or any(o and self.must_trap(o) for o in inside):
                self.twin[page.gpa + start] = HLT

    def must_trap(self, insn: Instruction) -> bool:
        """Would this instruction run unseen where it must not?"""
        if insn.sensitivity in (Sensitivity.SILENT, Sensitivity.ABSENT):
            return True
        if insn.reason is Reason.SYSCALL or insn.reason is Reason.INT:
            return True  # they stop, but not before the CPU has changed RCX, R11 or half of RAX
        return insn.floating and self.floating

    def branched(self, branch: int, target: int) -> None:
        """The indirect branch at one GVA was caught, and led to another: may it go on by itself?"""
        known = not self.discover(target)
        gpa = self.mmu.translate(branch, execute=True)
        page, offset = self.pages[gpa & -PAGE], gpa % PAGE
        page.trusted[offset] = page.trusted.get(offset, 0) + 1 if known else 0
        if page.trusted[offset] == TRUST:
            self.twin[gpa] = self.memory.view[gpa]
            self._patch_overlaps(page, offset, 1)
            if page.shared:
                self._remember(page)

    def is_patched(self, gpa: int) -> bool:
        """Does a HLT stand in the twin where the guest has something else?"""
        return self.twin[gpa] == HLT and self.memory.view[gpa] != HLT

    # Changes

    def control_changed(self) -> None:
        """CR0 or CR4 was written: do x87 and SSE instructions have to trap now?"""
        unusual = self.cpu.cr0 & (Cr0.TS | Cr0.EM) or not self.cpu.cr4 & Cr4.OSFXSR
        if bool(unusual) != self.floating:
            self.floating = bool(unusual)
            for page in self.pages.values():
                self._rescan(page)

    def written(self, gpa: int, length: int) -> bool:
        """RAM was written here, by the VMM or in a step of the guest's. True: that was code."""
        changed = False
        for base in range(gpa & -PAGE, gpa + length, PAGE):
            page = self.pages.get(base)
            if page is None or page.shared:
                continue
            low, high = max(gpa, base) - base, min(gpa + length, base + PAGE) - base
            if any(page.code[low:high]):
                page.wrote_code = changed = True
                self._blank(page)
            elif not self.hidden:
                self.twin[base + low : base + high] = self.memory.view[base + low : base + high]
        return changed

    def touch(self, page: CodePage) -> bool:
        """A data access to a code page. True: the page has just become a shared one."""
        page.touched += 1
        if page.touched < SHARE_AFTER or page.wrote_code or page.shared:
            return False
        page.shared = True
        self.shared.append(page)
        if not self.catch_branches:  # nothing may arrive in a shared page by an unseen way
            self.catch_branches = True
            for other in self.pages.values():
                self._rescan(other)
        self._rescan(page)
        for targets in self._targets.values():
            for target in targets:
                self.entering(target)
        return True

    def _rescan(self, page: CodePage) -> None:
        """Make the twin's page anew from what is known of it."""
        known = page.starts
        if page.shared or not self.hidden:
            self.twin[page.gpa : page.gpa + PAGE] = self.memory.view[page.gpa : page.gpa + PAGE]
        for offset, insn in known.items():
            end = min(PAGE, offset + insn.length)
            self.twin[page.gpa + offset : page.gpa + end] = insn.code[: end - offset]
        for offset in known:
            self._patch_overlaps(page, offset, 1)
        for offset in page.refused:
            self.twin[page.gpa + offset] = HLT
        self._remember(page)

    def _remember(self, page: CodePage) -> None:
        page.synced = bytes(self.memory.view[page.gpa : page.gpa + PAGE])
        page.image = bytes(self.twin[page.gpa : page.gpa + PAGE])

    # Shared pages

    def left(self) -> None:
        """The guest was left: what it stored into shared pages belongs into RAM."""
        for page in self.shared:
            now = bytes(self.twin[page.gpa : page.gpa + PAGE])
            if now == page.image:
                continue
            code_changed = False
            for at in _differing(now, page.image):
                self.memory.view[page.gpa + at] = now[at]
                code_changed |= bool(page.code[at])
            if code_changed:
                self._redecode(page)
            self._remember(page)

    def enter(self) -> None:
        """The guest is about to be entered: what the VMM stored into RAM belongs into shared pages."""
        for page in self.shared:
            now = bytes(self.memory.view[page.gpa : page.gpa + PAGE])
            if now == page.synced:
                continue
            if any(page.code[at] for at in _differing(now, page.synced)):
                self._redecode(page)
            else:
                for at in _differing(now, page.synced):
                    self.twin[page.gpa + at] = now[at]
            self._remember(page)

    def _redecode(self, page: CodePage) -> None:
        """The guest changed its code under way: decode again from every known start."""
        starts = [*page.starts, *page.refused]
        page.starts, page.refused = {}, set()
        page.code = bytearray(PAGE)
        for offset in starts:
            window = bytes(self.memory.view[page.gpa + offset : page.gpa + min(PAGE, offset + 15)])
            try:
                insn = decode(window)
            except Truncated:
                continue
            except GuestFault:
                page.refused.add(offset)
                page.code[offset] = 1
                continue
            page.starts[offset] = insn
            page.code[offset : offset + insn.length] = b"\1" * insn.length
        self._rescan(page)


def is_indirect(insn: Instruction) -> bool:
    """A near JMP or CALL whose target the instruction alone does not tell."""
    return insn.mnemonic in NEAR_BRANCHES and not isinstance(insn.operands[0], Immediate)


def _direct_target(insn: Instruction, following: int) -> int | None:
    if not insn.ends_block or insn.sensitivity is not Sensitivity.ORDINARY or not insn.operands:
        return None
    operand = insn.operands[0]
    if isinstance(operand, Immediate) and insn.mnemonic not in ("ret", "enter"):
        return (following + operand.value) & ((1 << 64) - 1)
    return None


def _differing(a: bytes, b: bytes) -> list[int]:
    """The offsets at which two pages differ, looked for in pieces."""
    found: list[int] = []
    for base in range(0, PAGE, 64):
        if a[base : base + 64] != b[base : base + 64]:
            found += [at for at in range(base, base + 64) if a[at] != b[at]]
    return found
