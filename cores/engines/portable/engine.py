"""The portable trap engine: Unicorn at ring 3 replaces the CPU on hosts without trap:native.

The VMM is the same as on the native trap core, and handles the same exits: a deprivileged guest is
executed at ring 3 of the emulated CPU, under page tables of this engine, and an instruction that ring 3
may not execute faults. Unicorn differs from a CPU in some instructions, which are recognised before
they are executed: IN and OUT never fault, SYSCALL has no effect without a hook, and INT and INT3 ignore
the guest's descriptor tables.
"""

from __future__ import annotations

from cores.engines.base import (
    ALL_REASONS,
    INTERCEPT,
    SYSTEM_CALL,
    DeprivilegedEngine,
    Exit,
    Fault,
    Intercept,
    RingZero,
    Traits,
)
from cores.engines.portable.page_tables import HiddenTables
from cores.engines.unicorn import capi, checks
from cores.engines.unicorn.cpu import UnicornCpu
from cores.engines.unicorn.free_run import FreeRunner
from cores.engines.unicorn.layout import find_layout
from cores.errors import UnavailableError
from cores.pc.physical_memory import PhysicalMemory
from cores.x86.faults import GuestFault
from cores.x86.isa.decoder import Truncated, decode
from cores.x86.isa.encoding import LONGEST
from cores.x86.isa.instruction import Immediate, Instruction, Sensitivity
from cores.x86.mmu.paging import Mmu
from cores.x86.mmu.segmentation import code_address
from cores.x86.mode import CODE_64, code_bits, is_long
from cores.x86.registers import CS, FS, GS, USER_FLAGS, Cr0, Cr4, Efer, Flag, PageFault, Vector
from cores.x86.virtual_cpu import DPL, Segment, TableRegister, VirtualCpu

_TABLES_AT = 1 << 36
"""Physical address of the engine's own page tables, far above any guest's RAM."""

_PAGE = 4096
_CR0 = Cr0.PG | Cr0.AM | Cr0.WP | Cr0.NE | Cr0.ET | Cr0.MP | Cr0.PE
_CR4 = Cr4.PAE | Cr4.PGE | Cr4.OSFXSR | Cr4.OSXMMEXCPT | Cr4.DE | Cr4.TSD
_DISABLED = Cr0.TS | Cr0.EM | Cr0.MP
_HOST_FLAGS = Flag.FIXED | Flag.IF
_REFUSED = frozenset(("in", "out", "ins", "outs", "rdpmc"))  # IOPL is 0, no I/O map, CR4.PCE clear
_LINUX_GATE = 0x80


