"""Segment descriptors: decoding, loading, queries, in every mode (SDM vol. 3, ch. 3, 5).

Every access to a descriptor table is an implicit supervisor access. Error codes are the selector
without its RPL; ``ext`` adds the EXT bit while an event is being delivered. In long mode, compatibility
mode included, system descriptors have 16 bytes and 32-bit types; else they have 8.
"""

from __future__ import annotations

from dataclasses import dataclass

from cores.x86.faults import general_protection, segment_not_present, stack_fault, undefined_opcode
from cores.x86.mmu.paging import Mmu
from cores.x86.mode import is_long
from cores.x86.registers import CS, MASK32, MASK64, SS, Cr0, Efer, canonical
from cores.x86.virtual_cpu import Segment, VirtualCpu

TSS_16_AVAILABLE, LDT, TSS_16_BUSY, CALL_GATE_16, TASK_GATE = range(1, 6)
INTERRUPT_GATE_16, TRAP_GATE_16 = 6, 7
TSS_AVAILABLE = 0x9
TSS_BUSY = 0xB
CALL_GATE = 0xC
INTERRUPT_GATE = 0xE
TRAP_GATE = 0xF

_WIDE_TYPES = frozenset({LDT, TSS_AVAILABLE, TSS_BUSY, CALL_GATE})
"""The system types that LAR reports in long mode; LSL those of them that have a limit."""
_LEGACY_TYPES = _WIDE_TYPES | {TSS_16_AVAILABLE, TSS_16_BUSY, CALL_GATE_16, TASK_GATE}
_GATES = frozenset({CALL_GATE, CALL_GATE_16, TASK_GATE})

_BUSY = 1 << 41
_BUSY_TYPE = 2
_ACCESSED = 1 << 40
_LAR_MASK = 0x00F0FF00


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One descriptor as it stands in its table.

    low: its 8 bytes. high: the 8 that follow, for system descriptors of 16 bytes, else 0.
    address: its linear address, where the CPU sets the accessed and busy bits.
    """

    low: int
    high: int
    address: int

    @property
    def attributes(self) -> int:
        """The attributes in the layout of ``virtual_cpu.Segment``."""
        return self.low >> 40 & 0xF0FF

    @property
    def base(self) -> int:
        return self.low >> 16 & 0xFFFFFF | self.low >> 32 & 0xFF000000 | (self.high & 0xFFFFFFFF) << 32

    @property
    def limit(self) -> int:
        """The limit in bytes: granularity applied."""
        limit = self.low & 0xFFFF | self.low >> 32 & 0xF0000
        return limit << 12 | 0xFFF if self.low >> 55 & 1 else limit

    @property
    def type(self) -> int:
        return self.low >> 40 & 0xF

    @property
    def system(self) -> bool:
        """Whether it is neither code nor data: the S bit is clear."""
        return not self.low >> 44 & 1

    @property
    def dpl(self) -> int:
        return self.low >> 45 & 3

    @property
    def present(self) -> bool:
        return bool(self.low >> 47 & 1)

    @property
    def code(self) -> bool:
        return not self.system and bool(self.type & 8)

    @property
    def conforming(self) -> bool:
        """Whether it is a code segment that runs at its caller's privilege."""
        return self.code and bool(self.type & 4)

    @property
    def readable(self) -> bool:
        return not self.system and (not self.type & 8 or bool(self.type & 2))

    @property
    def writable(self) -> bool:
        return not self.system and self.type & 0xA == 2

    @property
    def long(self) -> bool:
        return bool(self.low >> 53 & 1)

    @property
    def big(self) -> bool:
        """The D/B bit: 32-bit code, a 32-bit stack pointer. It must be clear in 64-bit code."""
        return bool(self.low >> 54 & 1)

    @property
    def upper_type(self) -> int:
        """Type field of the upper half: must be 0, so that the upper half is not a valid descriptor."""
        return self.high >> 40 & 0x1F

    # The fields of gates (SDM vol. 3, figures 5-8 and 6-8).

    @property
    def gate_selector(self) -> int:
        return self.low >> 16 & 0xFFFF

    @property
    def gate_size(self) -> int:
        """The bytes of each word that passing the gate pushes, outside long mode: 2 or 4."""
        return 4 if self.type & 8 else 2

    @property
    def gate_offset(self) -> int:
        if not self.type & 8:
            return self.low & 0xFFFF
        return self.low & 0xFFFF | self.low >> 32 & 0xFFFF0000 | (self.high & 0xFFFFFFFF) << 32


