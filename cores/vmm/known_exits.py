"""Known exits: free mode's short way for an exit that the VMM has handled before.

The way through vmm.py is the definition of what an exit means. It fetches and decodes the instruction,
asks what it may be, emulates it, and goes back to the loop that enters the guest. A second exit at the
same instruction asks the same questions. So after the first one a *handler* is made for its site
(known_sites.py, known_ports.py) that does what is left: read and write the guest's registers where the
engine has them, access the device, record the exit. The engine calls it without returning from ``run``.

A handler declines whatever is out of the ordinary; then the engine returns the exit as usual, and
vmm.py handles it. Handlers are kept by all that decoding and privilege depend on (``_context``), and
dropped when code or patches change (``forget``), and where translations do (``tables_changed``).
``--slow`` runs without any, and a test holds the two ways together, event by event
(tests/agreement/test_slow.py).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from cores.engines.base import Handler, Handlers
from cores.vmm.state import GuestContext
from cores.vmm.trace import ExitEvent, Repeated
from cores.x86.faults import GuestFault
from cores.x86.mmu.paging import LONGEST_INSTRUCTION, PAGE, walk
from cores.x86.mode import mode
from cores.x86.registers import CS, SS, Flag

MOST_SITES = 4096
"""Limit of handlers, some 2 KiB each; past it all are made anew."""
_IF = Flag.IF

Maker = Callable[[ExitEvent], tuple[int, Handler] | None]
"""Makes the handler of a site from the record of an exit there: the engine's key for the site, and the
handler. None: exits there stay on the long way."""


class KnownExits:
    """The handlers of one guest.

    origin, due: the ``perf_counter_ns()`` of tick 0, and of the next device event or the run's end.
    log: appends to the log of exits, as ``Repeated`` says.
    around: puts more around each handler that is made (``Vmm._around``).
    shadow_at: RIP behind the last STI that a handler completed; there interrupts wait.
    """

    def __init__(self, guest: GuestContext, maker: Maker) -> None:
        self.guest = guest
        self.origin = self.due = 0
        self.shadow_at = 0
        self.log: Callable[[Repeated], None] = guest.trace.log.append
        self.around: Callable[[Handler], Handler] = lambda handler: handler
        self._maker = maker
        self._places: dict[Hashable, tuple[Handlers, set[int], dict[int, int]]] = {}
        self._entered: Hashable = None  # the context that the guest was entered in last
        self._here: Handlers = {}
        self._refused: set[int] = set()
        self._frames: dict[int, int] = {}  # of the code pages with handlers, on a trap core
        self._deadline = 0
        self._stale = self._moved = False
        self._window = False  # the VMM is there when the guest sets IF: on KVM it has to ask for that
        self._sites = 0

    def entering(self) -> Handlers:
        """The handlers for the guest's present state, before the engine runs with them."""
        guest = self.guest
        self._stale, self._deadline = False, guest.board.deadline
        self._moved = False
        self._window = guest.board.interrupt_pending or not guest.engine.traits.delivers
        self.log = guest.trace.log.append
        self.shadow_at = guest.cpu.rip
        context = self._context()
        if context != self._entered:
            self._entered = context
            here = self._places.setdefault(context, ({}, set(), {}))
            self._here, self._refused, self._frames = here
        return self._here

    def _context(self) -> Hashable:
        """All that decides what the instruction at an address is, and whether it may be executed."""
        cpu = self.guest.cpu
        code, stack = cpu.segments[CS], cpu.segments[SS]
        tables = cpu.cr3 if self.guest.shadow is None else self.guest.shadow.serial
        return (
            cpu.cr0, tables, cpu.cr4, cpu.efer, cpu.cpl, mode(cpu), code.base, code.limit,
            code.attributes, stack.attributes, stack.base, stack.limit,
        )  # fmt: skip

    def learn(self, record: ExitEvent | None) -> None:
        """Make a handler for the exit that has just been handled the long way. record: of that exit,
        None where it was not recorded."""
        if record is None:
            return
        rip = record.rip
        if self._stale or rip in self._refused:
            return
        if self._sites >= MOST_SITES:
            self.forget()
            return
        if self.guest.trap is not None:
            page, frame = rip & -PAGE, self._frame(rip & -PAGE)
            if frame is None or self._frames.setdefault(page, frame) != frame:
                self.forget()
                return
        self._sites += 1
        made = self._maker(record)
        if made is None:
            self._refused.add(rip)
        else:
            key, handler = made
            self._here[key] = self.around(handler)

    def forget(self) -> None:
        """Drop all handlers: code, its patches or its translation have changed."""
        self._stale = True
        self._frames = {}
        if self._sites:
            for handlers, _, _ in self._places.values():
                handlers.clear()
            self._places.clear()
            self._entered, self._sites = None, 0

    def tables_changed(self) -> None:
        """Drop all handlers but those of the guest's present state whose code the new tables lead to as
        the old ones did: a kernel is mapped alike in all its address spaces."""
        here, refused, entered, stale = self._here, self._refused, self._entered, self._stale
        pages = {page: frame for page, frame in self._frames.items() if self._frame(page) == frame}
        kept = {
            rip: handler
            for rip, handler in here.items()
            if rip & -PAGE in pages and rip % PAGE <= PAGE - LONGEST_INSTRUCTION
        }
        self.forget()
        self._stale, self._frames = stale, pages
        here.update(kept)
        self._places[entered] = here, {rip for rip in refused if rip & -PAGE in pages}, pages
        self._here, self._refused, self._frames = self._places[entered]
        self._entered, self._sites = entered, len(here)

    def _frame(self, page: int) -> int | None:
        """The frame of a page that the guest may execute now, without a mark in its tables."""
        try:
            return walk(self.guest.memory, self.guest.cpu, page, execute=True, mark=False).gpa
        except GuestFault:
            return None

    def went_on(self) -> bool:
        """After an access to a device: may the guest be entered again at once?"""
        guest = self.guest
        board = guest.board
        if guest.lent is not None:
            guest.lent.refresh()
        return not (
            guest.memory.writes
            or board.stop is not None
            or board.paused_until
            or board.deadline != self._deadline
            or (board.interrupt_pending and (guest.cpu.rflags & _IF or not self._window))
            or self._stale
            or self._moved
        )

    def moved(self) -> None:
        """The guest goes on in another address space of the engine's, which has to be entered."""
        self._moved = True