class PortableTrapEngine(DeprivilegedEngine):
    """The engine; see the module's docstring. Raises UnavailableError when Unicorn is missing or
    unknown."""

    executes_legacy_code = True

    taken: frozenset[str] = frozenset()
    """Mnemonics whose sensitive instructions ``run`` leaves to the VMM although it is ``pure``; set by
    ``take``."""

    def __init__(self) -> None:
        if reason := self.probe():
            raise UnavailableError(reason)
        find_layout()
        self.traits = Traits(
            core="trap:portable",
            label="Unicorn at ring 3 stands in for it",
            engine=f"Unicorn {capi.version()}",
            deprivileged=True,
            ring_zero=RingZero.DEPRIVILEGED,
            follows=True,
            translates=True,
            exits_for=ALL_REASONS,
            registers="host memory",
        )
        self._core: UnicornCpu | None = None
        self._free: FreeRunner | None = None
        self._tables: HiddenTables | None = None
        self._code: dict[int, int] = {}
        self._real = _ring_3()

    @staticmethod
    def probe() -> str | None:
        """The reason why it cannot run on this host; None when it can."""
        return capi.probe()

    def load(self, memory: PhysicalMemory) -> None:
        self.close()
        self._memory = memory
        memory.unseen = []
        self._core = UnicornCpu(lambda cpu: self._fetch, self._locate)
        self._free = FreeRunner(self._core, memory, self._must_leave)
        self._tables = HiddenTables(_TABLES_AT)
        ram = memory.ram
        self._core.unicorn.map_ram(0, len(ram.view), ram.address)  # its scratch pages too
        tables = self._tables.ram
        self._core.unicorn.map_ram(_TABLES_AT, tables.size, tables.address)
        self._real.gdtr = TableRegister(*self._tables.gdt)

    # Entering and leaving

    def step(self, cpu: VirtualCpu) -> Exit:
        core, free = self._loaded()
        core.announce(self._memory)
        refused = self._refused(cpu)
        if refused is not None:
            return refused
        real = self._real
        _enter(real, cpu, self._hidden().roots[self.space])
        exit = free.single(real) if free.active and free.may_step() else core.step(real)
        _leave(real, cpu)
        return exit

    def run(self, cpu: VirtualCpu, budget: int | None = None) -> Exit:
        core, free = self._loaded()
        core.announce(self._memory)
        real = self._real
        _enter(real, cpu, self._hidden().roots[self.space])
        # x87 and SSE that the guest has disabled are not recognised beforehand here: let them fault.
        real.cr0, real.cr4 = (
            real.cr0 & ~_DISABLED | cpu.cr0 & _DISABLED,
            real.cr4 & ~Cr4.OSFXSR | cpu.cr4 & Cr4.OSFXSR,
        )
        exit = free.run(real, budget)
        real.cr0, real.cr4 = _CR0, _CR4
        self.executed = free.executed
        self.overlooks_x87 = free.x87
        _leave(real, cpu)
        if isinstance(exit, Intercept):
            return self._refused(cpu) or exit
        return exit

    def _refused(self, cpu: VirtualCpu) -> Exit | None:
        """The exit that a CPU would give at the instruction at RIP in ring 3, where Unicorn gives
        none."""
        try:
            insn = decode(self._fetch(code_address(cpu, cpu.rip)), code_bits(cpu))
        except (GuestFault, Truncated):
            return None  # let the fetch or the opcode fault
        return _ring_3_verdict(insn)

    def admits(self, insn: Instruction, cpu: VirtualCpu, mmu: Mmu) -> bool:
        faults = self._loaded()[0].sse_faults
        return checks.admits(insn, cpu, mmu, self.read_fpu, sse_faults=faults)

    def corrected(self, fault: Fault, insn: Instruction, cpu: VirtualCpu, mmu: Mmu) -> Fault:
        """Faults of sensitive instructions are traps to the VMM, and page faults may be shadow misses:
        neither is corrected, except for the address."""
        if fault.vector == Vector.PF and fault.address is not None:
            return Fault(Vector.PF, fault.error, checks.first_address(insn, cpu, fault.address))
        if insn.sensitivity is not Sensitivity.ORDINARY:
            return fault
        return checks.corrected(fault, insn, cpu, mmu)

    def read_fpu(self) -> bytes:
        return self._loaded()[0].read_fpu()

    def write_fpu(self, image: bytes) -> None:
        self._loaded()[0].write_fpu(image)

    def memory_changed(self) -> None:
        core, free = self._loaded()
        core.forget_code()
        core.unicorn.flush_tlb()
        free.forget()

    def where(self) -> str:
        """The place of the guest's registers, for the pane's headline."""
        return f"host memory at {self._core.unicorn.address:#x}" if self._core else "host memory"

    def interrupt(self) -> None:
        if self._free:
            self._free.interrupt()

    def close(self) -> None:
        if self._core:
            self._core.close()
            self._core = self._free = None
        if self._tables:
            self._tables.close()
            self._tables = None

    # The virtual TLB

    def reaches(self, gva: int, length: int) -> bool:
        return gva + length <= 1 << 47  # not the upper half, as on the native engine

    def map(
        self, space: int, gva: int, gpa: int, length: int, *, writable: bool, executable: bool,
        twin: bool = False, readable: bool = True, populate: bool = False,
    ) -> bool:  # fmt: skip
        if not self.reaches(gva, length):
            return False
        self._hidden().map(space, gva, gpa, length, writable=writable, executable=executable)
        self._forget()
        return True

    def translate(self, space: int, gva: int) -> int | None:
        """The physical address to which a guest address is mapped; None where it is not."""
        return self._hidden().translate(space, gva)

    def take(self, mnemonics: frozenset[str]) -> None:
        """Set ``taken``."""
        self.taken = mnemonics
        self._loaded()[1].forget()

    def unmap(self, space: int, gva: int, length: int) -> None:
        self._hidden().unmap(space, gva, min(length, (1 << 47) - gva))
        self._forget()

    def drop_all(self) -> None:
        self._hidden().drop_all()
        self._forget()

    def fault_was_write(self, cpu: VirtualCpu) -> bool:
        return bool(self._loaded()[0].last_error & PageFault.W)

    def _forget(self) -> None:
        self._code.clear()
        core, free = self._loaded()
        core.unicorn.flush_tlb()
        free.flushed()

    def _fetch(self, rip: int) -> bytes:
        """Up to 15 bytes of code at the linear address ``rip`` in the current space, as far as they are
        mapped executable."""
        code = b""
        while len(code) < LONGEST:
            at = rip + len(code)
            page = self._code.get(at >> 12 | self.space << 52)
            if page is None:
                physical = self._hidden().translate(self.space, at & -_PAGE, execute=True)
                if physical is None:
                    return code
                page = self._code[at >> 12 | self.space << 52] = physical
            start = page + at % _PAGE
            end = min(start + LONGEST - len(code), page + _PAGE)
            code += self._memory.ram.view[start:end]
        return code

    def _locate(self, _cpu: VirtualCpu, page: int) -> int | None:
        return self._hidden().translate(self.space, page, execute=True)

    def _must_leave(self, insn: Instruction) -> bool:
        """Must a free run stop before ``insn``, because Unicorn's result would differ from that of a
        CPU in ring 3, or of the guest's CPU?"""
        if insn.sensitivity in (Sensitivity.SILENT, Sensitivity.ABSENT):
            return not self.pure or insn.mnemonic in self.taken
        if insn.sensitivity is Sensitivity.PRIVILEGED:
            return _ring_3_verdict(insn) is not None
        compares = insn.mnemonic in checks.COMPARING
        return insn.mistranslated or compares or (insn.varies and not self.pure)

    def _loaded(self) -> tuple[UnicornCpu, FreeRunner]:
        if self._core is None or self._free is None:
            raise RuntimeError("the engine has no guest: load() it first")
        return self._core, self._free

    def _hidden(self) -> HiddenTables:
        if self._tables is None:
            raise RuntimeError("the engine has no guest: load() it first")
        return self._tables


