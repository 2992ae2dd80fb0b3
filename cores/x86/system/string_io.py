"""INS and OUTS with their REP: a block at a time up to each page boundary.

REP INSW of a disk sector is 256 iterations for the guest, but one exit and one copy for the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cores.x86.isa.instruction import Instruction
from cores.x86.mmu.paging import Mmu
from cores.x86.registers import FS, GS, MASK64, RCX, RDI, RSI, Flag
from cores.x86.virtual_cpu import VirtualCpu

PAGE = 4096


def input_string(cpu: VirtualCpu, mmu: Mmu, insn: Instruction, fetch: Callable[[int], bytes]) -> int:
    """[REP] INS: store the bytes of ``fetch(iterations)`` at ES:RDI. Returns the iterations done.

    Raises GuestFault between iterations: RCX and RDI are then those of the iteration that faults, and
    no byte has been taken from the device for it.
    """
    done = 0
    for count, address in _blocks(cpu, insn, RDI, 0):
        mmu.translate(address, write=True)
        mmu.translate((address + insn.operand_size - 1) & MASK64, write=True)
        mmu.write(address, fetch(count))
        _advance(cpu, insn, RDI, count)
        done += count
    return done


def output_string(cpu: VirtualCpu, mmu: Mmu, insn: Instruction, store: Callable[[bytes], None]) -> int:
    """[REP] OUTS: pass bytes from segment:RSI to ``store``. Returns the iterations done.

    Raises GuestFault between iterations, as ``input_string`` does.
    """
    done = 0
    base = _source_base(cpu, insn)
    for count, address in _blocks(cpu, insn, RSI, base):
        store(mmu.read(address, count * insn.operand_size))
        _advance(cpu, insn, RSI, count)
        done += count
    return done


def _source_base(cpu: VirtualCpu, insn: Instruction) -> int:
    for byte in insn.code:  # of the segment overrides, only FS and GS have an effect in 64-bit mode
        if byte == 0x64:
            return cpu.segments[FS].base
        if byte == 0x65:
            return cpu.segments[GS].base
        if byte not in (0x26, 0x2E, 0x36, 0x3E, 0x66, 0x67, 0xF2, 0xF3):
            break
    return 0


def _blocks(cpu: VirtualCpu, insn: Instruction, index: int, base: int) -> Iterator[tuple[int, int]]:
    """(iterations, linear address) of each block that lies within one page; the caller advances."""
    size = insn.operand_size
    mask = (1 << 8 * insn.address_size) - 1
    remaining = cpu.gpr[RCX] & mask if insn.repeat else 1
    while remaining:
        offset = cpu.gpr[index] & mask
        address = (base + offset) & MASK64
        if cpu.rflags & Flag.DF:
            count = 1
        else:
            count = min(remaining, max(1, (PAGE - address % PAGE) // size))
        yield count, address
        remaining -= count


def _advance(cpu: VirtualCpu, insn: Instruction, index: int, count: int) -> None:
    mask = (1 << 8 * insn.address_size) - 1
    step = -insn.operand_size if cpu.rflags & Flag.DF else insn.operand_size
    cpu.gpr[index] = ((cpu.gpr[index] & mask) + step * count) & mask
    if insn.repeat:
        cpu.gpr[RCX] = ((cpu.gpr[RCX] & mask) - count) & mask
