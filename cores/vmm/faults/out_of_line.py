"""Unmappable addresses: instructions completed by the VMM, or by the CPU out of line.

Linux gives a process no memory below vm.mmap_min_addr and none in the upper half, where kernels are
usually mapped; and a few pages are the VMM's own. A guest instruction that is fetched from there or
accesses memory there is completed here, slowly (counted as ``bridged``):

    branches, the stack, strings    by the emulator: they depend on RIP and RSP themselves
    all others                      by the CPU, out of line: the instruction is copied to a page that it
                                    can reach, with its memory operand on another such page
                                    (cores/x86/isa/relocate.py), which is mapped to the same RAM
"""

from __future__ import annotations

import contextlib

from cores.deadline import Deadline
from cores.engines.base import OUT_OF_LINE, DeprivilegedEngine, Failed, Fault, Stepped
from cores.errors import EngineError
from cores.pc.ram import OUT_OF_LINE_PAGE
from cores.vmm.completion import Completion
from cores.vmm.emulate import branches_stack, strings, unicorn_gaps
from cores.vmm.emulate.emulator import Handler, Handlers
from cores.vmm.emulate.table import VARYING, find
from cores.vmm.faults.mmio_window import MmioWindow
from cores.vmm.shadow_tlb import ShadowPages
from cores.vmm.state import GuestContext
from cores.vmm.world_switch import WorldSwitch
from cores.x86.faults import GuestFault, Refused, Unsupported
from cores.x86.isa.accesses import accesses
from cores.x86.isa.decoder import decode
from cores.x86.isa.encoding import parse
from cores.x86.isa.instruction import Instruction, MemoryOperand, Reason, Sensitivity
from cores.x86.isa.opcodes import is_x87
from cores.x86.isa.operand_checks import address_fault, check_operands
from cores.x86.isa.prefixes import normalized
from cores.x86.isa.relocate import relocated
from cores.x86.mmu.code_fetch import demand_ram
from cores.x86.mmu.paging import PAGE
from cores.x86.registers import MASK64, RDI, Vector, canonical
from cores.x86.system.fpu_enabled import check_fpu_enabled

CODE, OPERAND = OUT_OF_LINE.start, OUT_OF_LINE.start + PAGE
"""Address of the relocated instruction, and of the two pages that its operand may lie in."""

FIP, FDP = 8, 16
"""Offsets in an FXSAVE64 image (SDM vol. 1, table 10-2)."""

HANDLERS: Handlers = {**branches_stack.HANDLERS, **strings.HANDLERS}


class OutOfLine:
    """Completes ordinary instructions of one deprivileged guest."""

    def __init__(
        self,
        guest: GuestContext,
        engine: DeprivilegedEngine,
        shadow: ShadowPages,
        completion: Completion,
        switch: WorldSwitch,
    ) -> None:
        self.guest = guest
        self.engine = engine
        self.shadow = shadow
        self.completion = completion
        self.switch = switch
        self._mapped: dict[int, int] = {}  # space -> the shadow's drops when the code page was mapped

    def complete(self, insn: Instruction) -> None:
        """Complete the instruction at RIP. Raises GuestFault for the guest's own faults."""
        guest, cpu = self.guest, self.guest.cpu
        silent = guest.pure and insn.sensitivity is Sensitivity.SILENT and not insn.implicit
        if insn.sensitivity is not Sensitivity.ORDINARY and not silent:
            self.completion.emulate(insn, "met where the CPU cannot reach it")
            return
        demand_ram(insn, cpu, guest.mmu)
        if insn.floating and not guest.pure:
            check_fpu_enabled(insn, cpu)
        translates = self.engine.traits.translates
        if translates:  # it would obey prefixes that a CPU does not
            insn = decode(normalized(insn.code, insn.bits) or insn.code, insn.bits)
        handler = _handler(insn)
        if handler is None and (insn.mnemonic == "nop" or translates):
            handler = unicorn_gaps.HANDLERS.get(insn.mnemonic)  # 0F 0D of a register is none on AMD
        if handler is None and translates and not self.engine.admits(insn, cpu, guest.mmu):
            handler = find(insn)
        if handler is None and insn.bits != 64:  # it has no operands relative to RIP
            raise Unsupported(
                f"{insn.mnemonic} at {cpu.rip:#x} needs a page that the host cannot map: in 16- and"
                " 32-bit code these are the last of 4 GiB, in compatibility mode the first"
            )
        if handler is not None:
            check_operands(insn, cpu, guest.mmu.translate)
            self.completion.bridge(insn, handler)
        else:
            self._execute_relocated(insn)
            guest.trace.bridged += 1

    def _execute_relocated(self, insn: Instruction) -> None:
        """Let the CPU execute a relocated copy of the instruction."""
        if insn.bits != 64:  # the copy's place is beyond its reach
            raise Refused("this host's process cannot map an address that the guest's code uses")
        guest, cpu = self.guest, self.guest.cpu
        rip, rdi, ring = cpu.rip, cpu.gpr[RDI], cpu.cpl
        operand = _Operand(guest, self.shadow, insn) if insn.access or insn.implicit else None
        if operand and insn.implicit == "maskmov":
            self._write_code(insn.code)
            cpu.gpr[RDI] = operand.place
        else:
            self._write_code(relocated(insn, cpu, CODE, operand.place) if operand else insn.code)
        completed = False
        try:
            if operand:
                operand.put()
            cpu.rip = CODE
            self._step(insn, operand, rip)
            completed = True
        finally:
            cpu.rip = rip
            if insn.implicit == "maskmov":
                cpu.gpr[RDI] = rdi
            if operand:
                with contextlib.suppress(EngineError):  # the process may be gone
                    operand.take(completed=completed)
        if operand and operand.window.detail:
            detail, handled = operand.window.detail, "executed through a window"
            guest.record(Reason.MMIO, detail, handled, rip, insn.code, ring)
        if is_x87(parse(insn.code, insn.bits)):
            self._correct_pointers(rip, operand)
        cpu.rip = (rip + insn.length) & MASK64
        cpu.interrupt_shadow = False

    def _step(self, insn: Instruction, operand: _Operand | None, rip: int) -> None:
        deadline = Deadline()
        while not isinstance(exit := self.switch.step_alone(), Stepped):
            deadline.check()
            match exit:
                case Fault(Vector.PF) if operand and operand.fault:
                    raise operand.fault
                case Fault(vector, error, _):
                    self.guest.cpu.rip = rip
                    raise self.completion.guests_own(Fault(vector, error), insn)
                case Failed(reason):
                    raise Unsupported(reason)
                case _:
                    pass

    def _correct_pointers(self, rip: int, operand: _Operand | None) -> None:
        """Replace x87's pointers to the copy and its operand by the originals (SDM vol. 1, 8.1.8)."""
        before = self.engine.read_fpu()
        image = bytearray(before)
        pointers = {CODE: rip} | ({operand.place: operand.gva} if operand else {})
        for at in (FIP, FDP):
            moved_to = int.from_bytes(image[at : at + 8], "little")
            if moved_to in pointers:
                image[at : at + 8] = pointers[moved_to].to_bytes(8, "little")
        if image != before:
            self.engine.write_fpu(bytes(image))

    def _write_code(self, code: bytes) -> None:
        """Write the relocated instruction; its page stays mapped until all mappings are dropped."""
        memory, space = self.guest.memory, self.shadow.host.number()
        page = memory.ram.scratch + OUT_OF_LINE_PAGE * PAGE
        if memory.view[page : page + len(code)] != code:
            memory.view[page : page + len(code)] = code
            self.engine.memory_changed()
        if self._mapped.get(space) != self.shadow.host.drops:
            self.shadow.host.open(CODE, page, writable=False, executable=True)
            self._mapped[space] = self.shadow.host.drops