def is_null(selector: int) -> bool:
    return not selector & 0xFFFC


def read_descriptor(
    mmu: Mmu, cpu: VirtualCpu, selector: int, *, wide: bool = False, ext: int = 0
) -> Descriptor:
    """The descriptor that ``selector`` names. wide: a system descriptor, of which all 16 bytes are read
    in long mode.

    Raises #GP(selector) if it lies outside its table, or if there is no LDT.
    """
    long = cpu.efer & Efer.LMA
    wide = bool(wide and long)
    table = cpu.ldtr if selector & 4 else cpu.gdtr
    offset = selector & 0xFFF8
    if (selector & 4 and not cpu.ldtr.present) or offset + (15 if wide else 7) > table.limit:
        raise general_protection(selector & 0xFFFC | ext)
    address = (table.base + offset) & (MASK64 if long else MASK32)
    low = mmu.read_u64(address, implicit=True)
    high = mmu.read_u64((address + 8) & MASK64, implicit=True) if wide else 0
    return Descriptor(low, high, address)


def mark_accessed(mmu: Mmu, descriptor: Descriptor) -> None:
    """Set the accessed bit in the table, as loading a code or data segment does."""
    if not descriptor.low & _ACCESSED:
        data = (descriptor.low | _ACCESSED).to_bytes(8, "little")
        mmu.write(descriptor.address, data, implicit=True)


def to_segment(selector: int, descriptor: Descriptor) -> Segment:
    """The segment register's contents after loading this code or data descriptor."""
    return Segment(selector, descriptor.base, descriptor.limit, descriptor.attributes | 1)


def null_segment(selector: int, dpl: int = 0) -> Segment:
    """The segment register's contents after loading a null selector.

    The base becomes 0, so FS_BASE and GS_BASE are lost. Intel CPUs do that, and so do Unicorn and KVM's
    emulator; AMD's keep the base. ``dpl`` matters in SS alone, where it mirrors CPL.
    """
    return Segment(selector, 0, 0, dpl << 5)


def load_segment(mmu: Mmu, cpu: VirtualCpu, index: int, selector: int) -> None:
    """MOV or POP to ES, SS, DS, FS or GS (SDM vol. 2, MOV). The caller sets the interrupt shadow of SS.

    Raises #UD for CS, #GP, #NP or #SS with the selector, and page faults of the table.
    """
    if index == CS:
        raise undefined_opcode()
    if not cpu.cr0 & Cr0.PE:
        load_real(cpu, index, selector)
        return
    if index == SS:
        cpu.segments[SS] = load_stack_segment(mmu, cpu, selector, cpu.cpl, null=is_long(cpu))
        return
    if is_null(selector):
        cpu.segments[index] = null_segment(selector)
        return
    descriptor = read_descriptor(mmu, cpu, selector)
    error = selector & 0xFFFC
    if not descriptor.readable:
        raise general_protection(error)
    if not descriptor.conforming and max(selector & 3, cpu.cpl) > descriptor.dpl:
        raise general_protection(error)
    if not descriptor.present:
        raise segment_not_present(error)
    mark_accessed(mmu, descriptor)
    cpu.segments[index] = to_segment(selector, descriptor)


def load_real(cpu: VirtualCpu, index: int, selector: int) -> None:
    """Load a segment register in real mode (SDM vol. 3, 20.1.1). Limit and type stay as they are, so
    that a limit of 4 GiB, loaded in protected mode, remains."""
    segment = cpu.segments[index]
    segment.selector, segment.base = selector, selector << 4


def load_stack_segment(
    mmu: Mmu, cpu: VirtualCpu, selector: int, cpl: int, *, null: bool = False
) -> Segment:
    """The new contents of SS: for MOV and POP, and for returns to ``cpl``.

    null: SS may be null, as in 64-bit mode, except at CPL 3.
    """
    error = selector & 0xFFFC
    if is_null(selector):
        if not null or cpl == 3 or selector & 3 != cpl:
            raise general_protection(0)
        return null_segment(selector, cpl)
    descriptor = read_descriptor(mmu, cpu, selector)
    if selector & 3 != cpl or not descriptor.writable or descriptor.dpl != cpl:
        raise general_protection(error)
    if not descriptor.present:
        raise stack_fault(error)
    mark_accessed(mmu, descriptor)
    return to_segment(selector, descriptor)


