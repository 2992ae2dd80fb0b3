"""The local APIC's page, lent to the guest for reading (free mode on trap:native).

Kernels ask the local APIC for its ID by the ten thousand. Its registers change only where the VMM
changes them, so after a few loads the guest gets the page itself, read-only: a copy, written anew when
a register has changed. Stores exit as ever. The current count changes by itself, so a guest that may
load it without an exit does not get the page:

- one that has loaded it;
- one that has code with an operand there;
- one that computes a register's address (Linux's ``apic_read(reg)``): it may load any of them so.

And when the guest starts the timer the page is taken back: it is then that a guest loads the count. A
guest that then loads other registers, by their names, until it gets the page, and only later computes
the count's address, is not seen: the count stands still, and the run's notes say where it loads from.
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
"""Loads before the page is lent, since the timer was last started."""
LENT = (
    "running freely, the guest reads the local APIC's registers in a page of its own: "
    "these loads are neither exits nor device accesses"
)
_COUNT = local_apic.CURRENT_COUNT << 4
_LOW = PAGE - 1


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
        self._at: frozenset[int] = frozenset()  # the GVAs at which the page has been lent
        self._starts = 0  # of the timer, at the last load
        self._place = memory.ram.scratch + LENT_PAGE * PAGE

    def wanted(self, insn: Instruction, gpa: int) -> bool:
        """The guest loads from a device at ``gpa``: shall it have the page?"""
        if gpa & -PAGE != local_apic.WINDOW.start or self._refused:
            return False
        if gpa % PAGE & -16 == _COUNT or not _names_register(insn, gpa):
            self._refuse()
            return False
        self._loads = self._loads + 1 if self._apic.starts == self._starts else 1
        self._starts = self._apic.starts
        return self._loads > ENOUGH

    def lend(self, gva: int, patcher: Patcher) -> bool:
        """Map the page at ``gva``; False where the guest's code may load the current count."""
        page = gva & -PAGE
        if page not in self._at:
            self._at |= {page}
            self._looked.clear()
        self._look(patcher)
        if self._refused:
            return False
        self._given = True
        self.refresh()
        self._note()
        return self._shadow.lend_device(page, self._place)

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
                if any(_may_load_count(insn, self._at) for insn in page.starts.values()):
                    self._refuse()
                    return

    def refresh(self) -> None:
        """Write the copy anew if a register has changed; take it back if the timer was started."""
        if not self._given:
            return
        if self._apic.starts != self._starts:
            self._given = False
            self._shadow.host.take_back_devices()
            return
        state = self._apic.registers()
        if state != self._shown:
            self._shown = state
            self._memory.view[self._place : self._place + PAGE] = self._apic.image()

    def _refuse(self) -> None:
        self._refused, self._given = True, False
        self._shadow.host.take_back_devices()


def _names_register(insn: Instruction, gpa: int) -> bool:
    """Does the operand's displacement alone say which register it is, so that the instruction loads no
    other one the next time?"""
    return any(
        isinstance(operand, MemoryOperand)
        and operand.index is None
        and not operand.relative
        and (operand.displacement ^ gpa) & _LOW == 0
        for operand in insn.operands
    )


def _may_load_count(insn: Instruction, pages: frozenset[int]) -> bool:
    """Does it load from the count's offset, in one of ``pages`` or relative to a register?"""
    if "r" not in insn.access:
        return False
    for operand in insn.operands:
        if isinstance(operand, MemoryOperand) and operand.displacement & 0xFF0 == _COUNT:
            page = operand.displacement & (1 << 8 * operand.address_size) - 1 & -PAGE
            if page in pages or (not page and operand.base is not None):
                return True
    return False
