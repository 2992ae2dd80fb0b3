"""MOVS, STOS, LODS, CMPS and SCAS with REP, where the CPU cannot reach the addresses they access.

Iterations are done in blocks where they access RAM alone: kernels clear memory with them. A fault
leaves RSI, RDI and RCX at the iteration that caused it, and the flags unchanged (SDM vol. 2, REP).
"""

from __future__ import annotations

from collections.abc import Callable

from cores.deadline import Deadline
from cores.plural import counted
from cores.vmm.emulate.emulator import Emulator, Handlers
from cores.x86.faults import GuestFault
from cores.x86.isa.accesses import next_accesses, segmented_accesses
from cores.x86.isa.instruction import Instruction, MemoryOperand
from cores.x86.isa.operand_checks import check_segments
from cores.x86.mmu.paging import PAGE
from cores.x86.mmu.segmentation import within_limit
from cores.x86.registers import ARITHMETIC_FLAGS, MASK64, RAX, RCX, Flag


def movs(e: Emulator, insn: Instruction) -> str:
    def block(addresses: list[int], length: int) -> None:
        to, source = addresses
        e.mmu.write(to, e.mmu.read(source, length))

    return _repeat(e, insn, block)


def stos(e: Emulator, insn: Instruction) -> str:
    value = _accumulator(e, insn).to_bytes(insn.operand_size, "little")

    def block(addresses: list[int], length: int) -> None:
        e.mmu.write(addresses[0], value * (length // insn.operand_size))

    return _repeat(e, insn, block)


def lods(e: Emulator, insn: Instruction) -> str:
    def block(addresses: list[int], length: int) -> None:
        size = insn.operand_size
        last = e.mmu.read(addresses[0], length)[-size:]
        e.write(insn, insn.operands[0], int.from_bytes(last, "little"))

    return _repeat(e, insn, block)


def scas(e: Emulator, insn: Instruction) -> str:
    def once(addresses: list[int], length: int) -> None:
        found = int.from_bytes(e.mmu.read(addresses[0], length), "little")
        _compare(e, _accumulator(e, insn), found, 8 * length)

    return _repeat(e, insn, once, compares=True)


def cmps(e: Emulator, insn: Instruction) -> str:
    def once(addresses: list[int], length: int) -> None:
        first, second = (int.from_bytes(e.mmu.read(at, length), "little") for at in addresses)
        _compare(e, first, second, 8 * length)

    return _repeat(e, insn, once, compares=True)


def _accumulator(e: Emulator, insn: Instruction) -> int:
    return e.cpu.gpr[RAX] & ((1 << 8 * insn.operand_size) - 1)


def _compare(e: Emulator, a: int, b: int, bits: int) -> None:
    """Set the flags of a - b (SDM vol. 2, CMP)."""
    result = (a - b) & ((1 << bits) - 1)
    flags = Flag.CF if a < b else 0
    flags |= Flag.ZF if not result else 0
    flags |= Flag.SF if result >> bits - 1 else 0
    flags |= Flag.OF if ((a ^ b) & (a ^ result)) >> bits - 1 else 0
    flags |= Flag.PF if (result & 0xFF).bit_count() % 2 == 0 else 0
    flags |= Flag.AF if (a ^ b ^ result) & 0x10 else 0
    e.cpu.rflags = e.cpu.rflags & ~ARITHMETIC_FLAGS | flags


def _repeat(
    e: Emulator, insn: Instruction, block: Callable[[list[int], int], None], *, compares: bool = False
) -> str:
    """Call ``block`` for each iteration, or once for as many as lie in one page of RAM."""
    cpu, gpr = e.cpu, e.cpu.gpr
    size, mask = insn.operand_size, (1 << 8 * insn.address_size) - 1
    remaining = gpr[RCX] & mask if insn.repeat else 1
    indexes = [o.base for o in insn.operands if isinstance(o, MemoryOperand) and o.base is not None]
    flags, deadline, done = cpu.rflags, Deadline(), 0
    while remaining:
        deadline.check()
        addresses = [gva for gva, _, _ in next_accesses(insn, cpu)]
        if insn.bits != 64:
            check_segments(insn, cpu)
        count = 1 if compares else _together(e, insn, addresses, remaining)
        try:
            block(addresses, count * size)
        except GuestFault:
            cpu.rflags = flags
            raise
        step = -size if cpu.rflags & Flag.DF else size
        for index in indexes:
            moved = ((gpr[index] & mask) + step * count) & mask
            gpr[index] = moved if insn.address_size >= 4 else gpr[index] & ~mask | moved
        remaining -= count
        done += count
        if insn.repeat:
            gpr[RCX] = remaining if insn.address_size >= 4 else gpr[RCX] & ~mask | remaining
            if compares and bool(cpu.rflags & Flag.ZF) != (insn.repeat == "rep"):
                break
    return counted(done, "iteration")


def _together(e: Emulator, insn: Instruction, addresses: list[int], remaining: int) -> int:
    """Number of iterations that may be done as one block: ascending, within pages of RAM, and without
    one that reads what another of them wrote."""
    if remaining == 1 or e.cpu.rflags & Flag.DF:
        return 1
    size = insn.operand_size
    room = min(PAGE - gva % PAGE for gva in addresses) // size
    if insn.bits != 64 and not _within_segments(e, insn, size * min(room, remaining)):
        return 1
    stores = insn.mnemonic != "lods"
    places = [
        e.mmu.translate(gva & MASK64, write=stores and position == 0)
        for position, gva in enumerate(addresses)
    ]
    if room < 1 or not all(e.mmu.memory.is_ram(gpa, size * room) for gpa in places):
        return 1
    if len(places) == 2 and 0 < places[0] - places[1] < size * room:
        return 1
    return min(room, remaining)


def _within_segments(e: Emulator, insn: Instruction, length: int) -> bool:
    """Whether so many bytes from the next iteration on are within the segments, and do not wrap."""
    wraps = 1 << 8 * insn.address_size
    return all(
        offset + length <= wraps and within_limit(e.cpu.segments[segment], offset, length)
        for (segment, offset), _, _ in segmented_accesses(insn, e.cpu)
    )


HANDLERS: Handlers = {"movs": movs, "stos": stos, "lods": lods, "scas": scas, "cmps": cmps}
