"""Page-fault handling for deprivileged engines: shadow fills, MMIO, patched code.

On a trap core the host's mappings are the guest's TLB, and its devices are pages that are not mapped.
So most page faults of the vCPU process are not the guest's: a mapping has to be filled from the guest's
page tables (cores/vmm/shadow_tlb.py), a device accessed (by MOV: cores/vmm/device_move.py, by others:
cores/vmm/faults/mmio_window.py), or, in free mode, code decoded first
(cores/vmm/patching/patcher.py). Only an access that the guest's own tables forbid becomes the guest's
#PF.
"""

from __future__ import annotations

import contextlib
from typing import assert_never

from cores.deadline import Deadline
from cores.engines.base import DeprivilegedEngine, Failed, Fault, Stepped
from cores.errors import EngineError
from cores.vmm.callouts import Callouts
from cores.vmm.completion import Completion
from cores.vmm.device_move import device_move
from cores.vmm.faults.lent_page import LENT, LentPage
from cores.vmm.faults.mmio_window import MmioWindow
from cores.vmm.faults.out_of_line import OutOfLine
from cores.vmm.first_stores import FirstStores
from cores.vmm.patched_code import TRUSTED, PatchedCode
from cores.vmm.shadow_tlb import Filled, ShadowPages
from cores.vmm.state import GuestContext
from cores.vmm.trace import place_of
from cores.vmm.world_switch import WorldSwitch
from cores.x86.faults import GuestFault
from cores.x86.isa.accesses import accesses, next_accesses
from cores.x86.isa.branches import is_indirect
from cores.x86.isa.instruction import Instruction, MemoryOperand, Reason, Sensitivity
from cores.x86.isa.operand_checks import address_fault, beyond_canonical
from cores.x86.mmu.code_fetch import no_code
from cores.x86.mmu.paging import PAGE
from cores.x86.mmu.segmentation import code_address
from cores.x86.registers import FS, MASK32, MASK64, Flag, Vector
from cores.x86.system.fpu_enabled import check_fpu_enabled

_AC = Flag.AC
FOUND, PATCHED = "found before it ran", "patched: it would have run unseen"
FILLED, THROUGH_WINDOW = "mapped from the guest's tables", "executed through a window"
MOVED = "a MOV, done by the VMM"
THROUGH_PAGE = "executed, with the device's page mapped for reading"


