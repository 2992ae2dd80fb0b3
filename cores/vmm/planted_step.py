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

from typing import NamedTuple

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

Pair = tuple[int, int]
Plan = tuple[Pair, Pair]
"""The GPAs of the two bytes to plant, and the addresses at which the guest then stops; one and the same
twice where there is only one."""

_ENDS = frozenset({"jmp", "call"})
MOST_WAYS = 1 << 14
"""Number of places of which the way to step the instruction there is kept."""


class Way(NamedTuple):
    """The way to step one instruction at one place.

    page: that of its code (GPA). others: addresses in other pages where it may end, each with the page
    of the code there. plan: None: by TF. looks: whether it accesses memory, and so may see what is
    planted."""

    insn: Instruction
    page: int | None
    others: tuple[tuple[int, int | None], ...]
    plan: Plan | None
    looks: bool


class PlantedSteps:
    """Plans the steps of one guest."""

    def __init__(
        self, guest: GuestContext, engine: DeprivilegedEngine, patched: PatchedCode, shadow: ShadowPages
    ) -> None:
        self.engine = engine
        self._guest, self._patched, self._host = guest, patched, shadow.host
        self._mmu = guest.mmu
        self._ways: dict[int, Way] = {}  # by RIP

    def plan(self, insn: Instruction) -> Plan | None:
        """How to step the ordinary instruction at RIP; None: by TF."""
        if self._patched.patcher is not None:
            return None
        rip = self._guest.cpu.rip
        page = self._mmu.code_page(rip)
        way = self._ways.get(rip)
        if (
            way is None or way.insn is not insn or way.page != page
            or (way.others and any(self._mmu.code_page(at) != there for at, there in way.others))
        ):  # fmt: skip
            way = self._way(insn, rip, page)
        plan = way.plan
        if plan is not None and way.looks and self._touches(insn, plan[0]):
            return None
        return plan

    def _way(self, insn: Instruction, rip: int, page: int | None) -> Way:
        """The way to step ``insn`` at ``rip``; kept, unless it depends on the stack."""
        following = rip + insn.length
        ends = None if (following ^ rip) & -PAGE else self._ends(insn, following)
        plan, others = None, []
        if page is not None and ends is not None and insn.bits == 64 and not insn.repeat:
            here, plants = page | rip & PAGE - 1, []
            for end in ends:
                there = self._mmu.code_page(end)
                if (end ^ rip) & -PAGE:
                    others.append((end, there))
                plant = here if there is None else there | end & PAGE - 1
                if not here <= plant < here + insn.length:  # it would not execute itself
                    plants.append(plant)
            if len(plants) == 2:
                plan = (plants[0], plants[1]), ends
        way = Way(insn, page, tuple(others), plan, bool(insn.access or insn.implicit))
        if insn.mnemonic != "ret":
            if len(self._ways) >= MOST_WAYS:
                self._ways.clear()
            self._ways[rip] = way
        return way

    def _ends(self, insn: Instruction, following: int) -> Pair | None:
        """The addresses where an instruction may end, None where these are not known."""
        if not insn.ends_block:
            return following, following
        target = direct_target(insn, following)
        if target is not None:
            return (target if insn.mnemonic in _ENDS else following), target
        popped = self._popped() if insn.mnemonic == "ret" else None
        return None if popped is None else (popped, popped)

    def _popped(self) -> int | None:
        """The address that RET will pop, None where its page is not mapped yet."""
        rsp = self._guest.cpu.gpr[RSP]
        frame = self._frame(rsp & -PAGE)
        if frame is None or rsp % PAGE > PAGE - 8:
            return None
        at = frame + rsp % PAGE
        return int.from_bytes(self._guest.memory.view[at : at + 8], "little")

    def _touches(self, insn: Instruction, plants: Pair) -> bool:
        """Does the instruction access a planted byte?"""
        for gva, length, _ in accesses(insn, self._guest.cpu):
            offset = gva & PAGE - 1
            if offset + length > PAGE:
                return True
            frame = self._frame(gva - offset)
            if frame is not None:
                begin = frame + offset
                for plant in plants:
                    if begin <= plant < begin + length:
                        return True
        return False

    def _frame(self, page: int) -> int | None:
        """The frame that the process has at ``page`` (GVA); None: it has none, and an access faults."""
        host = self._host
        entries = host.here().entries
        entry = entries.get(page)
        if entry is not None:
            return entry.gpa
        large = entries.get(page & -LARGE)
        if large is not None and large.length > PAGE:
            return large.gpa + (page - (page & -LARGE))
        return page if host.is_ahead(page) else None
