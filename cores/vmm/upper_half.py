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
    Handler,
    Handlers,
    RegisterWindow,
    Stepped,
)
from cores.pc.ram import TRANSLATIONS
from cores.vmm.completion import Completion
from cores.vmm.faults.out_of_line import FIP
from cores.vmm.faults.page_faults import FILLED, PageFaults
from cores.vmm.known_exits import KnownExits
from cores.vmm.patched_code import PatchedCode
from cores.vmm.patching.patcher import Patcher
from cores.vmm.shadow_tlb import Filled, ShadowPages
from cores.vmm.state import GuestContext
from cores.vmm.trace import ExitEvent
from cores.vmm.translated_code import TranslatedCode, straight_code
from cores.x86.faults import GuestFault, Unsupported
from cores.x86.isa.accesses import next_accesses
from cores.x86.isa.decoder import decode
from cores.x86.isa.encoding import parse
from cores.x86.isa.instruction import Immediate, Instruction, Reason, Sensitivity
from cores.x86.isa.opcodes import is_x87
from cores.x86.mmu.code_fetch import instruction_at
from cores.x86.mmu.paging import PAGE, read_entry, walk
from cores.x86.mmu.paging_formats import PRESENT
from cores.x86.mode import CODE_64
from cores.x86.registers import CS, FS, GS, MASK64, RSP, Efer, Vector, canonical
from cores.x86.system.fpu_enabled import check_fpu_enabled
from cores.x86.virtual_cpu import VirtualCpu

