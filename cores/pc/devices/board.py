"""The mainboard: every device of the PC, connected. The VMM's interface to devices.

A device is a file beside this one and an entry in ``PLUGGED``: the device declares which ports it
answers, which line it raises, when, and its state in words (docs/extending.md).

    ports        ``read`` and ``write`` find the device; so do their string forms for REP INS/OUTS
    time         the VMM passes the time with ``advance``; ``deadline`` says how long it may
                 leave that out without an interrupt coming late
    interrupts   ``interrupt_pending`` is the CPU's INTR pin, ``acknowledge`` its INTA cycle;
                 ``nmi_pending`` and ``take_nmi`` the same for NMI
    the user     ``type_text`` and ``press`` in, ``console`` and ``screen`` out

The board reads no clock and no CPU state; given the same accesses at the same ticks, two boards behave
the same.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from cores.errors import InputError
from cores.pc.devices import scancodes
from cores.pc.devices.awaited_text import WatchedConsole
from cores.pc.devices.base import Device, MemoryDevice
from cores.pc.devices.bus import PortBus
from cores.pc.devices.cmos import Cmos
from cores.pc.devices.crtc import Crtc
from cores.pc.devices.debug_console import DebugConsole
from cores.pc.devices.exit_port import ExitPort
from cores.pc.devices.io_apic import IoApic, input_of
from cores.pc.devices.keyboard import Keyboard
from cores.pc.devices.local_apic import LocalApic
from cores.pc.devices.pic import Pics
from cores.pc.devices.pit import Pit
from cores.pc.devices.power import Power
from cores.pc.devices.pv_console_disk import Paravirtual
from cores.pc.devices.slot import MOST_CONSOLE, Slot
from cores.pc.devices.storage.ata import Ata
from cores.pc.devices.storage.disk import Disk
from cores.pc.devices.typed_input import TypedInput
from cores.pc.devices.uart import Uart
from cores.pc.devices.vga import SIZE as VGA_SIZE
from cores.pc.devices.vga import WINDOW, Vga
from cores.pc.devices.virtio.device import VirtioDevice
from cores.pc.network.network import Network
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.ram import GIVEN_PAGE, PAGE
from cores.pc.stop import Ending, Stop
from cores.x86.faults import Unsupported

MOST_EMPTY_POLLS = 500
"""Reads in a row of a device's status without a key after which the guest counts as waiting for one."""
NEVER = 1 << 62
"""The deadline when no device has an event pending."""

D = TypeVar("D", bound=Device)

PLUGGED: tuple[type[Device], ...] = (
    Pit,
    Cmos,
    Uart,
    Keyboard,
    Crtc,
    Ata,
    Paravirtual,
    DebugConsole,
    ExitPort,
    Power,
)
"""Every device except the interrupt controllers, which the board wires itself."""

TYPED = {"enter": b"\r", "backspace": b"\x7f", "tab": b"\t", "escape": b"\x1b"}
"""The bytes that a terminal sends for keys with a control character; ``scancodes.SENT`` has others."""


@dataclass(frozen=True)
class BoardState:
    """All devices at one moment. Plain values: it can be compared, and written to a file."""

    now: int
    accesses: int
    stop: Ending | None
    console: bytes
    screen: tuple[bytes, bool]
    disks: tuple[dict[int, bytes], ...]
    devices: tuple[dict[str, Any], ...]
    strangers: frozenset[int]


