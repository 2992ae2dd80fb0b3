"""Free mode: the guest runs at full speed from one exit to the next.

The VMM decodes no instruction before it runs, and counts none where the CPU runs on its own. Devices
keep the host's time: an alarm thread interrupts the engine when one is due, since a guest that never
traps would otherwise receive no timer interrupt and never return to the VMM.
"""

from __future__ import annotations

import threading
from contextlib import nullcontext
from math import inf
from time import perf_counter_ns

from cores.engines.base import Engine
from cores.errors import EngineError
from cores.pc.stop import Stop
from cores.vmm.breath import Breath
from cores.vmm.doorbells import RUNG, Doorbells, doorbells
from cores.vmm.given_screen import screen_given
from cores.vmm.ring_watch import RingWatch
from cores.vmm.vmm import Vmm
from cores.x86.faults import GuestFault, Unsupported
from cores.x86.registers import Flag

BURST = 5_000_000
"""Instructions after which an engine that counts returns: some 5 ms."""
ASK_AGAIN = 1_000_000
"""Nanoseconds after which injection of an interrupt that the guest could not take is tried again."""
LOOK_AGAIN = 5_000_000
"""Nanoseconds between two looks at a screen that the guest has itself, for a text that ends the run."""
ASLEEP = 20_000_000
"""Nanoseconds after which a guest whose HLT does not exit is called, since it may sleep for good."""
UNPATCHED = (
    "running freely, this core cannot take instructions from the CPU that the platform's lacks "
    "(RDRAND, BMI, AES and the like run), RDTSC gives the host's time, and CPUID tells of SMEP, SMAP, "
    "an XSAVE area and 40 address bits (leaves 7, 0xd and 0x80000008)"
)

OVERLOOKED = (
    "running freely, this core does not notice x87 stack faults, a read of an empty register or a push "
    "onto one in use: the results of x87 instructions after one can differ from a CPU's"
)