def load_ldtr(mmu: Mmu, cpu: VirtualCpu, selector: int) -> None:
    """LLDT (SDM vol. 2). After a null selector there is no LDT. The caller has checked CPL 0."""
    if is_null(selector):
        cpu.ldtr = Segment(selector, 0, 0, 0)
        return
    cpu.ldtr = _system_segment(selector, _system_descriptor(mmu, cpu, selector, (LDT,)))


def load_tr(mmu: Mmu, cpu: VirtualCpu, selector: int) -> None:
    """LTR (SDM vol. 2): marks the TSS busy. The caller has checked CPL 0."""
    if is_null(selector):
        raise general_protection(0)
    kinds = (TSS_AVAILABLE,) if cpu.efer & Efer.LMA else (TSS_AVAILABLE, TSS_16_AVAILABLE)
    descriptor = _system_descriptor(mmu, cpu, selector, kinds)
    busy = descriptor.low | _BUSY
    mmu.write(descriptor.address, busy.to_bytes(8, "little"), implicit=True)
    cpu.tr = _system_segment(selector, descriptor)
    cpu.tr.attributes |= _BUSY_TYPE


def _system_descriptor(mmu: Mmu, cpu: VirtualCpu, selector: int, kinds: tuple[int, ...]) -> Descriptor:
    """A present system descriptor of one of these kinds in the GDT."""
    error = selector & 0xFFFC
    if selector & 4:
        raise general_protection(error)
    descriptor = read_descriptor(mmu, cpu, selector, wide=True)
    if not descriptor.system or descriptor.type not in kinds:
        raise general_protection(error)
    if descriptor.upper_type or not canonical(descriptor.base):
        raise general_protection(error)
    if not descriptor.present:
        raise segment_not_present(error)
    return descriptor


def _system_segment(selector: int, descriptor: Descriptor) -> Segment:
    return Segment(selector, descriptor.base, descriptor.limit, descriptor.attributes)


def access_rights(mmu: Mmu, cpu: VirtualCpu, selector: int) -> int | None:
    """LAR: bits 8-23 of the descriptor's second word, without the limit's; None: ZF = 0.

    The SDM leaves the limit's four bits undefined; here they are 0, as in Unicorn.
    """
    descriptor = _visible(mmu, cpu, selector, _system_types(cpu))
    return None if descriptor is None else descriptor.low >> 32 & _LAR_MASK


def segment_limit(mmu: Mmu, cpu: VirtualCpu, selector: int) -> int | None:
    """LSL: the limit in bytes; None: ZF = 0."""
    descriptor = _visible(mmu, cpu, selector, _system_types(cpu) - _GATES)
    return None if descriptor is None else descriptor.limit


def verify_read(mmu: Mmu, cpu: VirtualCpu, selector: int) -> bool:
    """VERR: the new ZF, whether the segment can be read at this CPL."""
    descriptor = _visible(mmu, cpu, selector, frozenset())
    return descriptor is not None and descriptor.readable


def verify_write(mmu: Mmu, cpu: VirtualCpu, selector: int) -> bool:
    """VERW: the new ZF, whether the segment can be written at this CPL."""
    descriptor = _visible(mmu, cpu, selector, frozenset())
    return descriptor is not None and descriptor.writable


def _system_types(cpu: VirtualCpu) -> frozenset[int]:
    """The types of system descriptors that LAR reports."""
    return _WIDE_TYPES if cpu.efer & Efer.LMA else _LEGACY_TYPES


def _visible(
    mmu: Mmu, cpu: VirtualCpu, selector: int, system_types: frozenset[int]
) -> Descriptor | None:
    """The descriptor, if CPL and RPL permit the query; of system segments these types alone."""
    table = cpu.ldtr if selector & 4 else cpu.gdtr
    no_table = selector & 4 and not cpu.ldtr.present
    if is_null(selector) or no_table or (selector & 0xFFF8) + 7 > table.limit:
        return None
    descriptor = read_descriptor(mmu, cpu, selector)
    if descriptor.system and descriptor.type not in system_types:
        return None
    if not descriptor.conforming and max(selector & 3, cpu.cpl) > descriptor.dpl:
        return None
    return descriptor
