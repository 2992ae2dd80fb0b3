"""Descriptor tables: loads, stores, and queries of a selector (SDM vol. 3, ch. 3)."""

from __future__ import annotations

from cores.vmm.emulate.emulator import Emulator, Handlers
from cores.x86.faults import general_protection
from cores.x86.isa.instruction import Instruction
from cores.x86.registers import canonical
from cores.x86.system import descriptors


def lgdt(e: Emulator, insn: Instruction) -> str:
    return load_table(e, insn, "gdtr")


def lidt(e: Emulator, insn: Instruction) -> str:
    return load_table(e, insn, "idtr")


def load_table(e: Emulator, insn: Instruction, name: str) -> str:
    e.kernel_only()
    size = 2 + _base_bytes(insn)
    image = e.mmu.read(e.place(insn, e.memory_operand(insn), size), size)
    limit, base = int.from_bytes(image[:2], "little"), int.from_bytes(image[2:], "little")
    if insn.operand_size == 2:
        base &= 0xFFFFFF  # of 16-bit operands three bytes of the base count (SDM vol. 2, LGDT)
    if not canonical(base):
        raise general_protection()
    table = e.cpu.gdtr if name == "gdtr" else e.cpu.idtr
    table.base, table.limit = base, limit
    return f"virtual {name} = {base:#x}, limit {limit:#x}"


def _base_bytes(insn: Instruction) -> int:
    """The bytes of a table's base in memory: 8 in 64-bit code, else 4."""
    return 8 if insn.bits == 64 else 4


def sgdt(e: Emulator, insn: Instruction) -> str:
    return store_table(e, insn, "gdtr")


def sidt(e: Emulator, insn: Instruction) -> str:
    return store_table(e, insn, "idtr")


def store_table(e: Emulator, insn: Instruction, name: str) -> str:
    table = e.cpu.gdtr if name == "gdtr" else e.cpu.idtr
    size = _base_bytes(insn)
    image = table.limit.to_bytes(2, "little") + table.base.to_bytes(8, "little")[:size]
    e.mmu.write(e.place(insn, e.memory_operand(insn), 2 + size, write=True), image)
    return f"gave the virtual {name} {table.base:#x}"


def lldt(e: Emulator, insn: Instruction) -> str:
    e.protected_only()
    e.kernel_only()
    selector = e.read(insn, insn.operands[0], 2) & 0xFFFF
    descriptors.load_ldtr(e.mmu, e.cpu, selector)
    return f"virtual ldtr = {selector:#x}"


def ltr(e: Emulator, insn: Instruction) -> str:
    e.protected_only()
    e.kernel_only()
    selector = e.read(insn, insn.operands[0], 2) & 0xFFFF
    descriptors.load_tr(e.mmu, e.cpu, selector)
    return f"virtual tr = {selector:#x}"


def sldt(e: Emulator, insn: Instruction) -> str:
    e.protected_only()
    e.store_word(insn, e.cpu.ldtr.selector)
    return f"gave the virtual ldtr {e.cpu.ldtr.selector:#x}"


def str_(e: Emulator, insn: Instruction) -> str:
    e.protected_only()
    e.store_word(insn, e.cpu.tr.selector)
    return f"gave the virtual tr {e.cpu.tr.selector:#x}"


def lar(e: Emulator, insn: Instruction) -> str:
    return about_selector(e, insn, descriptors.access_rights(e.mmu, e.cpu, selector(e, insn)))


def lsl(e: Emulator, insn: Instruction) -> str:
    return about_selector(e, insn, descriptors.segment_limit(e.mmu, e.cpu, selector(e, insn)))


def arpl(e: Emulator, insn: Instruction) -> str:
    """ARPL (SDM vol. 2): raises the RPL of the first selector to the second's."""
    e.protected_only()
    destination, source = insn.operands
    mine, other = e.read(insn, destination, 2) & 0xFFFF, e.read(insn, source, 2) & 3
    raised = mine & 3 < other
    if raised:
        e.write(insn, destination, mine & ~3 | other, 2)
    e.set_zero_flag(raised)
    return f"ZF = {raised:d}"


def selector(e: Emulator, insn: Instruction) -> int:
    e.protected_only()
    return e.read(insn, insn.operands[-1], 2) & 0xFFFF


def about_selector(e: Emulator, insn: Instruction, answer: int | None) -> str:
    e.set_zero_flag(answer is not None)
    if answer is None:
        return "ZF = 0: not visible"
    e.write(insn, insn.operands[0], answer)
    return f"gave {answer:#x}, from the guest's own table"


def verr(e: Emulator, insn: Instruction) -> str:
    readable = descriptors.verify_read(e.mmu, e.cpu, selector(e, insn))
    e.set_zero_flag(readable)
    return f"ZF = {readable:d}"


def verw(e: Emulator, insn: Instruction) -> str:
    writable = descriptors.verify_write(e.mmu, e.cpu, selector(e, insn))
    e.set_zero_flag(writable)
    return f"ZF = {writable:d}"


HANDLERS: Handlers = {
    "lgdt": lgdt,
    "lidt": lidt,
    "sgdt": sgdt,
    "sidt": sidt,
    "lldt": lldt,
    "ltr": ltr,
    "sldt": sldt,
    "str": str_,
    "lar": lar,
    "lsl": lsl,
    "verr": verr,
    "verw": verw,
    "arpl": arpl,
}
