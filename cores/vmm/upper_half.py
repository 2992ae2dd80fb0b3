"""Kernels in the upper half, running freely: their code is translated for addresses that a process has.

Linux keeps the upper half of every address space for itself, so a process can have neither the code nor
the data of a kernel that is linked at 0xffffffff80000000. The guest's memory is therefore mapped again
in a third process, each address displaced by the same number (``DISPLACED_SPACE``), and the code,
which the CPU cannot fetch from its own addresses, is translated once and kept
(cores/vmm/translated_code.py). It is executed by the CPU, in ring 3, from the guest's own registers.

The same problem has other answers. User Mode Linux is a kernel linked in the lower half, as a program
is. gVisor's Sentry takes the kernel's place and is a program itself. PVM is a module of the host's
kernel, which has the upper half to give: it reserves a part, and the guest's kernel is relocated to it.

Sensitive instructions, and what cannot be translated, leave the guest as patched code does; so does an
access to a page that is not mapped, to a device, to code. All of these are then handled as elsewhere.
Each instruction executed here counts as bridged: the CPU should have run the guest's own.
"""

from __future__ import annotations

from cores.deadline import Deadline
from cores.engines.base import (
    CODE_SIZE,
    DATA_SIZE,
    DISPLACED_SPACE,
    INTERRUPTED,
    TRANSLATED,
    DeprivilegedEngine,
    Exit,
    Failed,
    Fault,
    Stepped,
)
from cores.pc.ram import TRANSLATIONS
from cores.vmm.completion import Completion
from cores.vmm.faults.page_faults import FILLED, PageFaults
from cores.vmm.patched_code import PatchedCode
from cores.vmm.patching.patcher import Patcher
from cores.vmm.shadow_tlb import Filled, ShadowPages
from cores.vmm.state import GuestContext
from cores.vmm.translated_code import MOST, TranslatedCode
from cores.x86.faults import GuestFault, Unsupported
from cores.x86.isa.accesses import next_accesses
from cores.x86.isa.instruction import Immediate, Instruction, Reason, Sensitivity
from cores.x86.mmu.code_fetch import instruction_at
from cores.x86.mmu.paging import PAGE, read_entry, walk
from cores.x86.mmu.paging_formats import PRESENT
from cores.x86.mode import CODE_64
from cores.x86.registers import CS, FS, GS, MASK64, RSP, Efer, Vector, canonical
from cores.x86.system.fpu_enabled import check_fpu_enabled
from cores.x86.virtual_cpu import VirtualCpu

FOUND, DONE = "found as its code was translated", "translated for addresses that a process has"
NOTE = (
    "running freely, code in the upper half of the address space, which no process has, is translated "
    "and executed with all its addresses displaced; each such instruction counts as bridged"
)
USUAL, LOWEST = 0x7F80_0000_0000, 0x7FFF_FFE0_0000
"""Displacements. With the usual one the process reaches all of the upper half but its lowest 512 GiB,
and of the lower half as much; with the other these 512 GiB but for 2 MiB, too, and of the lower half 2
MiB."""
_SLOT = 256
"""The entry of the top-level table for the lowest 512 GiB of the upper half."""
_LMA = Efer.LMA