class _Operand:
    """The memory operand of one relocated instruction: RAM, or a device behind a window.

    place: its address for the CPU. fault: the fault that the guest's tables give for the access, raised
    when the CPU makes it.
    """

    def __init__(self, guest: GuestContext, shadow: ShadowPages, insn: Instruction) -> None:
        (access,) = accesses(insn, guest.cpu)
        self.gva, self.length, self.store = access
        if not canonical(self.gva) or not canonical((self.gva + self.length - 1) & MASK64):
            raise address_fault(insn, guest.cpu)
        self.guest = guest
        self.shadow = shadow
        self.place = OPERAND + self.gva % PAGE
        self.fault: GuestFault | None = None
        self.window = MmioWindow(self, guest.memory, guest.mmu, guest.cpu, insn)
        self._ram: list[tuple[int, int, int]] = []  # GVA, GPA and bytes in each page of RAM

    def put(self) -> None:
        """Map the operand's pages, as far as the guest's tables permit the access."""
        memory, within = self.guest.memory, PAGE - self.gva % PAGE
        pieces = [(self.gva, min(self.length, within))]
        if self.length > within:
            pieces.append(((self.gva + within) & MASK64, self.length - within))
        for gva, length in pieces:
            try:
                gpa = self.guest.mmu.translate(gva, write=self.store)
            except GuestFault as fault:
                self.fault = fault
                return
            if memory.is_ram(gpa & -PAGE, PAGE):
                self._ram.append((gva, gpa, length))
                self.shadow.host.open(self._there(gva), gpa & -PAGE, writable=self.store)
            else:
                self.window.open(gva)

    def take(self, *, completed: bool) -> None:
        """Unmap them; what was stored is passed to the device, or noted as a write to RAM."""
        self.window.close(self.guest.cpu, completed=completed)
        for gva, gpa, length in self._ram:
            self.close(gva)
            if completed and self.store and self.guest.memory.writes is not None:
                self.guest.memory.writes.append((gpa, length))

    def open(self, gva: int, scratch: int) -> bool:
        """Map one of the window's scratch pages at the operand's place."""
        return self.shadow.host.open(self._there(gva), scratch)

    def close(self, gva: int) -> None:
        self.shadow.host.close(self._there(gva))

    def _there(self, gva: int) -> int:
        return OPERAND + (((gva & -PAGE) - (self.gva & -PAGE)) & MASK64)


def _handler(insn: Instruction) -> Handler | None:
    """The handler that completes it in software, None where the CPU can execute it out of line."""
    if insn.mnemonic == "lea":
        source = insn.operands[1]
        return branches_stack.lea if isinstance(source, MemoryOperand) and source.relative else None
    return VARYING[insn.mnemonic] if insn.varies else HANDLERS.get(insn.mnemonic)