class Board:
    """The devices of one machine.

    now: the tick of the last ``advance``. deadline: the tick at which the next interrupt can come by
    itself; before it ``advance`` is not needed for interrupts, but must be called before accesses, so
    that clocks show the right time. wake: the same for a CPU that sleeps. accesses: their number, MMIO
    and REP iterations included. stop: how the guest ended its machine, None before it has. devices: all
    of them, in the order in which their states are saved and shown.

    polls: virtio devices look for work by themselves; watched: a thread looks for them at present
    (cores/vmm/ring_watch.py), with ``lock``.
    paused_until: the tick before which the guest is not to go on, 0 usually; the VMM sets it back.
    special: makers of further devices, which only some programs have (cores/pc/boot/protocols.py).
    given: the screen's memory is a page that the guest may have (cores/vmm/given_screen.py).
    networks: what network cards lead to, in the order in which the cards take them.
    horizon: the tick up to which a sleeping guest may sleep; there it waits, not yet awake.
    clock: the tick of an access to a device in memory, which a CPU may make in the middle of a run.
    replanned: called when such an access has changed the deadline or an interrupt pin.
    """

    def __init__(
        self, memory: PhysicalMemory, *, disks: Sequence[Disk] = (), input: bytes = b"", clock: int = 0,
        until: str = "", special: Sequence[Callable[[Slot], Device]] = (),
        networks: Sequence[Network] = (), polls: bool = False, given: bool = False,
    ) -> None:  # fmt: skip
        self.now = 0
        self.deadline = self.wake = NEVER
        self.accesses = 0
        self.interrupt_pending = self.nmi_pending = False
        self._timed_irqs, self._timed_vectors = 0, frozenset[int]()  # requested as time passed
        self._catching_up = self._holding = False
        self.paused_until = 0
        self.horizon = NEVER
        self.polls, self.watched = polls, False
        self.lock = threading.RLock()
        self.clock: Callable[[], int] = lambda: self.now
        self.replanned: Callable[[], None] = lambda: None
        self.stop: Ending | None = None
        self.console = bytearray()
        if until:
            self.console = WatchedConsole(until.encode("latin-1", "replace"), self._seen)
        self.disks = tuple(disks)
        place = memory.ram.scratch + GIVEN_PAGE * PAGE
        self.vga = Vga(until, self._seen, (memory.view, place) if given else None)
        self._saved_console = b""

        self.local_apic = LocalApic()
        self.io_apic = IoApic(self.local_apic)
        self.pics = Pics(self.local_apic.set_external)
        self.local_apic.pins = self._set_pins
        self.local_apic.acknowledge_pics = self.pics.acknowledge
        self.local_apic.end_of_interrupt = self.io_apic.end_of_interrupt
        slot = Slot(
            memory, self.console, self.disks, self._line, self._finish, clock,
            lambda: self.now, self._pause, tuple(networks), polls,
        )  # fmt: skip
        makers = (*(kind.plug for kind in PLUGGED), *special)
        plugged = tuple(one for make in makers for one in _with_parts(make(slot)))
        controllers = self.pics.master, self.pics.slave, self.local_apic, self.io_apic
        self.networks = tuple(networks)
        self.devices: tuple[Device, ...] = (*controllers, *networks, *plugged)
        self.uart, self.keyboard = self._one(Uart), self._one(Keyboard)
        self.typed = TypedInput(self.uart, self.keyboard, self._unmasked, slot.listeners)
        self.devices = (*self.devices, self.typed)
        self._polling = tuple(device for device in self.devices
                              if type(device).next_poll is not Device.next_poll)  # fmt: skip
        self._buses = tuple(device for device in self.devices if isinstance(device, MemoryDevice))
        self._timed = tuple((device, device.irq) for device in self.devices if device.irq is not None
                            and type(device).next_event is not Device.next_event)  # fmt: skip

        self.bus = PortBus()
        for device in self.devices:
            self._demand_free(device)
            self.bus.attach(device)
        timely = (device for device in self.devices if device.timely)
        # An access may begin up to three ports below and still reach the device.
        self._timely = frozenset(p - back for d in timely for p in d.ports for back in range(4))
        memory.attach(WINDOW, self.vga)
        for device in self.devices:
            if isinstance(device, MemoryDevice):
                memory.attach(device.window, _InTime(self, device))
        memory.on_access = self._count
        if input:
            self.type_text(input)
        self._plan()

    # Ports.

    def read(self, port: int, size: int) -> int:
        """IN of ``size`` bytes (1, 2, 4)."""
        self.accesses += 1
        if port not in self._timely:
            return self.bus.read(port, size)
        self._catch_up()
        value = self.bus.read(port, size)
        self._plan()
        return value

    def write(self, port: int, size: int, value: int) -> None:
        """OUT of the low ``size`` bytes of ``value``."""
        self.accesses += 1
        value &= (1 << 8 * size) - 1
        if port not in self._timely:
            device = self.bus.whole.get(port << 3 | size)
            if device is not None:  # nearly always: saves a call
                device.write(port, size, value)
            else:
                self.bus.write(port, size, value)
            if len(self.console) > MOST_CONSOLE:
                raise self._flooded()
            return
        self._catch_up()
        self.bus.write(port, size, value)
        self._plan()

    def writer(self, port: int, size: int) -> Callable[[int], None]:
        """``write`` to this port with this size, for values within it: the device is looked up once."""
        device = self.bus.whole.get(port << 3 | size)
        if device is None or port in self._timely:
            return partial(self.write, port, size)
        to_device, console = device.write, self.console

        def write(value: int) -> None:
            self.accesses += 1
            to_device(port, size, value)
            if len(console) > MOST_CONSOLE:
                raise self._flooded()

        return write

    def describer(self, port: int) -> Callable[[int, int, bool], str]:
        """``describe`` for accesses to this port: takes port, value and whether it is an OUT."""
        device = self.bus.owners.get(port)
        return device.describe if device is not None else lambda port, value, is_write: "no device"

    def read_string(self, port: int, size: int, count: int) -> bytes:
        """REP INS: ``count`` times ``size`` bytes; each counts as an access."""
        self.accesses += count
        self._catch_up()
        data = self.bus.read_string(port, size, count)
        self._plan()
        return data

    def write_string(self, port: int, size: int, data: bytes) -> None:
        """REP OUTS: ``data`` in units of ``size`` bytes; each counts as an access."""
        self.accesses += len(data) // size
        self._catch_up()
        self.bus.write_string(port, size, data)
        if len(self.console) > MOST_CONSOLE:
            raise self._flooded()
        self._plan()

    def name_of(self, port: int) -> str:
        """The name of the device that answers ``port``, for a string of accesses."""
        device = self.bus.owners.get(port)
        return "no device" if device is None else device.name

    def describe(self, port: int, size: int, value: int, is_write: bool) -> str:
        """An access in a few words, for the log of exits."""
        device = self.bus.owners.get(port)
        return "no device" if device is None else device.describe(port, value, is_write)

    # Time and interrupts.

    def advance(self, now: int) -> None:
        """Set the time to tick ``now``. Cheap before the deadline."""
        self.now = now
        if now >= self.deadline:
            self._catch_up()
            self._plan()

    def next_event(self) -> int | None:
        """The tick at which a sleeping CPU will next be interrupted; None: never. Lines that are
        masked, or blocked by an interrupt in service, do not count."""
        if self.interrupt_pending:
            return self.now
        return None if self.wake == NEVER else self.wake

    def poll(self) -> None:
        """The CPU goes to sleep: devices that poll look once more, since there is nothing to see for
        them before it wakes."""
        with self.lock:
            self.tell_time()
            for device in self._polling:
                if device.next_poll() is not None:
                    device.poll(self.now)
            self._plan()

    def sleeps_for_good(self) -> bool:
        """Would no device wake a sleeping CPU, however far it may sleep?"""
        horizon, self.horizon = self.horizon, NEVER
        self._plan()
        event = self.next_event()
        self.horizon = horizon
        self._plan()
        return event is None and not self.nmi_pending

    def acknowledge(self) -> int:
        """The CPU takes the interrupt: returns its vector (0-255)."""
        vector = self.local_apic.acknowledge()
        self._timed_irqs &= self.pics.irr
        self._timed_vectors &= self.local_apic.irr
        self._plan()
        return vector

    def vector_of(self, irq: int) -> int | None:
        """The vector that the CPU would be given if this line, which is low, rose now, and nothing else
        happened; None where it would be given none, or not by one controller alone."""
        apic = self.local_apic
        if self.interrupt_pending or self.nmi_pending:
            return None
        wired = self.pics.vector_of(irq) if apic.accepts_external() else None
        if self.io_apic.unmasks(input_of(irq)):
            return self.io_apic.vector_of(input_of(irq)) if wired is None else None
        return wired if apic.is_virtual_wire() else None

    def take_nmi(self) -> None:
        """The CPU takes the NMI."""
        self.local_apic.take_nmi()

    def follow_cpu(self, cr8: int, *, apic_enabled: bool) -> None:
        """Take over the CPU's registers that are the local APIC's too: CR8 and IA32_APIC_BASE.EN."""
        apic = self.local_apic
        self._catch_up()
        if apic_enabled != apic.enabled:
            apic.enable(apic_enabled)
        apic.priority = cr8
        self._plan()

    def tell_time(self) -> None:
        """Tell all devices the time of an access that a CPU makes in the middle of a run."""
        self.now = max(self.now, self.clock())
        self._catch_up()

    def _catch_up(self) -> None:
        vectors = self.local_apic.irr
        with self.lock:
            self._catching_up = True
            for device, _ in self._timed:
                device.advance(self.now)
            self._catching_up = False
        self.local_apic.advance(self.now)
        if self.local_apic.irr is not vectors:
            self._timed_vectors |= self.local_apic.irr - vectors
        if self._holding:
            self._hold()

    @property
    def ticked(self) -> bool:
        """Has an interrupt been requested as time passed, such as by a timer, that the CPU has not
        taken? The others answer an access of the guest's."""
        wired = self._wired_ticks() & self.pics.irr & ~self.pics.imr
        return bool(wired or self._timed_vectors & self.local_apic.irr)

    def hold_ticks(self, on: bool) -> None:
        """Hold back such interrupts, or let them come. The others come before them meanwhile."""
        if on != self._holding:
            self._holding = on
            self._hold()

    def _wired_ticks(self) -> int:
        """Those of the PICs: none where their output is masked, or an NMI."""
        return self._timed_irqs if self.local_apic.is_virtual_wire() else 0

    def _hold(self) -> None:
        self.pics.hold(self._wired_ticks() if self._holding else 0)
        self.local_apic.held = self._timed_vectors if self._holding else frozenset()
        self.local_apic.refresh()

    # Queues that a thread watches.

    def watch(self) -> bool:
        """From the watching thread: serve the queues at the present time. True: the owner of the
        machine has to ``collect``."""
        with self.lock:
            now = max(self.now, self.clock())
            for device in self._polling:
                device.advance(now)
                if device.next_poll() is not None:
                    device.poll(now)
            hungry = self.typed.waiting and any(one.hungry for one in self.typed.others)
            return hungry or any(device.stale for device in self._buses)

    def rung(self, device: VirtioDevice, queue: int, count: int) -> None:
        """The guest has rung a doorbell ``count`` times; the lock is held."""
        self.accesses += count
        device.rung(queue, count, max(self.now, self.clock()))

    def until_arrival(self) -> float:
        """Seconds until a device that stores to RAM by itself has something for the guest."""
        with self.lock:
            events = (device.next_event() for device, _ in self._timed if device.masters)
            due = min((event for event in events if event is not None), default=NEVER)
        return max(due - self.clock(), 0) / 1e6

    def collect(self) -> None:
        """Take over what the watching thread has left: interrupt lines, and what the user types."""
        self.tell_time()
        self._plan()

    def _plan(self) -> None:
        """Compute the deadline. A device that cannot interrupt the CPU now is left out: it catches up
        at the guest's next access to it or to an interrupt controller."""
        deadline = wake = self.local_apic.next_event() or NEVER
        external = self.local_apic.accepts_external()
        for device, irq in self._timed:
            heard = (external and self.pics.accepts(irq)) or self.io_apic.accepts(input_of(irq))
            if heard or device.masters:
                event = device.next_event()
                if event is not None:
                    wake = min(wake, event)
                    if not (self.watched and device.masters):
                        deadline = min(deadline, event)
        for one in () if self.watched else self._polling:
            due = one.next_poll()
            if due is not None:
                deadline = min(deadline, due)
        self.deadline, self.wake = deadline, wake
        if self.typed.waiting:
            self.typed.offer()  # a mask may have been cleared

    # The user.

    def type_text(self, data: bytes) -> None:
        """The user types. data: as a terminal sends it."""
        self.typed.type(data)

    def _unmasked(self, irq: int) -> bool:
        """Does the guest let the interrupt through, at either kind of controller? The PICs' output is
        masked at LINT0, where a kernel uses the I/O APIC."""
        wired = self.pics.master.unmasks(irq) and self.local_apic.accepts_external()
        return wired or self.io_apic.unmasks(input_of(irq))

    @property
    def listens(self) -> bool:
        """Does the guest take interrupts of a device that the user types on, with nothing unread?"""
        typed = self.typed
        return typed.listening() is not None and not typed.unread and not typed.waiting

    @property
    def polled(self) -> bool:
        """Does the guest ask again and again for a key, or for a byte at the serial port?"""
        return max(self.uart.polls, self.keyboard.polls) >= MOST_EMPTY_POLLS

    @property
    def cursor(self) -> tuple[int, int] | None:
        """Row and column of the screen's cursor, None where there is none."""
        return self._one(Crtc).cursor

    def press(self, key: str) -> None:
        """The user presses a key by its name ("up", "f1", "enter") or character; an unknown name has no
        effect."""
        if len(key) == 1:
            self.type_text(key.encode("latin-1", "ignore"))
        else:
            self.type_text(TYPED.get(key) or scancodes.SENT.get(key, b""))

    def screen(self) -> str | None:
        """The VGA screen's text; None if it was never written."""
        return self.vga.text()

    def notes(self) -> list[str]:
        """Sentences for the user about the guest's use of the devices."""
        notes = self.bus.notes() + [note for device in self.devices for note in device.notes()]
        told = "the guest was told of a bad sector, for the host has none"
        return notes + [f"{told}: {disk.trouble}" for disk in self.disks if disk.trouble]

    # State.

    def save(self) -> BoardState:
        """All devices' state. Shares the parts that have not changed since the last call."""
        if self._saved_console != self.console:
            self._saved_console = bytes(self.console)
        return BoardState(
            now=self.now,
            accesses=self.accesses,
            stop=self.stop,
            console=self._saved_console,
            screen=self.vga.save(),
            disks=tuple(disk.save() for disk in self.disks),
            devices=tuple(device.save() for device in self.devices),
            strangers=frozenset(self.bus.strangers),
        )

    def restore(self, state: BoardState) -> None:
        """Restore a saved state, earlier or later."""
        self.now, self.accesses, self.stop = state.now, state.accesses, state.stop
        self.console[:] = self._saved_console = state.console
        self.vga.restore(state.screen)
        for disk, written in zip(self.disks, state.disks, strict=True):
            disk.restore(written)
        for device, saved in zip(self.devices, state.devices, strict=True):
            device.restore(saved)
        self.bus.strangers = set(state.strangers)
        self.local_apic.refresh()
        self._plan()

    def shapes(self) -> tuple[dict[str, Any], ...]:
        """The types of the values in a state's ``devices``."""
        return tuple(device.shape() for device in self.devices)

    def is_lawful(self) -> bool:
        """Whether a guest could have brought the devices into this state; see ``Device``."""
        screen = len(self.vga.cells) == VGA_SIZE
        return screen and all(device.is_lawful() for device in self.devices)

    # Wires.

    def _demand_free(self, device: Device) -> None:
        """Raises InputError where a device, one of the user's own, takes another's port."""
        taken = next((port for port in device.ports if port in self.bus.owners), None)
        if taken is not None:
            raise InputError(f"{device.name}: port {taken:#x} is the {self.bus.owners[taken].name}'s")

    def _one(self, kind: type[D]) -> D:
        """The device of this kind."""
        return next(device for device in self.devices if isinstance(device, kind))

    def _line(self, irq: int) -> partial[None]:
        return partial(self._set_line, irq, input_of(irq))

    def _set_line(self, irq: int, input: int, level: bool) -> None:
        if level and self._catching_up:
            self._timed_irqs |= 1 << irq
        self.pics.set_irq(irq, level)
        self.io_apic.set_line(input, level)

    def _set_pins(self, intr: bool, nmi: bool) -> None:
        self.interrupt_pending, self.nmi_pending = intr, nmi

    def _seen(self) -> None:
        self._finish(Ending(Stop.UNTIL))

    def _flooded(self) -> Unsupported:
        return Unsupported(f"the guest has written more than {MOST_CONSOLE >> 20} MiB to its console")

    def _count(self) -> None:
        self.accesses += 1

    def _pause(self, until: int) -> None:
        self.paused_until = until

    def _finish(self, ending: Ending) -> None:
        if self.stop is None:
            self.stop = ending


