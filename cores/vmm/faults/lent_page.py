"""The local APIC's page, lent to the guest for reading (free mode on trap:native).

Kernels ask the local APIC for its ID by the ten thousand. Its registers change only where the VMM
changes them, so after a few loads the guest gets the page itself, read-only: a copy, written anew when
a register has changed. Stores exit as ever. The current count changes by itself; a guest that loads
it, or has code that may, does not get the page.
"""

from __future__ import annotations

from collections.abc import Callable

from cores.pc.devices import local_apic
from cores.pc.devices.local_apic import LocalApic
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.ram import LENT_PAGE
from cores.vmm.patching.patcher import Patcher
from cores.vmm.shadow_tlb import ShadowPages
from cores.x86.isa.instruction import Instruction, MemoryOperand
from cores.x86.mmu.paging import PAGE

ENOUGH = 32
"""Loads before the page is lent."""
LENT = (
    "running freely, the guest reads the local APIC's registers in a page of its own: "
    "these loads are neither exits nor device accesses"
)
_COUNT = local_apic.CURRENT_COUNT << 4


class LentPage:
    """The page of one guest. note: called when it is lent for the first time."""

    def __init__(
        self, memory: PhysicalMemory, apic: LocalApic, shadow: ShadowPages, note: Callable[[], None]
    ) -> None:
        self._memory, self._apic, self._shadow, self._note = memory, apic, shadow, note
        self._loads = 0
        self._refused = self._given = False
        self._shown: tuple[object, ...] = ()
        self._looked: dict[int, tuple[int, int]] = {}  # of each page of code: changes and instructions
        self._place = memory.ram.scratch + LENT_PAGE * PAGE

    def wanted(self, gpa: int) -> bool:
        """The guest loads from a device at ``gpa``: shall it have the page?"""
        if gpa & -PAGE != local_apic.WINDOW.start or self._refused:
            return False
        if gpa % PAGE & -16 == _COUNT:
            self._refuse()
            return False
        self._loads += 1
        return self._loads > ENOUGH

    def lend(self, gva: int, patcher: Patcher) -> bool:
        """Map the page at ``gva``; False where the guest's code may load the current count."""
        self._look(patcher)
        if self._refused:
            return False
        self._given = True
        self.refresh()
        self._note()
        return self._shadow.lend_device(gva & -PAGE, self._place)

    def scanned(self, patcher: Patcher) -> None:
        """Code has been decoded: withdraw the page if it may load the current count."""
        if self._given and not self._refused:
            self._look(patcher)

    def _look(self, patcher: Patcher) -> None:
        """Refuse the page if any decoded code may load the current count."""
        for page in tuple(patcher.pages.values()):
            seen = page.changes, len(page.starts)
            if self._looked.get(page.gpa) != seen:
                self._looked[page.gpa] = seen
                if any(map(_may_load_count, page.starts.values())):
                    self._refuse()
                    return

    def refresh(self) -> None:
        """Write the copy anew if a register has changed."""
        if not self._given:
            return
        state = self._apic.registers()
        if state != self._shown:
            self._shown = state
            self._memory.view[self._place : self._place + PAGE] = self._apic.image()

    def _refuse(self) -> None:
        self._refused, self._given = True, False
        self._shadow.host.take_back_devices()


def _may_load_count(insn: Instruction) -> bool:
    return bool(insn.access) and any(
        isinstance(operand, MemoryOperand) and operand.displacement & 0xFF0 == _COUNT
        for operand in insn.operands
    )
