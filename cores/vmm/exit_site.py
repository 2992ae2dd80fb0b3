"""The instruction that made a device access which hardware has already taken apart (KVM in free mode).

KVM reports the port or the GPA, the size and the data, but neither the instruction nor always its
address: an instruction that KVM's emulator has completed is left with RIP behind it. The bytes at RIP
and before it are decoded, and the instruction that makes just this access is taken. Where none does,
the exit has RIP and no bytes.
"""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

from cores.engines.base import Engine, MmioRead, MmioWrite, PortRead, PortWrite
from cores.x86.faults import GuestFault
from cores.x86.isa.accesses import accesses
from cores.x86.isa.decoder import Truncated, decode
from cores.x86.isa.instruction import Immediate, Instruction
from cores.x86.mmu.paging import LONGEST_INSTRUCTION, PAGE, Mmu, walk
from cores.x86.mmu.segmentation import code_address
from cores.x86.mode import code_bits
from cores.x86.registers import MASK64, RDX
from cores.x86.virtual_cpu import VirtualCpu

DeviceExit = PortRead | PortWrite | MmioRead | MmioWrite
MOST_SITES = 4096
_STORING = frozenset({"movs", "stos", "ins"})
_LOADING = frozenset({"movs", "cmps", "scas", "lods", "outs"})


class Site(NamedTuple):
    """The address of an instruction and its bytes, b"" where it is not known."""

    rip: int
    code: bytes


class ExitSites:
    """The instructions of one guest that access devices. Each is decoded once."""

    def __init__(self, engine: Engine, cpu: VirtualCpu, mmu: Mmu) -> None:
        self._engine, self._cpu, self._mmu = engine, cpu, mmu
        self._known: dict[tuple[int, int, type, int], tuple[Site, int]] = {}

    def of(self, exit: DeviceExit) -> Site:
        """Where the guest was when it left with ``exit``; RIP without bytes where that is not known."""
        cpu = self._cpu
        where = cpu.rip, cpu.cr3, exit.__class__, _size(exit)
        known = self._known.get(where)
        if known is not None:  # still there? A walk of the tables would cost 5 us at each exit
            found, gpa = known
            if self._mmu.memory.view[gpa : gpa + len(found.code)] == found.code:
                return found
        site = self._find(exit)
        if site is None:
            return Site(cpu.rip, b"")
        if len(self._known) >= MOST_SITES:
            self._known.clear()
        if site.rip % PAGE + len(site.code) <= PAGE:
            with suppress(GuestFault):
                gva = code_address(cpu, site.rip)
                gpa = walk(self._mmu.memory, cpu, gva, user=cpu.cpl == 3, mark=False).gpa
                self._known[where] = site, gpa
        return site

    def _find(self, exit: DeviceExit) -> Site | None:
        here = range(1)
        longest = 4 if isinstance(exit, PortRead | PortWrite) else LONGEST_INSTRUCTION
        behind = range(-longest, 0)  # the longest first: prefixes belong to it
        order = (*behind, *here) if self._engine.leaves_behind(exit) else (*here, *behind)
        for distance in order:
            rip = (self._cpu.rip + distance) & MASK64
            try:
                code = self._bytes(code_address(self._cpu, rip), -distance or LONGEST_INSTRUCTION)
                insn = decode(code, code_bits(self._cpu))
            except (Truncated, GuestFault):
                continue
            if distance in (0, -insn.length) and _makes(insn, exit, self._cpu):
                return Site(rip, insn.code)
        return None

    def _bytes(self, rip: int, length: int) -> bytes:
        try:
            return self._mmu.peek(rip, length)
        except GuestFault:
            return b""


def _size(exit: DeviceExit) -> int:
    match exit:
        case MmioWrite():
            return len(exit.data)
        case PortRead() | PortWrite() | MmioRead():
            return exit.size


def _makes(insn: Instruction, exit: DeviceExit, cpu: VirtualCpu) -> bool:
    """Can this instruction have made that access?"""
    match exit:
        case PortRead():
            return insn.mnemonic in ("in", "ins") and _port(insn, cpu) == exit.port
        case PortWrite():
            return insn.mnemonic in ("out", "outs") and _port(insn, cpu) == exit.port
        case MmioRead() | MmioWrite():
            write = isinstance(exit, MmioWrite)
            if insn.implicit == "string":  # its pointers have moved on
                return insn.mnemonic in (_STORING if write else _LOADING)
            at, size = exit.gpa % PAGE, _size(exit)  # KVM passes wide accesses on in pieces of 8 bytes
            return any(
                store == write and gva % PAGE <= at and at + size <= gva % PAGE + length
                for gva, length, store in accesses(insn, cpu)
            )


def _port(insn: Instruction, cpu: VirtualCpu) -> int:
    immediates = [operand.value for operand in insn.operands if isinstance(operand, Immediate)]
    return immediates[0] & 0xFF if immediates else cpu.gpr[RDX] & 0xFFFF
