"""``--give screen``: in free mode the guest has the screen's memory itself, on every core.

Its stores are then no device accesses and no exits; whoever shows the screen reads the same memory.
This is done with a real device that is given to a guest, too: its registers are mapped, and the VMM is
out of the way. Exact mode counts every access as ever.

How it is mapped is each mechanism's own: as RAM for the interpreter, as a memory slot of KVM's, and in
the shadow page tables on trap cores, where each page has a hidden fault at first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cores.pc.devices.vga import WINDOW
from cores.pc.ram import GIVEN_PAGE, PAGE
from cores.vmm.state import GuestContext

GIVEN = (
    "running freely, the guest has the screen's memory itself (--give screen): its accesses there are "
    "neither exits nor device accesses"
)
COUNTED = "--give screen is for free mode: in exact mode each access to the screen is counted"


@contextmanager
def screen_given(guest: GuestContext) -> Iterator[None]:
    """Give the guest its screen while the block runs, if it is to have it."""
    if not guest.board.vga.given:
        yield
        return
    place = guest.memory.ram.scratch + GIVEN_PAGE * PAGE
    guest.notes[GIVEN] = None
    guest.notes.pop(COUNTED, None)
    guest.engine.give(WINDOW.start, place)
    if guest.shadow is not None:
        guest.shadow.given = WINDOW.start, place
    try:
        yield
    finally:
        if guest.shadow is not None:
            guest.shadow.given = None
            guest.shadow.host.take_back_devices()
        guest.engine.give(WINDOW.start, None)
        guest.board.vga.look()
