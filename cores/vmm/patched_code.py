"""Patched code of one deprivileged guest, and the change between free and exact mode.

In exact mode the guest runs from its own RAM. In free mode it runs from the patcher's twin
(cores/vmm/patching/twin.py). Before each entry the twin takes over what the VMM and its devices
wrote to RAM; after each exit RAM takes over what the guest stored in pages that hold code and data.
"""

from __future__ import annotations

from collections.abc import Callable

from cores.engines.base import DeprivilegedEngine
from cores.vmm.patching.patcher import Patcher
from cores.vmm.patching.twin import TRUST
from cores.vmm.shadow_tlb import ShadowPages
from cores.vmm.state import GuestContext
from cores.x86.mmu.paging import PAGE
from cores.x86.mmu.segmentation import code_address
from cores.x86.mode import code_bits, is_long
from cores.x86.registers import CS

TRUSTED = (
    f"running freely, an indirect branch is no longer caught after it has led to known code {TRUST} "
    "times: other code that it leads to later may run unpatched (on a CPU with protection keys only in "
    "pages that hold data too)"
)
CHANGED = (
    "running freely, code was changed in a page that holds data too: until the next exit it may have "
    "run unpatched"
)


class PatchedCode:
    """The patched code of one guest.

    patcher: in free mode, where the engine cannot find sensitive instructions by itself; else None.
    on_change: called when patches, or the code under them, may have changed. on_forget: see
    ``Patcher``. on_patcher: called with the patcher of a free run, and with None when that has ended.
    silent: exits that only the patches cause are not recorded (cores/lockstep/leader.py).
    """

    def __init__(self, guest: GuestContext, engine: DeprivilegedEngine, shadow: ShadowPages) -> None:
        self.guest = guest
        self.engine = engine
        self.shadow = shadow
        self.patcher: Patcher | None = None
        self.silent = False
        self.on_change: Callable[[], None] = lambda: None
        self.on_forget: Callable[[int], None] = lambda _: None
        self.on_patcher: Callable[[Patcher | None], None] = lambda patcher: None
        self._changed = False  # the patch that stopped the guest may be gone

    def go_free(self, *, silent: bool = False) -> None:
        """Change to free mode: the guest runs at full speed, from patched code."""
        if silent and not self.silent:
            self.go_exact()  # what a free run has put into the code
        self.silent = silent
        self.shadow.runs = not silent
        twin = self.engine.patched_twin()
        if self.patcher is not None or twin is None or not self.suits():
            return
        if self.guest.pure and not silent:
            return
        memory, cpu = self.guest.memory, self.guest.cpu
        hidden = self.engine.hides_code
        self.patcher = Patcher(
            twin, memory, self.guest.mmu, cpu, bits=code_bits(cpu), hidden=hidden,
            on_change=self.on_change, on_forget=self.on_forget,
        )  # fmt: skip
        self.on_change()
        self.on_patcher(None if silent else self.patcher)
        self.patcher.control_changed()
        self.shadow.patcher = self.patcher
        self.shadow.host.hide_all()
        memory.writes = []
        self.shadow.show_boot()
        here = code_address(cpu, cpu.rip)
        if self.shadow.holds(here, execute=True):  # with the page that it is in
            self.shadow.fill(here, write=False, execute=True)
            self.patcher.executed(here)

    def suits(self) -> bool:
        """Can the code at RIP run patched? 16-bit code, and 32-bit code in a segment with a base, is
        stepped instead: its branches wrap within the segment, and the same bytes may belong to
        several."""
        cpu = self.guest.cpu
        return is_long(cpu) or (code_bits(cpu) == 32 and cpu.segments[CS].base == 0)

    def go_exact(self) -> None:
        """Change to exact mode: each instruction is decoded before it runs, and runs from real
        pages."""
        self.silent = self.shadow.runs = False
        if self.patcher is None:
            return
        self.after_exit()
        self.patcher = self.shadow.patcher = None
        self.on_change()
        self.on_patcher(None)
        self.shadow.host.hide_all()
        self.shadow.show_boot()

    def before_entry(self) -> None:
        """Bring the twin up to date with what the VMM and its devices wrote since the last exit."""
        if self.patcher is not None and (self.patcher.crowded or self._changed_width()):
            silent = self.silent
            self.go_exact()
            self.go_free(silent=silent)
        patcher, memory = self.patcher, self.guest.memory
        if patcher is None:
            return
        self._changed = False
        if self.guest.lent is not None:
            self.guest.lent.refresh()
        if memory.writes:
            written, memory.writes = memory.writes, []  # another thread may append (ring_watch.py)
            self.wrote(written)
        if patcher.shared:
            self.after_exit()
            patcher.enter()
        if patcher.renewed:
            renewed, patcher.renewed = patcher.renewed, []
            for gpa in renewed:
                self.shadow.host.unmap_everywhere(gpa)
        patcher.control_changed()
        if patcher.entering(self._here()) and self.guest.lent is not None:
            self.guest.lent.scanned(patcher)

    def _changed_width(self) -> bool:
        """Is the code at RIP of another width than that which is patched?"""
        assert self.patcher is not None
        return self.patcher.bits != code_bits(self.guest.cpu) or not self.suits()

    @property
    def shares(self) -> bool:
        """Has the guest pages that hold both code and data, whose stores reach RAM at exits only?"""
        return self.patcher is not None and bool(self.patcher.shared)

    def suits_handlers(self) -> bool:
        """May exits be handled without coming back (cores/vmm/known_exits.py)? Not where the guest
        could have stored to a shared page: they work in RAM. It is one only for who executes it; a
        kernel has the pages of its processes as RAM."""
        if self.patcher is None:
            return False
        return not any(self.shadow.host.executes_frame(page.gpa) for page in self.patcher.shared)

    def wrote(self, ranges: list[tuple[int, int]]) -> None:
        """Note ranges that the VMM or a device has written: (GPA, length) of each."""
        if self.patcher is not None:
            watched = self.shadow.watched
            for gpa, length in ranges:
                self.patcher.written(gpa, length)
                if watched and not watched.isdisjoint(range(gpa & -PAGE, gpa + length, PAGE)):
                    self.shadow.on_watched()

    def after_exit(self) -> None:
        """Copy what the guest stored in shared pages to RAM."""
        if self.patcher is not None and self.patcher.shared and self.patcher.left():
            self._changed = True
            if not self.silent:
                self.guest.notes[CHANGED] = None

    def at_patch(self) -> bool:
        """Did a HLT of the patcher stop the guest at RIP?"""
        if self.patcher is None:
            return False
        return self._changed or self.patcher.is_patched(self.guest.mmu.locate(self._here()))

    def _here(self) -> int:
        return code_address(self.guest.cpu, self.guest.cpu.rip)

    def discover(self) -> bool:
        """Decode the code at RIP if that had not been done; True: it had not, and can run now."""
        return self.patcher is not None and self.patcher.discover(self._here())