class Alarm:
    """Interrupts an engine at a set time, from a thread of its own.

    rang: it has done so since the time was set. Raises EngineError where the host gives no thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._changed = threading.Condition()
        self._at: int | None = None
        self._wakes: float = inf  # until then the thread sleeps, unless it is notified
        self._closed = False
        self.rang = False
        self._thread = threading.Thread(target=self._watch, name="device alarm", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            raise EngineError(f"this host gives no thread to keep the time: {error}") from None

    def set(self, at: int | None) -> None:
        """Interrupt the engine when ``perf_counter_ns()`` reaches ``at``; None: never."""
        if at == self._at:
            return
        self.rang = False
        with self._changed:
            self._at = at
            if at is not None and at < self._wakes:  # waking it each time took a quarter of lockstep
                self._changed.notify()

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _watch(self) -> None:
        with self._changed:
            while not self._closed:
                left = None if self._at is None else self._at - perf_counter_ns()
                if left is None or left > 0:
                    self._wakes = inf if self._at is None else self._at
                    self._changed.wait(None if left is None else left / 1e9)
                    continue
                self._at = None
                self.rang = True
                self._engine.interrupt()


class FreeRunner:
    """Runs one VMM's guest in free mode, in slices of host time."""

    def __init__(self, vmm: Vmm) -> None:
        self.vmm = vmm
        self.alarm = Alarm(vmm.engine)
        self.breath = Breath(vmm)
        self.watch: RingWatch | None = None
        if vmm.board.polls:
            self.watch = RingWatch(vmm.board, vmm.engine)
        elif vmm.known is not None:  # not with --slow
            self.watch = doorbells(vmm.board, vmm.engine)

    def run(self, seconds: float) -> None:
        """Run for at most ``seconds``, or until the machine stops. Virtual time stops between calls."""
        vmm, board = self.vmm, self.vmm.board
        if vmm.patched is None or vmm.patched.patcher is None:
            vmm.memory.writes = None  # stores are no longer compared
        if vmm.patched is not None:
            vmm.patched.go_free()
        if vmm.engine.traits.delivers:
            vmm.notes[UNPATCHED] = None
        if isinstance(self.watch, Doorbells):
            vmm.notes[RUNG] = None
        origin = perf_counter_ns() - vmm.ticks * 1000
        if vmm.known is not None:
            vmm.known.origin = origin
        end = perf_counter_ns() + int(seconds * 1e9)
        board.clock = lambda: (perf_counter_ns() - origin) // 1000
        board.replanned = vmm.engine.interrupt  # a device in memory was set up in the middle of a run
        try:
            watching = self.watch.watching() if self.watch is not None else nullcontext()
            with screen_given(vmm), watching:
                self._loop(origin, end)
        except Unsupported as limit:
            vmm.refuse(limit)
        finally:
            self.alarm.set(None)
            if vmm.engine.overlooks_x87:
                vmm.notes[OVERLOOKED] = None
            board.clock, board.replanned = lambda: vmm.ticks, lambda: None
            board.hold_ticks(False)
            vmm.trace.close()
            vmm.trace.tally()

    def _loop(self, origin: int, end: int) -> None:
        """Run until ``end``; ``origin``: tick 0. Both as ``perf_counter_ns()``."""
        vmm, board, watch = self.vmm, self.vmm.board, self.watch
        while vmm.stop is None and (now := perf_counter_ns()) < end:
            vmm.ticks = (now - origin) // 1000
            if watch is not None:
                watch.collect()
            if vmm.ticks >= board.deadline:
                board.advance(vmm.ticks)
            if vmm.emulator.halted:
                self._sleep(origin, end)
                continue
            if board.paused_until:
                self._pause(origin, end)
                continue
            due = min(end, origin + board.deadline * 1000)
            if board.interrupt_pending and vmm.engine.traits.delivers:
                due = min(due, now + ASK_AGAIN)  # some hosts' KVM misses the interrupt window
            if board.vga.given and board.vga.awaited:
                board.vga.look()
                due = min(due, now + LOOK_AGAIN)
            if vmm.engine.sleeps_inside:
                # Nor does MOV to CR8 exit, which lets requests through that its last value held back.
                due = min(due, now + (ASK_AGAIN if board.local_apic.irr else ASLEEP))
            if watch is not None and vmm.patched is not None and vmm.patched.shares:
                due = min(due, now + ASK_AGAIN)  # what it stored beside code is not in RAM before
            self._once(due)

    def close(self) -> None:
        self.alarm.close()
        if self.watch is not None:
            self.watch.close()

    def _once(self, due: int) -> None:
        """Enter the guest once, until ``due`` (``perf_counter_ns()``), and handle its exit."""
        vmm = self.vmm
        try:
            self.breath.end()
            waiting = self._interrupts()  # a breath may begin
            due = min(due, self.breath.until or due)
            if vmm.known is not None:
                vmm.known.due = due
            self.alarm.set(due)
            # On a trap core an interrupt shadow matters only to an interrupt that waits.
            shadow = vmm.cpu.interrupt_shadow and (waiting or vmm.trap is None)
            by_hand = vmm.cpu.rflags & Flag.TF or shadow
            if vmm.patched is not None and not vmm.patched.suits():
                vmm.patched.go_exact()
                by_hand = True
            if by_hand and not vmm.engine.traits.delivers:
                vmm.step_freely()
                return
            if vmm.patched is not None:
                vmm.patched.go_free()
            held = self.breath.instructions() if waiting else 0
            vmm.engine.window_wanted = waiting and not held
            vmm.run(held or BURST)
        except GuestFault as fault:
            vmm.delivery.reflect(fault)
        except Unsupported as limit:
            vmm.refuse(limit)

    def _interrupts(self) -> bool:
        """Deliver a pending interrupt if the guest can take it; True while one has to wait."""
        vmm = self.vmm
        if vmm.board.nmi_pending and not vmm.cpu.nmi_blocked:
            if vmm.engine.traits.delivers:
                vmm.delivery.inject_nmi()
            else:
                vmm.delivery.nmi()
        takes = vmm.cpu.rflags & Flag.IF and not vmm.cpu.interrupt_shadow
        if not vmm.board.interrupt_pending:
            if takes and self.breath.sees_ends:
                self.breath.opened(waits=False)
            return False
        if vmm.engine.traits.delivers:
            vmm.delivery.inject()
            return False
        if takes and not self.breath.holds():
            vmm.delivery.interrupt()
            self.breath.delivered()
        return vmm.board.interrupt_pending

    def _pause(self, origin: int, end: int) -> None:
        """Hold the guest for as long as a device has asked for, in host time."""
        self.vmm.trace.close()
        resume = origin + self.vmm.board.paused_until * 1000
        self._wait(min(end, resume), origin)
        if perf_counter_ns() >= resume:
            self.vmm.board.paused_until = 0

    def _sleep(self, origin: int, end: int) -> None:
        """HLT: wait for the next device event in host time; without one the machine has halted."""
        vmm, board = self.vmm, self.vmm.board
        vmm.slept = vmm.ticks
        self.breath.rested()
        vmm.trace.close()  # the guest's sleep is no part of an exit's time
        if self.watch is not None:
            self.watch.drain()
        board.poll()
        if vmm.delivery.wakes():
            vmm.emulator.halted = False
        elif not vmm.cpu.rflags & Flag.IF or (event := board.next_event()) is None:
            vmm.stop = Stop.HALTED
        else:
            wake = min(end, origin + event * 1000)
            self._wait(wake, origin)

    def _wait(self, until: int, origin: int) -> None:
        """Let host time pass; the guest's passes with it, also where this ends the run."""
        called = self.watch.called if self.watch is not None else threading.Event()
        called.wait(max(0, until - perf_counter_ns()) / 1e9)
        self.vmm.ticks = max(self.vmm.ticks, (perf_counter_ns() - origin) // 1000)