class PageFaults:
    """Handles the page faults of one deprivileged guest's vCPU process."""

    def __init__(
        self,
        guest: GuestContext,
        engine: DeprivilegedEngine,
        shadow: ShadowPages,
        completion: Completion,
        patched: PatchedCode,
        switch: WorldSwitch,
        callouts: Callouts | None,
        stores: FirstStores,
    ) -> None:
        self.guest = guest
        self.engine = engine
        self.shadow = shadow
        self.memory = guest.memory
        self.mmu = guest.mmu
        self.cpu = guest.cpu
        self.completion = completion
        self.patched_code = patched
        self.switch = switch
        self.callouts = callouts
        self.stores = stores
        self.out_of_line = OutOfLine(guest, engine, shadow, completion, switch)
        if engine.traits.native:
            apic = guest.board.local_apic
            guest.lent = LentPage(guest.memory, apic, shadow, lambda: guest.notes.update({LENT: None}))

    def serve(self, insn: Instruction, address: int) -> bool:
        """Handle a page fault at ``address``. True: the instruction is now complete, or the machine has
        stopped; False: try again. Raises GuestFault when the guest's tables forbid the access."""
        if self.by_virtual_base(insn) and (address - self._here()) & MASK64 >= insn.length:
            self.out_of_line.complete(insn)
            return True
        met = self._fill(insn, address)
        if met is Filled.MAPPED:
            return False
        if met is Filled.CODE:
            self._on_real_page(insn, address)
        elif met is Filled.DEVICE:
            if self._lend(insn, address):
                return False
            if not self._move(insn, address):
                self._execute_alone(insn, address, met)
        else:
            self.out_of_line.complete(insn)
        return True

    def _lend(self, insn: Instruction, address: int) -> bool:
        """Lend the guest the device page that it loads from, if it is to have that. The load that asks
        for it is an exit and a device access like any other."""
        lent, patched = self.guest.lent, self.patched_code
        if lent is None or patched.patcher is None or patched.silent or insn.access != "r":
            return False
        touching = [a for a in next_accesses(insn, self.cpu) if (address - a[0]) & MASK64 < a[1]]
        gpa = self.mmu.translate(address)
        if len(touching) != 1 or touching[0][2] or not lent.wanted(insn, gpa):
            return False
        if not lent.lend(address, patched.patcher):
            return False
        self.memory.device_read(gpa, touching[0][1])
        detail = self.memory.describe(gpa, touching[0][1], is_write=False)
        self._record(Reason.MMIO, detail, THROUGH_PAGE, insn)
        return True

    def _move(self, insn: Instruction, address: int) -> bool:
        """Complete a MOV between a register and the device at ``address``. False: it is none, or not
        with one page alone."""
        cpu, move = self.cpu, device_move(insn)
        if move is None or cpu.rflags & _AC:
            return False
        ((gva, length, store),) = accesses(insn, cpu)
        if (address - gva) & MASK64 >= length or gva % PAGE + length > PAGE:
            return False
        rip, ring, place, gpa = cpu.rip, cpu.cpl, place_of(cpu), self.mmu.translate(gva, write=store)
        register = 0 if move.register is None else cpu.gpr[move.register]
        if store:
            self.memory.device_write(gpa, move.stored(register, length))
        elif move.register is not None:
            cpu.gpr[move.register] = move.loaded(register, self.memory.device_read(gpa, length))
        cpu.rip = rip + insn.length & (MASK64 if insn.bits == 64 else MASK32)
        cpu.interrupt_shadow = False
        detail = self.memory.describe(gpa, length, is_write=store)
        self.guest.record(Reason.MMIO, detail, MOVED, rip, insn.code, ring, place)
        return True

    def by_virtual_base(self, insn: Instruction) -> bool:
        """Has it an operand relative to an FS or GS base that only the virtual CPU can have? Then the
        address that the real CPU reports is meaningless."""
        return self.engine.traits.native and any(
            isinstance(o, MemoryOperand) and o.segment >= FS and self.cpu.segments[o.segment].base >> 47
            for o in insn.operands
        )

    def _here(self) -> int:
        """The linear address of the instruction at RIP."""
        return code_address(self.cpu, self.cpu.rip)

    def _fill(self, insn: Instruction, address: int) -> Filled:
        fetching = (address - self._here()) & MASK64 < insn.length
        touching = next_accesses(insn, self.cpu)
        hits = [store for gva, length, store in touching if (address - gva) & MASK64 < length]
        if hits and fetching:  # it accesses its own bytes: the fault is for one of the two
            write = any(hits) and self.engine.fault_was_write(self.cpu)
            fetching = not write and not self.shadow.host.executes(address)
        elif hits or fetching:
            write = any(hits)
        else:
            write = self.engine.fault_was_write(self.cpu)
        page = f"page {address & -PAGE:#x}"
        # What the virtual TLB holds is mapped again without an event:
        first = write and not fetching and not self.shadow.holds(address, write=True)
        if first and self.stores.fill(address):
            self._record(Reason.SHADOW, page, FILLED, insn)
            return Filled.MAPPED
        filled = self.shadow.fill(address, write=write, execute=fetching)
        patcher, silent = self.patched_code.patcher, self.patched_code.silent
        scanned = fetching and filled is Filled.MAPPED and patcher is not None
        if scanned and patcher is not None:
            patcher.executed(address)
            if self.guest.lent is not None:
                self.guest.lent.scanned(patcher)
        if scanned and not silent:
            self._scanned(insn, page)
        elif self.shadow.fresh and filled in (Filled.MAPPED, Filled.CODE):
            self._record(Reason.SHADOW, page, FILLED, insn)
        return filled

    def _execute_alone(self, insn: Instruction, address: int, met: Filled) -> None:
        """Let the CPU execute one instruction with pages mapped for it alone: copies of a device's
        bytes, and unpatched code."""
        rip, ring, place = self.cpu.rip, self.cpu.cpl, place_of(self.cpu)
        at = self._here()
        window = MmioWindow(self.shadow.host, self.memory, self.mmu, self.cpu, insn)
        revealed: set[int] = set()
        stores = [(gva, length) for gva, length, store in accesses(insn, self.cpu) if store]
        deadline = Deadline()
        completed = reachable = False
        try:
            reachable = self._make_way(insn, address, met, window, revealed)
            if reachable and not revealed and self._is_under_a_jump(at):
                reachable = self._make_way(insn, at, Filled.CODE, window, revealed)
            if reachable and revealed and (at ^ at + insn.length - 1) & -PAGE:
                self._make_way(insn, at + insn.length - 1, met, window, revealed)
            while reachable and not isinstance(exit := self.switch.step_alone(), Stepped):
                deadline.check()
                match exit:
                    case Fault(Vector.PF, _, int(missing)):
                        if beyond_canonical(insn, self.cpu, missing):
                            raise address_fault(insn, self.cpu)
                        met = self._fill(insn, missing)
                        reachable = self._make_way(insn, missing, met, window, revealed)
                    case Fault(vector, error, _):
                        raise self.completion.guests_own(Fault(vector, error), insn)
                    case Failed(reason, limit):
                        self.guest.fail(reason, limit)
                        return
                    case _:
                        pass
            completed = reachable
        finally:
            with contextlib.suppress(EngineError):  # the process may be gone
                window.close(self.cpu, completed=completed)
                self._conceal(revealed, stores)
        if window.detail:
            self.guest.record(Reason.MMIO, window.detail, THROUGH_WINDOW, rip, insn.code, ring, place)
        if completed:
            self.cpu.interrupt_shadow = False
        else:
            self.out_of_line.complete(insn)

    def _is_under_a_jump(self, at: int) -> bool:
        """Does a callout's jump stand there in place of the instruction?"""
        patcher = self.patched_code.patcher
        gpa = self.mmu.locate(at)
        page = patcher.pages.get(gpa & -PAGE) if patcher is not None else None
        return page is not None and page.covering(gpa % PAGE) is not None

    def _make_way(
        self, insn: Instruction, address: int, met: Filled, window: MmioWindow, revealed: set[int]
    ) -> bool:
        """Map the page that the instruction needs; False where the host process cannot have it."""
        match met:
            case Filled.MAPPED:
                return True
            case Filled.DEVICE:
                if (address - self._here()) & MASK64 < insn.length:
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
        """Unmap real pages of code, and check again what was stored there."""
        for page in revealed:
            self.shadow.conceal(page)
        for page in revealed:
            for gva, length in stores:
                self._stored(page, gva, length)

    # Free mode: faults that the patches cause

    def patched(self, insn: Instruction) -> bool:
        """Handle a patch that the guest has run into: code not decoded yet (False: now it can run), or
        an instruction that the CPU must not execute (True: completed)."""
        patcher, silent = self.patched_code.patcher, self.patched_code.silent
        assert patcher is not None
        rip = self._here()
        if patcher.discover(rip):
            if self.guest.lent is not None:
                self.guest.lent.scanned(patcher)
            if not silent:
                self._scanned(insn, f"code at {rip:#x}")
            return False
        if insn.sensitivity is not Sensitivity.ORDINARY:
            self.completion.emulate(insn, FOUND if silent else PATCHED)
            return True
        if self.callouts is not None and self.callouts.missed(rip):
            return False
        if insn.floating:
            check_fpu_enabled(insn, self.cpu)
        if patcher.catch_branches and is_indirect(insn):
            self._miss(insn)
            self.completion.bridge(insn)
            self.guest.trace.bridged -= silent  # stepped, the CPU would have run it
            patcher.branched(rip, self._here())
            if self.guest.lent is not None:
                self.guest.lent.scanned(patcher)
            if patcher.trusts and not silent:
                self.guest.notes[TRUSTED] = None
        elif insn.varies:
            self.completion.bridge(insn)
            self.guest.trace.bridged -= silent
        else:  # another instruction's patch lies in the middle of this one
            self.guest.trace.bridged += not silent
            self._on_real_page(insn, rip)
        return True

    def _miss(self, insn: Instruction) -> None:
        """Enter an instruction's accesses into the virtual TLB, as the CPU's faults would have: the VMM
        completes it in the CPU's place."""
        for gva, length, store in next_accesses(insn, self.cpu):
            for at in (gva, gva + length - 1):
                if not self.shadow.holds(at, write=store):
                    with contextlib.suppress(
                        GuestFault
                    ):  # the emulator raises the right one: #PF, #SS, #GP
                        self._fill(insn, at)

    def _on_real_page(self, insn: Instruction, address: int) -> None:
        """Complete one instruction that accesses code as data, or whose bytes a patch overlaps, with
        the real page mapped."""
        patcher = self.patched_code.patcher
        assert patcher is not None
        code = patcher.pages.get(self.mmu.translate(address & -PAGE, user=False) & -PAGE)
        self._execute_alone(insn, address, Filled.CODE)
        if code is not None and patcher.count_data_access(code):
            self.shadow.host.unmap_everywhere(code.gpa)

    def _stored(self, page: int, gva: int, length: int) -> None:
        """Tell the patcher of the part of a store that lies in this page."""
        assert self.patched_code.patcher is not None
        start, end = max(gva, page), min(gva + length, page + PAGE)
        if start < end:
            self.patched_code.patcher.written(self.mmu.translate(start, user=False), end - start)

    def _scanned(self, insn: Instruction, what: str) -> None:
        self._record(Reason.SCAN, what, "decoded, and patched where it must trap", insn)

    def _record(self, reason: Reason, detail: str, handled: str, insn: Instruction) -> None:
        self.guest.record(reason, detail, handled, self.cpu.rip, insn.code, self.cpu.cpl)