def _with_parts(device: Device) -> tuple[Device, ...]:
    return (*device.parts, device)


class _InTime:
    """A device in memory (``MmioDevice``), which is told the time before each access. An access may
    change what the CPU waits for in the middle of a run."""

    def __init__(self, board: Board, device: MemoryDevice) -> None:
        self._board, self._device = board, device

    def mmio_read(self, offset: int, size: int) -> bytes:
        device = self._device
        if size <= 4 and not device.is_timely(offset):  # in short: kernels read the ID at each lock
            return device.mmio_read(offset, size)
        return self._timed(offset, size, device.mmio_read)

    def mmio_peek(self, offset: int, size: int) -> bytes:
        return self._timed(offset, size, self._device.mmio_peek)

    def describe_access(self, offset: int) -> str:
        return self._device.describe_access(offset)

    def _timed(self, offset: int, size: int, read: Callable[[int, int], bytes]) -> bytes:
        if size <= 4 and not self._device.is_timely(offset):
            return read(offset, size)
        with self._board.lock:
            self._board.tell_time()
            value = read(offset, size)
            self._board._plan()
        return value

    def mmio_write(self, offset: int, data: bytes) -> None:
        board = self._board
        before = board.deadline, board.interrupt_pending, board.nmi_pending
        with board.lock:
            board.tell_time()
            self._device.mmio_write(offset, data)
            board._plan()
        if len(board.console) > MOST_CONSOLE:
            raise board._flooded()
        if before != (board.deadline, board.interrupt_pending, board.nmi_pending):
            board.replanned()