_FLAT = 0xFFFFFFFF
_CODE_32, _DATA = 0x23, 0x2B
_PRESENT, _ACCESSED_DATA, _ACCESSED_CODE = 0x80, 0x13, 0x1B
_LONG_SEGMENTS = ((0, 0), (0x33, 0xA0FB), (0x2B, 0xC0F3), (0, 0), (0, 0), (0, 0))
"""Selector and attributes of ES, CS, SS, DS, FS and GS in a 64-bit process of Linux."""


def _ring_3() -> VirtualCpu:
    """A CPU as Linux sets it up for a process: the CPU that executes a deprivileged guest."""
    return VirtualCpu(
        rflags=_HOST_FLAGS,
        cr0=_CR0,
        cr4=_CR4,
        efer=Efer.SCE | Efer.LME | Efer.LMA | Efer.NXE,
        idtr=TableRegister(0xFFFFFE0000000000, 0xFFF),
        ldtr=Segment(0, 0, 0, 0),
        tr=Segment(0x40, 0xFFFFFE0000002000, 0x2087, 0x8B),
        segments=[Segment(selector, 0, _FLAT, attributes) for selector, attributes in _LONG_SEGMENTS],
    )


def _enter(real: VirtualCpu, cpu: VirtualCpu, root: int) -> None:
    real.gpr[:] = cpu.gpr
    real.rip = cpu.rip
    real.rflags = cpu.rflags & USER_FLAGS | _HOST_FLAGS
    real.cr3 = root
    if is_long(cpu):
        if not real.segments[CS].attributes & CODE_64:
            _enter_long_mode(real)
        real.segments[FS].base = cpu.segments[FS].base
        real.segments[GS].base = cpu.segments[GS].base
    else:
        _enter_segments(real, cpu)


def _enter_long_mode(real: VirtualCpu) -> None:
    """Segments as in a 64-bit process."""
    for segment, (selector, attributes) in zip(real.segments, _LONG_SEGMENTS, strict=True):
        segment.selector, segment.attributes = selector, attributes
        segment.base, segment.limit = 0, _FLAT


def _enter_segments(real: VirtualCpu, cpu: VirtualCpu) -> None:
    """16- and 32-bit code runs in segments of ring 3 with the guest's bases and limits, as if they came
    from a local descriptor table. Real mode's are data and code like the others'."""
    for index, (segment, guests) in enumerate(zip(real.segments, cpu.segments, strict=True)):
        segment.base, segment.limit = guests.base, guests.limit
        attributes = guests.attributes | DPL
        if not cpu.cr0 & Cr0.PE:
            attributes = attributes & ~0xF | _ACCESSED_DATA | _PRESENT
        if index == CS:
            attributes = attributes & ~CODE_64 | _ACCESSED_CODE
        segment.attributes = attributes
        segment.selector = _CODE_32 if index == CS else _DATA if attributes & _PRESENT else 0


def _leave(real: VirtualCpu, cpu: VirtualCpu) -> None:
    cpu.gpr[:] = real.gpr
    cpu.rip = real.rip
    cpu.rflags = cpu.rflags & ~USER_FLAGS | real.rflags & USER_FLAGS
    cpu.segments[FS].base = real.segments[FS].base
    cpu.segments[GS].base = real.segments[GS].base


def _ring_3_verdict(insn: Instruction) -> Exit | None:
    """The exit that a CPU gives at ring 3 for an instruction with which Unicorn differs; else None."""
    mnemonic = insn.mnemonic
    if mnemonic in _REFUSED:
        return Fault(Vector.GP, 0)
    if mnemonic in ("syscall", "sysenter"):
        return SYSTEM_CALL
    if mnemonic == "into":
        return INTERCEPT  # whether it traps depends on OF
    if mnemonic == "int3":
        return Fault(Vector.BP)
    if mnemonic == "int1":
        return Fault(Vector.DB)
    if mnemonic == "int":
        operand = insn.operands[0]
        assert isinstance(operand, Immediate)
        vector = operand.value & 0xFF
        if vector == _LINUX_GATE:
            return SYSTEM_CALL
        if vector == Vector.BP:
            return Fault(Vector.BP)
        return Fault(Vector.GP, vector * 8 + 2)  # the gates of Linux have DPL 0
    return None
