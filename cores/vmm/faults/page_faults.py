"""What a page fault or a HLT means that the guest never hears of: the trap core's memory.

On a trap core the host's mappings are the guest's TLB, and its devices are pages that are not there. So
most page faults of the vCPU process are nobody's mistake: a mapping to fill from the guest's page
tables (cores/vmm/shadow_tlb.py), a device to ask (cores/vmm/faults/mmio_window.py), or, running freely,
code that has to be looked at first (cores/vmm/patching/patcher.py). Only what the guest's own tables
forbid becomes the guest's #PF.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, assert_never

from cores.deadline import Deadline
from cores.engines.base import STEPPED, DeprivilegedEngine, Exit, Failed, Fault, Stepped
from cores.errors import EngineError
from cores.vmm.faults.mmio_window import Window
from cores.vmm.faults.out_of_line import Bridge
from cores.vmm.patching.patcher import TRUST, Patcher
from cores.vmm.shadow_tlb import Filled, ShadowPages
from cores.vmm.unicorn_checks import no_code
from cores.x86.faults import GuestFault
from cores.x86.isa.accesses import accesses, next_accesses
from cores.x86.isa.branches import is_indirect
from cores.x86.isa.instruction import Instruction, MemoryOperand, Reason, Sensitivity
from cores.x86.isa.operand_checks import address_fault, beyond_canonical
from cores.x86.mmu.paging import PAGE
from cores.x86.registers import FS, MASK64, Vector
from cores.x86.system.fpu_enabled import check_floating

if TYPE_CHECKING:
    from cores.vmm.vmm import Vmm

INT3 = 0xCC
FOUND, PATCHED = "found before it ran", "patched: it would have run unseen"
TRUSTED = (
    f"running freely, a branch that has led to known code {TRUST} times is caught no longer: what it "
    "leads to then is not looked at (a CPU with protection keys needs no such trust)"
)
CHANGED = (
    "running freely, code was changed in a page that holds data too: what ran of it until the guest "
    "left was not looked at"
)


class HiddenFaults:
    """Serves the faults of one deprivileged guest.

    patcher: in free mode, where the engine cannot find sensitive instructions by itself. bridge: for
    what the host process cannot have.
    silent: what only the patches bring about is not put on record (cores/lockstep/leader.py).
    """

    def __init__(self, vmm: Vmm, engine: DeprivilegedEngine, shadow: ShadowPages) -> None:
        self.vmm = vmm
        self.engine = engine
        self.shadow = shadow
        self.memory = vmm.memory
        self.mmu = vmm.mmu
        self.cpu = vmm.cpu
        self.patcher: Patcher | None = None
        self.silent = False
        self._changed = False  # is the patch gone, perhaps, that stopped the guest?
        self.bridge = Bridge(vmm, engine, shadow)

    def serve(self, insn: Instruction, address: int) -> bool:
        """The CPU misses a host mapping at ``address``. True: the instruction is now complete, or the
        machine has stopped; False: try again. Raises GuestFault when the guest's tables forbid it."""
        if self.by_virtual_base(insn) and (address - self.cpu.rip) & MASK64 >= insn.length:
            self.bridge.complete(insn)
            return True
        met = self._fill(insn, address)
        if met is Filled.MAPPED:
            return False
        if met is Filled.CODE:
            self._on_real_page(insn, address)
        elif met is Filled.DEVICE:
            self._execute_alone(insn, address, met)
        else:
            self.bridge.complete(insn)
        return True

    def by_virtual_base(self, insn: Instruction) -> bool:
        """Has it an operand by way of an FS or GS base that only the virtual CPU can have? Where the
        real one led to tells nothing."""
        return self.engine.traits.native and any(
            isinstance(o, MemoryOperand) and o.segment >= FS and self.cpu.segments[o.segment].base >> 47
            for o in insn.operands
        )

    def _fill(self, insn: Instruction, address: int) -> Filled:
        fetching = (address - self.cpu.rip) & MASK64 < insn.length
        touching = next_accesses(insn, self.cpu)
        hits = [store for gva, length, store in touching if (address - gva) & MASK64 < length]
        if hits and fetching:  # it touches its own bytes: which of the two was it?
            write = any(hits) and self.engine.fault_was_write(self.cpu)
            fetching = not write and not self.shadow.executes(address)
        elif hits or fetching:
            write = any(hits)
        else:
            write = self.engine.fault_was_write(self.cpu)
        filled = self.shadow.fill(address, write=write, execute=fetching)
        scanned = fetching and filled is Filled.MAPPED and self.patcher is not None
        page = f"page {address & -PAGE:#x}"
        if scanned and self.patcher is not None:
            self.patcher.executed(address)
        if scanned and not self.silent:
            self._scanned(insn, page)
        elif self.shadow.fresh and filled in (Filled.MAPPED, Filled.CODE):
            self.vmm.record(insn, Reason.SHADOW, page, "mapped from the guest's tables")
        return filled

    def _execute_alone(self, insn: Instruction, address: int, met: Filled) -> None:
        """Let the CPU execute one instruction with pages in place that are there for it alone: copies
        of a device's bytes, and code as it really is."""
        at, ring = self.cpu.rip, self.cpu.cpl
        window = Window(self.shadow, self.memory, self.mmu, self.cpu, insn)
        revealed: set[int] = set()
        stores = [(gva, length) for gva, length, store in accesses(insn, self.cpu) if store]
        deadline = Deadline()
        completed = reachable = False
        try:
            reachable = self._make_way(insn, address, met, window, revealed)
            if reachable and revealed and (at ^ at + insn.length - 1) & -PAGE:
                self._make_way(insn, at + insn.length - 1, met, window, revealed)
            while reachable and not isinstance(exit := self.engine.step(self.cpu), Stepped):
                deadline.check()
                match exit:
                    case Fault(Vector.PF, _, int(missing)):
                        if beyond_canonical(insn, self.cpu, missing):
                            raise address_fault(insn, self.cpu)
                        met = self._fill(insn, missing)
                        reachable = self._make_way(insn, missing, met, window, revealed)
                    case Fault(vector, error, _):
                        raise self.vmm.guests_own(vector, error, None, insn)
                    case Failed(reason, limit):
                        self.vmm.fail(reason, limit)
                        return
                    case _:
                        pass
            completed = reachable
        finally:
            with contextlib.suppress(EngineError):  # the process may be gone
                window.close(self.cpu, completed=completed)
                self._conceal(revealed, stores)
        if window.detail:
            self.vmm.record(insn, Reason.MMIO, window.detail, "executed through a window", at, ring)
        if completed:
            self.cpu.interrupt_shadow = False
        else:
            self.bridge.complete(insn)

    def _make_way(
        self, insn: Instruction, address: int, met: Filled, window: Window, revealed: set[int]
    ) -> bool:
        """Put in place what the instruction has met; False where nothing can be."""
        match met:
            case Filled.MAPPED:
                return True
            case Filled.DEVICE:
                if (address - self.cpu.rip) & MASK64 < insn.length:
                    raise no_code(address)
                return window.open(address)
            case Filled.CODE:
                revealed.add(address & -PAGE)
                return self.shadow.reveal(address)
            case Filled.UNREACHABLE:
                return False
            case _:
                assert_never(met)

    def _conceal(self, revealed: set[int], stores: list[tuple[int, int]]) -> None:
        """Take real pages of code away again, and look anew at what was stored there."""
        for page in revealed:
            self.shadow.conceal(page)
        for page in revealed:
            for gva, length in stores:
                self._stored(page, gva, length)

    # --pure

    def step_answered(self, insn: Instruction) -> Exit:
        """Step an instruction that Linux completes for ring 3 on a CPU with UMIP. There the CPU's
        single-step trap, and a breakpoint too, come one instruction late (RF is set on the way back);
        so it runs on a copy of its page with an INT3 behind it."""
        at, behind = self.cpu.rip, self.cpu.rip + insn.length
        if not self.engine.traits.native or (at ^ behind) & -PAGE:
            return self.engine.step(self.cpu)
        page = at & -PAGE
        scratch = self.memory.ram.scratch
        frame = self.mmu.translate(page, execute=True)
        self.memory.view[scratch : scratch + PAGE] = self.memory.view[frame : frame + PAGE]
        self.memory.view[scratch + behind - page] = INT3
        self.shadow.open(page, scratch, executable=True)
        exit = self.engine.run(self.cpu)
        self.shadow.close(page)
        self.shadow.fill(at, write=False, execute=True)
        return STEPPED if self.cpu.rip == behind else exit

    # Free mode

    def go_free(self, *, silent: bool = False) -> None:
        """From here on the guest runs at full speed: from patched code, where nobody looks ahead."""
        self.silent = silent
        twin = self.engine.patched_twin()
        if self.patcher is not None or twin is None or self.vmm.pure:
            return
        self.patcher = Patcher(twin, self.memory, self.mmu, self.cpu, hidden=self.engine.hides_code)
        self.patcher.control_changed()
        self.shadow.patcher = self.patcher
        self.shadow.hide_all()
        self.memory.writes = []
        self.shadow.show_boot()
        if self.shadow.holds(self.cpu.rip, execute=True):  # and the page that it is in
            self.shadow.fill(self.cpu.rip, write=False, execute=True)
            self.patcher.executed(self.cpu.rip)

    def go_exact(self) -> None:
        """From here on every instruction is looked at before it runs, and runs from real pages."""
        self.silent = False
        if self.patcher is None:
            return
        self.left()
        self.patcher = self.shadow.patcher = None
        self.shadow.hide_all()
        self.shadow.show_boot()

    def before_entry(self) -> None:
        """Let the twin know what the VMM and its devices have written since the last exit."""
        if self.patcher is not None and self.patcher.crowded:
            silent = self.silent
            self.go_exact()
            self.go_free(silent=silent)
        patcher = self.patcher
        if patcher is None:
            return
        self._changed = False
        if self.memory.writes:
            self.wrote(self.memory.writes)
            self.memory.writes.clear()
        if patcher.shared:
            self.left()
            patcher.enter()
        patcher.control_changed()
        patcher.entering(self.cpu.rip)

    def wrote(self, ranges: list[tuple[int, int]]) -> None:
        """The VMM or a device has written there: (GPA, length) of each."""
        if self.patcher is not None:
            for gpa, length in ranges:
                self.patcher.written(gpa, length)

    def left(self) -> None:
        """The guest has been left: what it stored into shared pages belongs into RAM."""
        if self.patcher is not None and self.patcher.shared:
            for gpa in self.patcher.left():
                self.shadow.share(gpa)
                self._changed = True
                if not self.silent:
                    self.vmm.notes[CHANGED] = None

    def at_patch(self) -> bool:
        """Is it a HLT of the patcher's that stopped the guest at RIP?"""
        if self.patcher is None:
            return False
        return self._changed or self.patcher.is_patched(self.mmu.locate(self.cpu.rip))

    def discover(self) -> bool:
        """Was it code at RIP that nobody had looked at yet? Now it can run."""
        return self.patcher is not None and self.patcher.discover(self.cpu.rip)

    def _scanned(self, insn: Instruction, what: str) -> None:
        self.vmm.record(insn, Reason.SCAN, what, "decoded, and patched where it must trap")

    def patched(self, insn: Instruction) -> bool:
        """The guest met a patch: code not looked at yet (False: now it can run), or something that
        would have run unseen (True: completed)."""
        patcher = self.patcher
        assert patcher is not None
        rip = self.cpu.rip
        if patcher.discover(rip):
            if not self.silent:
                self._scanned(insn, f"code at {rip:#x}")
            return False
        if insn.sensitivity is not Sensitivity.ORDINARY:
            self.vmm.emulate(insn, FOUND if self.silent else PATCHED)
            return True
        if insn.floating:
            check_floating(insn, self.cpu)
        self.vmm.trace.bridged += not self.silent  # stepped, the CPU would have run it
        if patcher.catch_branches and is_indirect(insn):
            self._miss(insn)
            self.vmm.emulator.execute(insn)
            patcher.branched(rip, self.cpu.rip)
            if patcher.trusts and not self.silent:
                self.vmm.notes[TRUSTED] = None
        elif insn.varies:
            self.vmm.emulator.execute(insn)
        else:  # another instruction's patch lies in the middle of this one
            self._on_real_page(insn, rip)
        return True

    def _miss(self, insn: Instruction) -> None:
        """The VMM completes an instruction that the CPU should have run: what the CPU would not have
        found in the virtual TLB is entered there all the same."""
        for gva, length, store in next_accesses(insn, self.cpu):
            for at in (gva, gva + length - 1):
                if not self.shadow.holds(at, write=store):
                    with contextlib.suppress(GuestFault):  # the emulator says what it is: #PF, #SS, #GP
                        self._fill(insn, at)

    def _on_real_page(self, insn: Instruction, address: int) -> None:
        """Complete one instruction that touches code as data, or whose bytes a patch overlaps, with
        the real page in its place."""
        assert self.patcher is not None
        touched = self.patcher.pages.get(self.mmu.translate(address & -PAGE, user=False) & -PAGE)
        self._execute_alone(insn, address, Filled.CODE)
        if touched is not None and self.patcher.touch(touched):
            self.shadow.share(touched.gpa)

    def _stored(self, page: int, gva: int, length: int) -> None:
        """A store may have hit this page: what of it is code has to be looked at again."""
        assert self.patcher is not None
        start, end = max(gva, page), min(gva + length, page + PAGE)
        if start < end:
            self.patcher.written(self.mmu.translate(start, user=False), end - start)
