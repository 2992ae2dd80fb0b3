"""Exact steps without TF: a HLT stands where the instruction leads, while it is executed.

TF makes the CPU raise #DB after an instruction, and Linux reads and writes debug registers for that,
each of which is an exit of its own where the host is a virtual machine: a step takes 20 us. At ring 3 a
HLT is #GP, as at an ordinary exit, which takes 9. So for the time of one entry the byte of RAM behind
the instruction is a HLT; after a conditional branch two bytes are, and after RET that at the address
which it will pop.

The instruction must not see it. One that accesses such a byte is stepped by TF, and so are those of
which it is not known where they lead, REP, and all that are not ordinary.
"""

from __future__ import annotations

from cores.engines.base import DeprivilegedEngine
from cores.vmm.patched_code import PatchedCode
from cores.vmm.shadow_space import LARGE
from cores.vmm.shadow_tlb import ShadowPages
from cores.vmm.state import GuestContext
from cores.x86.isa.accesses import accesses
from cores.x86.isa.branches import direct_target
from cores.x86.isa.instruction import Instruction
from cores.x86.mmu.paging import PAGE
from cores.x86.registers import RSP

Plan = tuple[tuple[int, ...], tuple[int, ...]]
"""The GPAs of the bytes to plant, and the addresses at which the guest then stops."""

_ENDS = frozenset({"jmp", "call"})


class PlantedSteps:
    """Plans the steps of one guest."""

    def __init__(
        self, guest: GuestContext, engine: DeprivilegedEngine, patched: PatchedCode, shadow: ShadowPages
    ) -> None:
        self.engine = engine
        self._guest, self._patched, self._host = guest, patched, shadow.host
        self._mmu = guest.mmu

    def plan(self, insn: Instruction) -> Plan | None:
        """How to step the ordinary instruction at RIP; None: by TF."""
        rip = self._guest.cpu.rip
        following = rip + insn.length
        if insn.bits != 64 or self._patched.patcher is not None or (following ^ rip) & -PAGE:
            return None
        page = self._mmu.code_page(rip)
        if page is None:
            return None
        if insn.ends_block:
            return self._branch(insn, rip, following)
        plants = (page | following & PAGE - 1,)
        if insn.repeat or ((insn.access or insn.implicit) and self._touches(insn, plants)):
            return None
        return plants, (following,)

    def _branch(self, insn: Instruction, rip: int, following: int) -> Plan | None:
        target = direct_target(insn, following)
        if target is not None:
            ends = (target,) if insn.mnemonic in _ENDS else (following, target)
        elif insn.mnemonic == "ret":
            popped = self._popped()
            if popped is None:
                return None
            ends = (popped,)
        else:
            return None
        plants = []
        for end in ends:
            page = self._mmu.code_page(end)
            if page is None or rip <= end < following:
                return None
            plants.append(page | end & PAGE - 1)
        here = self._mmu.code_page(rip)
        assert here is not None
        at = here | rip & PAGE - 1
        if any(at <= plant < at + insn.length for plant in plants):
            return None  # at another address
        if (insn.access or insn.implicit) and self._touches(insn, tuple(plants)):
            return None
        return tuple(plants), ends

    def _popped(self) -> int | None:
        """The address that RET will pop, None where its page is not mapped yet."""
        rsp = self._guest.cpu.gpr[RSP]
        frame = self._frame(rsp)
        if frame is None or rsp % PAGE > PAGE - 8:
            return None
        at = frame + rsp % PAGE
        return int.from_bytes(self._guest.memory.view[at : at + 8], "little")

    def _touches(self, insn: Instruction, plants: tuple[int, ...]) -> bool:
        """Does the instruction access a planted byte?"""
        for gva, length, _ in accesses(insn, self._guest.cpu):
            if gva % PAGE + length > PAGE:
                return True
            frame = self._frame(gva)
            if frame is not None:
                begin = frame + gva % PAGE
                for plant in plants:
                    if begin <= plant < begin + length:
                        return True
        return False

    def _frame(self, gva: int) -> int | None:
        """The frame that the process has at ``gva``; None: it has none, and an access faults."""
        host, page = self._host, gva & -PAGE
        entries = host.here().entries
        entry = entries.get(page)
        if entry is not None:
            return entry.gpa
        large = entries.get(gva & -LARGE)
        if large is not None and large.length > PAGE:
            return large.gpa + (page - (gva & -LARGE))
        return page if host.is_ahead(page) else None
