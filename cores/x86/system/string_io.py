"""INS and OUTS with their REP: a block at a time up to each page boundary.

REP INSW of a disk sector is 256 iterations for the guest, but one exit and one copy for the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cores.x86.isa.instruction import Instruction, MemoryOperand
from cores.x86.mmu.paging import Mmu
from cores.x86.mmu.segmentation import linear, within_limit
from cores.x86.registers import MASK64, RCX, RDI, RSI, Flag
from cores.x86.virtual_cpu import VirtualCpu

PAGE = 4096


def input_string(cpu: VirtualCpu, mmu: Mmu, insn: Instruction, fetch: Callable[[int], bytes]) -> int:
    """[REP] INS: store the bytes of ``fetch(iterations)`` at ES:RDI. Returns the iterations done.

    Raises GuestFault between iterations: RCX and RDI are then those of the iteration that faults, and
    no byte has been taken from the device for it.
    """
    done = 0
    for count, address in _blocks(cpu, insn, RDI, write=True):
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
    for count, address in _blocks(cpu, insn, RSI):
        store(mmu.read(address, count * insn.operand_size))
        _advance(cpu, insn, RSI, count)
        done += count
    return done


def _blocks(
    cpu: VirtualCpu, insn: Instruction, index: int, *, write: bool = False
) -> Iterator[tuple[int, int]]:
    """(iterations, linear address) of each block that lies within one page and within the segment; the
    caller advances."""
    size = insn.operand_size
    mask = (1 << 8 * insn.address_size) - 1
    segment = next(o.segment for o in insn.operands if isinstance(o, MemoryOperand))
    remaining = cpu.gpr[RCX] & mask if insn.repeat else 1
    while remaining:
        offset = cpu.gpr[index] & mask
        address = linear(cpu, segment, offset, size, write=write)
        if cpu.rflags & Flag.DF:
            count = 1
        else:
            count = min(remaining, max(1, (PAGE - address % PAGE) // size))
            inside = insn.bits == 64 or within_limit(cpu.segments[segment], offset, count * size)
            if not inside or offset + count * size > mask + 1:
                count = 1
        yield count, address
        remaining -= count


def _advance(cpu: VirtualCpu, insn: Instruction, index: int, count: int) -> None:
    step = -insn.operand_size if cpu.rflags & Flag.DF else insn.operand_size
    _add(cpu, insn, index, step * count)
    if insn.repeat:
        _add(cpu, insn, RCX, -count)


def _add(cpu: VirtualCpu, insn: Instruction, number: int, value: int) -> None:
    """Add to the part of a register that the address size gives; SI, DI and CX leave the upper half."""
    mask = (1 << 8 * insn.address_size) - 1
    sum = cpu.gpr[number] + value & mask
    cpu.gpr[number] = cpu.gpr[number] & ~mask | sum if insn.address_size == 2 else sum