STORE_POINTERS = frozenset({"fnstenv", "fnsave", "fxsave", "fxsave64"})
"""Instructions that show where the last one of x87 was."""
LEARNT = frozenset({"out", "in", "cli", "sti", "pushf", "popf", "cpuid", "rdtsc", "mov"})
"""Instructions whose handlers need not the bases of FS and GS, which are others meanwhile, and change
no mapping, but for MOV to a control register (``known_sites.MAKERS``)."""
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
    """Runs one deprivileged guest's kernel code in the upper half. known: handlers for exits that come
    again, set by the VMM where it has them."""

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
        self._floating = self._x87 = False  # x87 is emulated; there is x87 code
        self._changed = self._stale = True  # code, or the guest's tables, may be others
        self._mapped = -1  # the shadow's drops when the translations were mapped
        self._at = 0  # where the process was stopped
        self.known: KnownExits | None = None
        self._handlers: Handlers = {}  # by the guest's address, and by that of the HLT in its place
        self._sites: Handlers = {}
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
                shadow.host.hide_all()
                shadow.host.displacement = displacement
            code.clear(displacement)
            self._sites.clear()
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
        patcher, guest = self._patched.patcher, self._guest
        assert patcher is not None

        def leaves(insn: Instruction) -> bool:
            ordinary = insn.sensitivity is Sensitivity.ORDINARY and not patcher.must_trap(insn)
            return not ordinary or insn.mnemonic in STORE_POINTERS

        found = straight_code(guest.cpu, guest.mmu, rip, leaves)
        for gva, parts in found.parts.items():
            frame = guest.mmu.translate(gva, execute=True) & -PAGE
            if not guest.memory.is_ram(frame, PAGE):
                raise Unsupported(f"the guest executes a device's memory, at {gva:#x}")
            page = self._shadow.watch(frame)
            for first, end in parts:
                page.code[first:end] = b"\1" * (end - first)
            code.pages[gva] = frame
        self._x87 |= any(i.floating and is_x87(parse(i.code, i.bits)) for _, i in found.code)
        code.add(found)

    # Entering

    def run(self, cpu: VirtualCpu) -> Exit:
        """Enter the guest in its translated code; see ``Engine.run``."""
        code, self._at = self._current(), 0
        entry = code.block(cpu.rip)
        if entry is None:
            return INTERRUPTED
        self._guest.notes[NOTE] = None
        self._map()
        if self.known is not None:
            self._handlers = self.known.entering()
        exit, at = self._enter(cpu, entry)
        if exit is INTERRUPTED and at not in TRANSLATED:  # a handler has gone on to this guest address
            self._guest.trace.bridged += code.counted()
            cpu.rip = at
            return exit
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
        if self._x87 and not isinstance(exit, Failed):
            self._correct_pointer(code)
        return INTERRUPTED if isinstance(exit, Stepped) else exit

    def _map(self) -> None:
        """Map the translations in the process, if they are not."""
        if self._mapped == self._shadow.host.drops:
            return
        offset = self._guest.memory.ram.scratch + TRANSLATIONS
        for begin, length, executable in ((0, CODE_SIZE, True), (CODE_SIZE, DATA_SIZE, False)):
            self._engine.map(
                DISPLACED_SPACE, TRANSLATED.start + begin, offset + begin, length,
                writable=not executable, executable=executable, twin=True,
            )  # fmt: skip
        self._mapped = self._shadow.host.drops

    def _enter(self, cpu: VirtualCpu, at: int, *, step: bool = False) -> tuple[Exit, int]:
        """Enter the process at ``at``; the exit, and where the process was left."""
        engine, displacement = self._engine, self._shadow.host.displacement
        fs, gs = cpu.segments[FS], cpu.segments[GS]
        kept = engine.space, cpu.rip, fs.base, gs.base
        engine.space, cpu.rip = DISPLACED_SPACE, at
        fs.base, gs.base = gs.base + displacement & MASK64, displacement
        try:
            if step:
                exit = engine.step(cpu)
            elif self._sites and self._patched.patcher is not None and not self._patched.patcher.shared:
                exit = engine.run_known(cpu, self._sites)
            else:
                exit = engine.run(cpu)
            return exit, cpu.rip
        finally:
            engine.space, cpu.rip, fs.base, gs.base = kept

    def _correct_pointer(self, code: TranslatedCode) -> None:
        """Replace x87's pointer to its last instruction, if that is a translation, by the guest's own
        (SDM vol. 1, 8.1.8)."""
        space, self._engine.space = self._engine.space, DISPLACED_SPACE
        try:
            image = self._engine.read_fpu()
            rip = code.origin(int.from_bytes(image[FIP : FIP + 8], "little"))
            if rip is not None:
                self._engine.write_fpu(image[:FIP] + rip.to_bytes(8, "little") + image[FIP + 8 :])
        finally:
            self._engine.space = space

    # Exits

    def learn(self, record: ExitEvent | None) -> None:
        """Keep a handler for the exit that has just been handled, if it was at a HLT of ours."""
        known, code, at = self.known, self._code, self._at
        if known is None or code is None or record is None or at not in code.left:
            return
        insn = decode(record.code)
        to_control = insn.mnemonic == "mov" and record.code[-2:-1] == b"\x22"  # 0F 22
        if insn.mnemonic not in LEARNT or record.reason is Reason.SEGMENT or to_control:
            return
        space, self._engine.space = self._engine.space, DISPLACED_SPACE  # whose registers it works on
        try:
            known.learn(record)
            handler, window = self._handlers.get(record.rip), self._engine.window()
        finally:
            self._engine.space = space
        if handler is not None and window is not None:
            self._sites[at] = self._site(code, record.rip, handler, window)

    def _site(
        self, code: TranslatedCode, rip: int, handler: Handler, window: RegisterWindow
    ) -> Handler:
        """``handler``, which leads to a guest address, for the HLT in its instruction's place."""
        words, place, shadow = window.words, window.rip, self._shadow

        def handle() -> bool | None:
            if self._handlers.get(rip) is not handler:
                return None
            went_on = handler()
            if went_on is None:
                return None
            there = code.block(words[place])
            if there is None or self._stale or self._changed or self._mapped != shadow.host.drops:
                return False
            words[place] = there
            return went_on

        return handle

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
            gva = address - shadow.host.displacement & MASK64
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
        shadow.host.displaced = True
        try:
            filled = shadow.fill(gva, write=write, execute=False)
        finally:
            shadow.host.displaced = False
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
            self._shadow.host.unmap_everywhere(page.gpa)

    def _record(self, reason: Reason, detail: str, handled: str, insn: Instruction) -> None:
        cpu = self._guest.cpu
        self._guest.record(reason, detail, handled, cpu.rip, insn.code, cpu.cpl)
