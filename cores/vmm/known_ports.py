"""Handlers of known exits on KVM: an IN or OUT that the hardware has taken apart already."""

from __future__ import annotations

from time import perf_counter_ns

from cores.engines.base import Handler, PortEngine
from cores.vmm.known_exits import KnownExits
from cores.vmm.state import GuestContext
from cores.vmm.trace import ExitEvent
from cores.x86.faults import GuestFault, Unsupported
from cores.x86.isa.instruction import Reason
from cores.x86.mmu.paging import PAGE, walk

IO = Reason.IO


class PortMaker:
    """Makes the handlers of one guest on KVM. known: set when it exists."""

    def __init__(self, guest: GuestContext, engine: PortEngine) -> None:
        self._guest, self._engine = guest, engine
        self.known: KnownExits | None = None

    def __call__(self, record: ExitEvent) -> tuple[int, Handler] | None:
        """See ``Maker``: the key is the engine's, made of RIP and the access."""
        guest, engine, known = self._guest, self._engine, self.known
        rip, code, board = record.rip, record.code, guest.board
        access = engine.port_access()
        if access is None or known is None or record.reason is not IO:
            return None
        if not code or rip % PAGE + len(code) > PAGE:
            return None
        key, port, size, is_write = access
        try:
            gpa = walk(guest.memory, guest.cpu, rip, user=guest.cpu.cpl == 3, mark=False).gpa
        except GuestFault:
            return None
        here, view = slice(gpa, gpa + len(code)), guest.memory.view
        tell, describe, went_on = board.writer(port, size), board.describer(port), known.went_on

        def write() -> bool | None:
            began = perf_counter_ns()
            if began >= known.due or view[here] != code:  # nothing else tells that code has changed
                return None
            guest.ticks = board.now = (began - known.origin) // 1000
            value = engine.port_data(size)
            try:
                tell(value)
            except Unsupported:
                return None
            known.log((record, describe(port, value, True), perf_counter_ns() - began))
            return went_on()

        def read() -> bool | None:
            began = perf_counter_ns()
            if began >= known.due or view[here] != code:
                return None
            guest.ticks = board.now = (began - known.origin) // 1000
            value = board.read(port, size)
            engine.complete(value.to_bytes(size, "little"))
            known.log((record, describe(port, value, False), perf_counter_ns() - began))
            return went_on()

        return key, write if is_write else read