class UpperHalf:
    """Runs one deprivileged guest's kernel code in the upper half."""

    def __init__(
        self,
        guest: GuestContext,
        engine: DeprivilegedEngine,
        shadow: ShadowPages,
        completion: Completion,
        patched: PatchedCode,
        faults: PageFaults,
    ) -> None:
        self._guest, self._engine, self._shadow = guest, engine, shadow
        self._completion, self._patched, self._faults = completion, patched, faults
        self._code: TranslatedCode | None = None
        self._patcher: Patcher | None = None
        self._floating = False
        self._changed = self._stale = True  # code, or the guest's tables, may be others
        self._mapped = -1  # the shadow's drops when the translations were mapped
        self._at = 0  # where the process was stopped
        shadow.on_flush = self._flushed
        patched.on_forget = self._forgotten

    def serves(self) -> bool:
        """Is the code at RIP to be translated: in free mode, a kernel's, and in the upper half?"""
        cpu, patched = self._guest.cpu, self._patched
        return (
            bool(cpu.rip >> 47)
            and patched.patcher is not None
            and not patched.silent
            and bool(cpu.efer & _LMA and cpu.segments[CS].attributes & CODE_64)
            and cpu.cpl == 0
        )

    # What becomes of the translations

    def _flushed(self, gva: int | None) -> None:
        """The guest has invalidated an address, or all (None)."""
        if self._code is not None and (gva is None or gva & -PAGE in self._code.pages):
            self._stale = True

    def _forgotten(self, gpa: int) -> None:
        """A page of code has changed."""
        if self._code is not None and gpa in self._code.pages.values():
            self._changed = True

    def _current(self) -> TranslatedCode:
        """The translations, of which none is out of date."""
        code, patcher, shadow = self._code, self._patched.patcher, self._shadow
        assert patcher is not None
        if code is None:
            twin = self._engine.patched_twin()
            assert twin is not None
            begin = self._guest.memory.ram.scratch + TRANSLATIONS
            code = self._code = TranslatedCode(twin, begin)
        others = patcher is not self._patcher or patcher.floating is not self._floating
        if self._stale and not (others or self._changed):
            others = self._displacement() != code.displacement or any(
                self._frame(gva) != frame for gva, frame in code.pages.items()
            )
        if others or self._changed or code.full:
            displacement = self._displacement()
            if displacement != code.displacement:
                shadow.hide_all()
                shadow.displacement = displacement
            code.clear(displacement)
            self._patcher, self._floating = patcher, patcher.floating
        self._stale = self._changed = False
        return code

    def _displacement(self) -> int:
        guest = self._guest
        top = read_entry(guest.memory, (guest.cpu.cr3 & 0xF_FFFF_FFFF_F000) + 8 * _SLOT, 8)
        return LOWEST if top & PRESENT else USUAL

    def _frame(self, gva: int) -> int | None:
        """The frame of a page that the guest may execute now, without a mark in its tables."""
        try:
            return walk(self._guest.memory, self._guest.cpu, gva, execute=True, mark=False).gpa & -PAGE
        except GuestFault:
            return None

    # Translating

    def _translate(self, code: TranslatedCode, rip: int) -> None:
        """Translate the block at ``rip``. Raises the GuestFault of the fetch of its first
        instruction."""
        patcher = self._patched.patcher
        assert patcher is not None
        found: list[tuple[int, Instruction]] = []
        at, leaves = rip, False
        pages: dict[int, list[tuple[int, int]]] = {}  # GVA -> the parts of it that hold the block
        while len(found) < MOST and not (at ^ rip) & -PAGE:
            try:
                insn = instruction_at(self._guest.cpu, self._guest.mmu, at)
            except (GuestFault, Unsupported):
                if at == rip:
                    raise
                break
            for gva, first, end in _parts(at, insn.length):
                pages.setdefault(gva, []).append((first, end))
            if insn.sensitivity is not Sensitivity.ORDINARY or patcher.must_trap(insn):
                leaves = True
                break
            found.append((at, insn))
            at = at + insn.length & MASK64
            if insn.ends_block:
                break
        for gva, parts in pages.items():
            frame = self._guest.mmu.translate(gva, execute=True) & -PAGE
            if not self._guest.memory.is_ram(frame, PAGE):
                raise Unsupported(f"the guest executes a device's memory, at {gva:#x}")
            page = self._shadow.watch(frame)
            for first, end in parts:
                page.code[first:end] = b"\1" * (end - first)
            code.pages[gva] = frame
        code.add(found, at, leaves=leaves)

    # Entering

    def run(self, cpu: VirtualCpu) -> Exit:
        """Enter the guest in its translated code; see ``Engine.run``."""
        code, self._at = self._current(), 0
        entry = code.block(cpu.rip)
        if entry is None:
            return INTERRUPTED
        self._guest.notes[NOTE] = None
        self._map()
        exit, at = self._enter(cpu, entry)
        deadline = Deadline()
        while (
            place := code.place(at, cpu.gpr)
        ) is None:  # in the middle of an instruction: go on to its end
            if not (exit is INTERRUPTED or isinstance(exit, Stepped)) or at not in TRANSLATED:
                return (
                    exit if isinstance(exit, Failed) else Failed("the guest left its translated code")
                )
            deadline.check()
            exit, at = self._enter(cpu, at, step=True)
        self._guest.trace.bridged += code.counted() - place.ahead
        self._at, cpu.rip = at, place.rip
        return INTERRUPTED if isinstance(exit, Stepped) else exit

    def _map(self) -> None:
        """Map the translations in the process, if they are not."""
        if self._mapped == self._shadow.drops:
            return
        offset = self._guest.memory.ram.scratch + TRANSLATIONS
        for begin, length, executable in ((0, CODE_SIZE, True), (CODE_SIZE, DATA_SIZE, False)):
            self._engine.map(
                DISPLACED_SPACE, TRANSLATED.start + begin, offset + begin, length,
                writable=not executable, executable=executable, twin=True,
            )  # fmt: skip
        self._mapped = self._shadow.drops

    def _enter(self, cpu: VirtualCpu, at: int, *, step: bool = False) -> tuple[Exit, int]:
        """Enter the process at ``at``; the exit, and where the process was left."""
        engine, displacement = self._engine, self._shadow.displacement
        fs, gs = cpu.segments[FS], cpu.segments[GS]
        kept = engine.space, cpu.rip, fs.base, gs.base
        engine.space, cpu.rip = DISPLACED_SPACE, at
        fs.base, gs.base = gs.base + displacement & MASK64, displacement
        try:
            exit = engine.step(cpu) if step else engine.run(cpu)
            return exit, cpu.rip
        finally:
            engine.space, cpu.rip, fs.base, gs.base = kept

    # Exits

    def handle(self, exit: Exit) -> bool:
        """Handle an exit of ``run``; see ``Vmm.handle_exit``."""
        guest, code = self._guest, self._code
        assert code is not None
        cpu = guest.cpu
        match exit:
            case Fault(Vector.GP) if self._at in code.left:
                insn = instruction_at(cpu, guest.mmu, cpu.rip)
                if insn.sensitivity is not Sensitivity.ORDINARY:
                    self._completion.emulate(insn, FOUND)
                    return True
                if insn.floating:
                    check_fpu_enabled(insn, cpu)
                self._faults.out_of_line.complete(insn)
                return True
            case Fault(vector, _, address):
                if vector == Vector.GP and code.waits(self._at):
                    self._lead(code)
                    return False
                insn = instruction_at(cpu, guest.mmu, cpu.rip)
                return self._faulted(insn, address if vector == Vector.PF else None)
            case Failed(reason, limit):
                guest.fail(reason, limit)
                return True
            case _:
                if code.block(cpu.rip) is None:
                    self._lead(code)
                return False

    def _lead(self, code: TranslatedCode) -> None:
        """Lead the guest on to code that is not translated, or not linked, yet."""
        cpu = self._guest.cpu
        if code.waits(self._at) and not canonical(cpu.rip):
            self._refuse(code)
        if not self.serves():
            return
        if code.block(cpu.rip) is None:
            self._translate(code, cpu.rip)
            if not code.full:
                insn = instruction_at(cpu, self._guest.mmu, cpu.rip)
                self._record(Reason.SCAN, f"code at {cpu.rip:#x}", DONE, insn)
        code.link(self._at, cpu.rip)

    def _refuse(self, code: TranslatedCode) -> None:
        """Go back to the indirect branch that led to a non-canonical address, which the CPU refuses."""
        cpu, place = self._guest.cpu, code.branch()
        if place is None:
            return  # the guest has written over our data
        cpu.rip = place.rip
        insn = instruction_at(cpu, self._guest.mmu, cpu.rip)
        if insn.mnemonic == "ret":
            released = insn.operands[0] if insn.operands else None
            words = 8 + (released.value & 0xFFFF if isinstance(released, Immediate) else 0)
            cpu.gpr[RSP] = cpu.gpr[RSP] - words & MASK64
        elif insn.mnemonic == "call":
            cpu.gpr[RSP] = cpu.gpr[RSP] + 8 & MASK64
        self._guest.trace.bridged -= place.ahead
        self._faults.out_of_line.complete(insn)

    def _faulted(self, insn: Instruction, address: int | None) -> bool:
        """Handle a fault at an ordinary instruction. address: where the process has no page."""
        cpu, shadow = self._guest.cpu, self._shadow
        met, gva = None, 0
        if address is not None:
            gva = address - shadow.displacement & MASK64
            hits = [
                store for at, length, store in next_accesses(insn, cpu) if (gva - at) & MASK64 < length
            ]
            if hits:
                met = self._fill(insn, gva, write=any(hits))
        if met is Filled.MAPPED:
            return False
        self._faults.out_of_line.complete(insn)  # raises the guest's own fault
        if met is Filled.CODE:
            self._count(gva)
        return True

    def _fill(self, insn: Instruction, gva: int, *, write: bool) -> Filled:
        shadow = self._shadow
        shadow.displaced = True
        try:
            filled = shadow.fill(gva, write=write, execute=False)
        finally:
            shadow.displaced = False
        if shadow.fresh and filled in (Filled.MAPPED, Filled.CODE):
            self._record(Reason.SHADOW, f"page {gva & -PAGE:#x}", FILLED, insn)
        return filled

    def _count(self, gva: int) -> None:
        """A store has met a page of code; after many of them the page becomes a shared one."""
        memory, patcher = self._guest.memory, self._patched.patcher
        if patcher is None:
            return
        if memory.writes:
            self._patched.wrote(memory.writes)
            memory.writes.clear()
        page = patcher.pages.get(self._guest.mmu.translate(gva, user=False) & -PAGE)
        if page is not None and patcher.count_data_access(page):
            self._shadow.share(page.gpa)

    def _record(self, reason: Reason, detail: str, handled: str, insn: Instruction) -> None:
        cpu = self._guest.cpu
        self._guest.record(reason, detail, handled, cpu.rip, insn.code, cpu.cpl)


def _parts(gva: int, length: int) -> list[tuple[int, int, int]]:
    """The pages in which an instruction lies, and which bytes of each: (GVA, first, end)."""
    offset = gva % PAGE
    if offset + length <= PAGE:
        return [(gva & -PAGE, offset, offset + length)]
    behind = (gva & -PAGE) + PAGE & MASK64
    return [(gva & -PAGE, offset, PAGE), (behind, 0, offset + length - PAGE)]
