"""The world switch: the one function that enters the guest, and the work around each entry.

A step, a free run and a run to a breakpoint all need the same before the CPU may execute: on a trap
core the address space of the guest's virtual privilege level, and in free mode a patched twin that is
up to date. After each exit the twin's changes are collected and the exit's time begins
(cores/vmm/trace.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVarTuple

from cores.engines.base import STEPPED, Exit, Failed
from cores.vmm.callouts import Callouts
from cores.vmm.patched_code import PatchedCode
from cores.vmm.state import GuestContext
from cores.vmm.stores_ahead import StoresAhead
from cores.x86.mode import CODE_64
from cores.x86.registers import CS, SS
from cores.x86.virtual_cpu import DPL, VirtualCpu

Arguments = TypeVarTuple("Arguments")


class WorldSwitch:
    """Enters one guest. patched: None where the guest is not deprivileged. callouts, ahead: None
    where it has none."""

    def __init__(
        self,
        guest: GuestContext,
        patched: PatchedCode | None,
        callouts: Callouts | None,
        ahead: StoresAhead | None,
    ) -> None:
        self._guest = guest
        self._cpu = guest.cpu
        self._trap = guest.trap
        self._patched = patched
        self._callouts = callouts
        self._ahead = ahead

    def enter(self, go: Callable[[VirtualCpu, *Arguments], Exit], *arguments: *Arguments) -> Exit:
        """Enter the guest by ``go``, one of the engine's ``step``, ``run``, ``lead`` and ``reach``."""
        cpu, trap, patched, trace = self._cpu, self._trap, self._patched, self._guest.trace
        if trap is not None:
            if not (cpu.segments[CS].attributes & CODE_64 or trap.executes_legacy_code):
                trace.left()
                return Failed(f"{trap.traits.core} does not execute 16- and 32-bit code")
            shadow = self._guest.shadow
            assert shadow is not None
            user = cpu.segments[SS].attributes & DPL == DPL
            trap.space = shadow.host.banks.here.user if user else shadow.host.banks.here.kernel
        if patched is not None and patched.patcher is not None:
            patched.before_entry()
            if self._callouts is not None:
                self._callouts.entering()
        if trace.pending is not None:
            trace.close()
        exit = self._go(go, *arguments)
        if exit is not STEPPED:
            trace.left()
        if patched is not None and patched.patcher is not None:
            if self._callouts is not None:
                exit = self._callouts.left(exit)
            patched.after_exit()
        return exit

    def step_alone(self) -> Exit:
        """Step the instruction whose exit is being handled, with pages mapped for it alone. Address
        space and patches stay as they are; the time counts to that exit."""
        return self._go(self._guest.engine.step)

    def _go(self, go: Callable[[VirtualCpu, *Arguments], Exit], *arguments: *Arguments) -> Exit:
        """Run the engine; behind it RAM has what the guest has stored to pages mapped ahead."""
        ahead = self._ahead
        # A step has no arguments, and a call without them is 0.1 us faster; mypy knows no empty tuple.
        try:
            exit = go(self._cpu, *arguments) if arguments else go(self._cpu)  # type: ignore[call-arg]
        except BaseException:
            if ahead is not None:
                ahead.settle()
            raise
        if ahead is not None and ahead.pages is not None:
            ahead.left(exit)
        return exit
