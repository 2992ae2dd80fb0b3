"""The host mappings of a vCPU process: the part of the virtual TLB that the CPU can use.

Nothing here reads the guest's page tables; that is the virtual TLB's part (cores/vmm/shadow_tlb.py),
which says what to map where. Everything may be unmapped at any time: the guest then faults to the VMM
where it uses the page next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from cores.engines.base import (
    DISPLACED_SPACE,
    KERNEL_SPACE,
    OUT_OF_LINE,
    TRANSLATED,
    DeprivilegedEngine,
)
from cores.errors import MappingsFullError
from cores.pc.physical_memory import HOLE, PhysicalMemory
from cores.vmm.shadow_space import Banks, Space
from cores.x86.mmu.paging import PAGE
from cores.x86.registers import MASK32, MASK64
from cores.x86.virtual_cpu import VirtualCpu


class HostMappings:
    """The mappings of one vCPU process. A *space* is one of the engine's address spaces, by number.

    banks: the spaces of each CR3 that is kept, with the entries of the virtual TLB.
    displaced: what is mapped is for ``DISPLACED_SPACE``, where the guest's addresses lie
    ``displacement`` higher (cores/vmm/upper_half.py).
    ahead: all RAM is mapped in the present space of the kernel, where the boot tables have it.
    drops: how often everything has been unmapped; on_hidden: called then.
    reserved: addresses that the VMM uses as long as the guest's tables map nothing there
    (cores/vmm/callouts.py).
    """

    def __init__(self, engine: DeprivilegedEngine, memory: PhysicalMemory, cpu: VirtualCpu) -> None:
        self.engine = engine
        self.memory = memory
        self.cpu = cpu
        self.banks = Banks(memory)
        self.displaced_space = Space()
        self.displaced = False
        self.displacement = 0
        self.ahead = False
        self.drops = 0
        self.on_hidden: Callable[[], None] = lambda: None
        self.reserved = range(0)
        self._lent = KERNEL_SPACE

    # Spaces.

    def number(self) -> int:
        """The space that the guest's virtual privilege level runs in."""
        if self.displaced:
            return DISPLACED_SPACE
        bank = self.banks.here
        return bank.user if self.cpu.cpl == 3 else bank.kernel

    def here(self) -> Space:
        """The entries of that space."""
        if self.displaced:
            return self.displaced_space
        bank = self.banks.here
        return bank.spaces[bank.user if self.cpu.cpl == 3 else bank.kernel]

    def space(self, number: int) -> Space:
        """The entries of a space."""
        if number == DISPLACED_SPACE:
            return self.displaced_space
        here = self.banks.here.spaces.get(number)
        return here if here is not None else dict(self.all_spaces())[number]

    def all_spaces(self) -> Iterator[tuple[int, Space]]:
        """All spaces, with their numbers."""
        for bank in self.banks.all:
            yield from bank.spaces.items()
        yield DISPLACED_SPACE, self.displaced_space

    def count(self) -> int:
        """The number of all entries."""
        return sum(len(space.entries) for _, space in self.all_spaces())

    def boot_ranges(self) -> tuple[tuple[int, int], ...]:
        """What the boot tables map, by GVA and GPA alike."""
        return (0x10000, HOLE.start), (HOLE.stop, self.memory.size)

    def is_ahead(self, gva: int) -> bool:
        """Is the page mapped where the boot tables have it?"""
        return self.ahead and (0x10000 <= gva < HOLE.start or HOLE.stop <= gva < self.memory.size)

    # Places.

    def place(self, gva: int, space: int | None = None) -> int:
        """The host's address of ``gva`` (``DeprivilegedEngine.origin``) in ``space``, None for the
        present one; the VMM's own pages lie above 4 GiB, and stay where they are."""
        if space == DISPLACED_SPACE or (space is None and self.displaced):
            return gva + self.displacement & MASK64
        origin = self.engine.origin(self.cpu)
        return gva + origin & MASK32 if origin and gva <= MASK32 else gva

    def reaches(self, gva: int, length: int) -> bool:
        """Can the host process have this mapping? Not where the VMM has pages of its own."""
        if gva < OUT_OF_LINE.stop and gva + length > OUT_OF_LINE.start:
            return False
        place = self.place(gva)
        if self.displaced:
            ours = place < TRANSLATED.stop and place + length > TRANSLATED.start
            return not ours and self.engine.reaches(place, length)
        if place != gva and place + length > MASK32 + 1:
            return False
        return self.engine.reaches(place, length)

    # Mapping and unmapping.

    def map(
        self, gva: int, gpa: int, length: int, writable: bool, executable: bool, *,
        twin: bool = False, readable: bool = True, populate: bool = False,
    ) -> bool:  # fmt: skip
        """Map RAM in the present space; see ``DeprivilegedEngine.map``."""
        number = self.number()
        map = partial(
            self.engine.map, number, self.place(gva), gpa, length,
            writable=writable, executable=executable, twin=twin, readable=readable,
            populate=populate,
        )  # fmt: skip
        self.space(number).unmapped(gva, length)
        try:
            return map()
        except MappingsFullError:
            self.hide_all()
            return map()

    def unmap(self, number: int, gva: int, length: int = PAGE) -> None:
        """Unmap pages in a space."""
        try:
            self.engine.unmap(number, self.place(gva, number), length)
        except MappingsFullError:
            self.hide_all()
        self.space(number).unmapped(gva, length)

    def unmap_everywhere(self, frame: int) -> None:
        """Unmap a page of RAM wherever the virtual TLB has it: it is mapped anew at its next use."""
        for number, space in tuple(self.all_spaces()):
            for gva in space.leading_to(frame):
                self.unmap(number, gva)
        if self.is_ahead(frame):
            self.unmap(self.banks.here.kernel, frame)

    def hide_all(self) -> None:
        """Unmap everything, and keep the virtual TLB: each page is mapped at its next fault."""
        self.engine.drop_all()
        for bank in self.banks.all:
            bank.hidden()
        self.hidden_here()

    def hidden_here(self) -> None:
        """The present spaces have been unmapped."""
        self.drops += 1
        self.banks.here.hidden()
        self.displaced_space.executed.clear()
        self.displaced_space.devices.clear()
        self.on_hidden()

    # What is executed.

    def executes(self, gva: int) -> bool:
        """Is the page mapped from the twin for execution (and perhaps not for reading)?"""
        return gva & -PAGE in self.here().executed

    def executes_frame(self, frame: int) -> bool:
        """Is the page mapped from the twin, somewhere in the present space?"""
        space, user = self.here(), self.cpu.cpl == 3 or self.displaced
        ahead = not user and self.is_ahead(frame) and frame in space.executed
        return ahead or not space.executed.isdisjoint(space.leading_to(frame))

    # Pages of the VMM's among the guest's.

    def open(self, gva: int, scratch: int, *, writable: bool = True, executable: bool = False) -> bool:
        """Map the page ``scratch`` at ``gva`` for one instruction: usually a scratch page of the
        VMM's."""
        return self.map(gva & -PAGE, scratch, PAGE, writable, executable)

    def close(self, gva: int) -> None:
        """Unmap a scratch page."""
        self.unmap(self.number(), gva & -PAGE)

    def lend(self, gva: int, offset: int, length: int) -> bool:
        """Map pages of the twin that hold code and data of the VMM's
        (cores/vmm/conditional_stop.py). False where the host process cannot have them."""
        self._lent = self.number()
        return self.reaches(gva, length) and self.map(gva, offset, length, True, True, twin=True)

    def take_back(self, gva: int, length: int) -> None:
        """Undo ``lend``."""
        self.unmap(self._lent, gva, length)

    def take_back_devices(self) -> None:
        """Unmap the devices' pages that the guest has, in all spaces."""
        for number, space in tuple(self.all_spaces()):
            for gva in tuple(space.devices):
                self.unmap(number, gva)

    def can_reserve(self, region: range) -> bool:
        """Has the host process room for these addresses?"""
        return self.reaches(region.start, len(region))

    @property
    def shown(self) -> bool:
        """Are the reserved addresses mapped, for the present CR3?"""
        return self.banks.here.shown

    @shown.setter
    def shown(self, shown: bool) -> None:
        self.banks.here.shown = shown

    def show_reserved(self, offset: int) -> bool:
        """Map the twin from ``offset`` on at ``reserved``, for the guest's kernel. False: not now."""
        try:
            return self.engine.map(
                self.banks.here.kernel, self.place(self.reserved.start), offset, len(self.reserved),
                writable=True, executable=True, twin=True,
            )  # fmt: skip
        except MappingsFullError:
            self.hide_all()
            return False

    def hide_reserved(self) -> None:
        """Undo ``show_reserved``."""
        self.unmap(self.banks.here.kernel, self.reserved.start, len(self.reserved))
