"""The registers of a virtio device: the transport virtio-mmio, version 2 (virtio 1.2, 4.2.2).

A driver finds the magic number and the device's ID, negotiates features, sets up queues, and says
DRIVER_OK. From then on only QueueNotify (a kick), InterruptStatus and InterruptACK are accessed: an
exit each, for as many buffers as the queues hold.

A driver that breaks a rule gets DEVICE_NEEDS_RESET. The device then touches nothing more of the
guest's, until it is reset.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from cores.deadline import Deadline
from cores.pc.devices.base import PortlessDevice
from cores.pc.devices.slot import Slot
from cores.pc.devices.virtio.dma import Dma, ViolationError
from cores.pc.devices.virtio.queue import LARGEST, Chain, Queue, QueueState
from cores.plural import counted

MAGIC = int.from_bytes(b"virt", "little")
VERSION = 2
VENDOR = int.from_bytes(b"RING", "little")
SPAN = 0x200
"""Bytes of the registers of one device."""
CONFIG = 0x100
QUEUE_NOTIFY = 0x50
IRQ = 11

ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET, FAILED = 1, 2, 4, 8, 0x40, 0x80
USED_BUFFERS, CONFIG_CHANGED = 1, 2
"""Bits of InterruptStatus."""

INDIRECT_DESC, EVENT_IDX, VERSION_1, ACCESS_PLATFORM = 1 << 28, 1 << 29, 1 << 32, 1 << 33
"""Features that are not one device's."""

POLL_INTERVAL = 1000
"""Ticks between two looks at the queues with ``--poll``, in exact mode: there a tick is one
instruction. In free mode a thread looks (cores/vmm/ring_watch.py)."""

NAMES = {
    0x00: "MagicValue", 0x04: "Version", 0x08: "DeviceID", 0x0C: "VendorID", 0x10: "DeviceFeatures",
    0x14: "DeviceFeaturesSel", 0x20: "DriverFeatures", 0x24: "DriverFeaturesSel", 0x30: "QueueSel",
    0x34: "QueueNumMax", 0x38: "QueueNum", 0x44: "QueueReady", 0x50: "QueueNotify",
    0x60: "InterruptStatus", 0x64: "InterruptACK", 0x70: "Status", 0x80: "QueueDescLow",
    0x84: "QueueDescHigh", 0x90: "QueueDriverLow", 0x94: "QueueDriverHigh", 0xA0: "QueueDeviceLow",
    0xA4: "QueueDeviceHigh", 0xFC: "ConfigGeneration",
}  # fmt: skip


class VirtioDevice(PortlessDevice):
    """A device. slot_number: its place on the bus, from 0. changed: called when InterruptStatus has
    changed.

    offered: features, a bit each; accepted: those that the driver takes. queue_number: QueueSel.
    interrupts: InterruptStatus. trouble: the rule that the driver has broken, "" for none. kicks: how
    often the driver has told of buffers; doorbells: how many of them were no exits. raised: interrupts
    that it wanted; by_irqfd: how many of them the guest took without an exit. polled_at: the tick of
    the next look at the queues, 0 where the device waits for kicks.
    """

    id: ClassVar[int]
    queue_names: ClassVar[tuple[str, ...]]
    irq = IRQ
    masters = True
    wiring = frozenset({"dma", "slot_number", "changed", "_queues", "_slot", "polls", "watched"})
    wide = frozenset({"offered", "accepted", "queue_number", "kicks", "doorbells", "raised",
                      "by_irqfd", "polled_at",
                      "features_page", "driver_page"})  # fmt: skip

    queues: tuple[QueueState, ...]

    def __init__(self, slot: Slot, slot_number: int) -> None:
        self._slot, self.slot_number = slot, slot_number
        self.dma = Dma(slot.memory, None, slot_number)
        self.changed: Callable[[], None] = lambda: None
        self.polls = slot.polls
        self.watched = False
        self.offered = VERSION_1 | INDIRECT_DESC | EVENT_IDX | self.own_features()
        self._queues = [Queue(self.dma) for _ in self.queue_names]
        self.trouble = ""
        self.kicks = self.doorbells = self.raised = self.by_irqfd = self.generation = 0
        self.reset()

    def reset(self) -> None:
        """As a write of 0 to Status does."""
        self.accepted = self.status = self.interrupts = 0
        self.features_page = self.driver_page = self.queue_number = 0
        self.polled_at = 0
        for queue in self._queues:
            queue.put(QueueState())
            queue.event_index = queue.indirect = False
        self.restarted()
        self.changed()

    # What each device says of itself.

    def own_features(self) -> int:
        """The features that only this kind of device has."""
        return 0

    def config(self) -> bytes:
        """The device's configuration space."""
        return b""

    def configure(self, offset: int, data: bytes) -> None:
        """The driver writes to the configuration space."""

    def restarted(self) -> None:
        """The device has been reset."""

    @abstractmethod
    def serve(self, number: int, now: int) -> None:
        """Do what queue ``number`` has for the device. Raises ViolationError."""

    # Registers.

    @property
    def selected(self) -> Queue | None:
        return self._queues[self.queue_number] if self.queue_number < len(self._queues) else None

    @property
    def works(self) -> bool:
        """Has the driver set it up, and broken no rule?"""
        return bool(self.status & DRIVER_OK) and not self.status & NEEDS_RESET

    def load(self, offset: int, size: int) -> bytes:
        """A load inside registers or configuration; without effects."""
        if offset >= CONFIG:
            return self.config()[offset - CONFIG : offset - CONFIG + size].ljust(size, b"\0")
        first = offset & ~3
        words = (self._register(at).to_bytes(4, "little") for at in range(first, offset + size, 4))
        return b"".join(words)[offset - first :][:size]

    def _register(self, offset: int) -> int:
        queue = self.selected
        match offset:
            case 0x00:
                return MAGIC
            case 0x04:
                return VERSION
            case 0x08:
                return self.id
            case 0x0C:
                return VENDOR
            case 0x10:
                return self.offered >> 32 * min(self.features_page, 2) & 0xFFFFFFFF
            case 0x34:
                return LARGEST if queue is not None else 0
            case 0x44:
                return int(queue is not None and queue.ready)
            case 0x60:
                return self.interrupts
            case 0x70:
                return self.status
            case 0xB0 | 0xB4 | 0xB8 | 0xBC:  # no shared memory
                return 0xFFFFFFFF
            case 0xFC:
                return self.generation
            case _:
                return 0

    def store(self, offset: int, data: bytes) -> None:
        """A store. Registers take 32 bits; what the specification does not name is ignored."""
        if offset >= CONFIG:
            self.configure(offset - CONFIG, data)
            return
        if len(data) != 4:
            return
        value = int.from_bytes(data, "little")
        try:
            self._store(offset, value)
        except ViolationError as violation:
            self._break(violation)

    def _store(self, offset: int, value: int) -> None:
        queue = self.selected
        match offset:
            case 0x14:
                self.features_page = value
            case 0x24:
                self.driver_page = value
            case 0x20:
                self._accept(value)
            case 0x30:
                self.queue_number = value
            case 0x50:
                self.kicks += 1
                self._kicked(value)
            case 0x64:
                self.interrupts &= ~value
                self.changed()
            case 0x70:
                self._set_status(value)
            case 0x44 if queue is not None:
                self._set_ready(queue, bool(value & 1))
            case 0x38 if queue is not None and not queue.ready:
                if not 0 < value <= LARGEST or value & value - 1:
                    raise ViolationError(f"asked for a queue of {counted(value, 'entry', 'entries')}")
                queue.size = value
            case 0x80 | 0x84 | 0x90 | 0x94 | 0xA0 | 0xA4 if queue is not None and not queue.ready:
                name = {0x80: "descriptors", 0x90: "available", 0xA0: "used"}[offset & 0xF0]
                old, high = getattr(queue, name), offset & 4
                kept = old & 0xFFFFFFFF if high else old & ~0xFFFFFFFF
                setattr(queue, name, kept | value << (32 if high else 0))

    def _accept(self, value: int) -> None:
        if self.status & FEATURES_OK or self.driver_page > 1:
            return
        shift = 32 * self.driver_page
        self.accepted = self.accepted & ~(0xFFFFFFFF << shift) | value << shift

    def _set_status(self, value: int) -> None:
        if not value:
            self.reset()
            return
        value = value & 0xCF & ~NEEDS_RESET | self.status & NEEDS_RESET
        if value & FEATURES_OK and not self.status & FEATURES_OK:
            demanded = VERSION_1 | self.offered & ACCESS_PLATFORM
            if self.accepted & ~self.offered or demanded & ~self.accepted:
                value &= ~FEATURES_OK  # the driver reads that these features do not do
        starts = value & DRIVER_OK and not self.status & DRIVER_OK
        self.status = value
        if starts and not value & FEATURES_OK:
            raise ViolationError("said DRIVER_OK without agreement on features (FEATURES_OK)")
        if starts:
            self._start()

    def _start(self) -> None:
        for queue in self._queues:
            queue.event_index = bool(self.accepted & EVENT_IDX)
            queue.indirect = bool(self.accepted & INDIRECT_DESC)
        if not self.works:
            return
        if self.polls:
            self.polled_at = self._slot.now() + POLL_INTERVAL
        for number, queue in enumerate(self._queues):
            if queue.ready:
                queue.kicks(self.wants_kicks(number))

    def wants_kicks(self, number: int) -> bool:
        """Shall the driver tell of buffers in this queue?"""
        return not self.polls

    def _set_ready(self, queue: Queue, ready: bool) -> None:
        if not ready:
            queue.put(QueueState())
        elif not queue.ready:
            queue.begin()
            if self.works:
                queue.kicks(self.wants_kicks(self._queues.index(queue)))

    def _kicked(self, number: int) -> None:
        if number < len(self._queues) and self.works and self._queues[number].ready:
            self.serve(number, self._slot.now())

    # For the devices.

    def drain(self, number: int, handle: Callable[[Chain], int]) -> None:
        """Let ``handle`` have each chain of a queue; it gives the bytes that it has written. Then
        interrupt the driver if it wants that."""
        queue, deadline = self._queues[number], Deadline()
        for _ in range(LARGEST):  # while a thread watches, the driver may make more and more available
            chain = queue.pop()
            if chain is None:
                queue.kicks(self.wants_kicks(number))
                if not queue.waiting():  # else some came before the driver knew that it has to tell
                    break
                continue
            deadline.check()
            queue.push(chain, handle(chain))
        self.interrupt_for(queue)

    def interrupt_for(self, queue: Queue) -> None:
        """Interrupt for the chains given back, unless the driver has suppressed that."""
        if queue.wants_interrupt():
            self.raised += 1
            self.interrupts |= USED_BUFFERS
            self.changed()

    def _break(self, violation: ViolationError) -> None:
        self.trouble = str(violation)
        self.status |= NEEDS_RESET
        self.polled_at = 0
        if self.status & DRIVER_OK:
            self.interrupts |= CONFIG_CHANGED
            self.changed()

    def carefully(self, act: Callable[[], None]) -> None:
        """Do something on the device's own account; a rule that is found broken stops the device."""
        try:
            act()
        except ViolationError as violation:
            self._break(violation)

    def rung(self, number: int, count: int, now: int) -> None:
        """The driver has told of queue ``number``, ``count`` times, by a doorbell
        (cores/vmm/doorbells.py)."""
        self.kicks += count
        self.doorbells += count
        if self.works and self._queues[number].ready:
            self.carefully(lambda: self.serve(number, now))

    # Time.

    def advance(self, now: int) -> None:
        if self.works:
            self.carefully(lambda: self.at(now))
        if self.polled_at and now >= self.polled_at:
            if not self.watched:
                self.poll(now)
            self.polled_at += (now - self.polled_at) // POLL_INTERVAL * POLL_INTERVAL + POLL_INTERVAL

    def at(self, now: int) -> None:
        """Do what is due at tick ``now``. Raises ViolationError."""

    def poll(self, now: int) -> None:
        """Look at all queues, as if the driver had told of each."""
        for number, queue in enumerate(self._queues):
            if self.works and queue.ready:
                self.carefully(partial(self.serve, number, now))

    def next_event(self) -> int | None:
        return None

    def next_poll(self) -> int | None:
        return self.polled_at or None

    # For the user and for saved sessions.

    def describe_register(self, offset: int) -> str:
        """The register's name, with the device's."""
        what = "configuration" if offset >= CONFIG else NAMES.get(offset, f"register {offset:#x}")
        return f"{self.name} {what}"

    def facts(self, now: int) -> tuple[tuple[str, str], ...]:
        words = (
            "needs a reset" if self.status & NEEDS_RESET else "works" if self.works else "not set up"
        )
        kicks = counted(self.kicks, "kick") + _unexited(self.doorbells)
        raised = counted(self.raised, "interrupt") + _unexited(self.by_irqfd)
        return (
            ("state", words), ("told", f"{kicks}, {raised}" + (", polled" if self.polls else "")),
            *((name, _queue_words(queue)) for name, queue in zip(self.queue_names, self._queues,
                                                                  strict=True)),
        )  # fmt: skip

    def notes(self) -> list[str]:
        notes = []
        if self.by_irqfd:
            raised = counted(self.raised, "interrupt")
            notes.append(
                f"{self.name}: the guest took {self.by_irqfd:,} of its {raised} without an exit "
                "(irqfd), and a HLT that such a one ended was none either"
            )
        if self.trouble:
            needs = "needs a reset" if self.status & NEEDS_RESET else "needed a reset, and got it"
            notes.append(f"{self.name} {needs}: its driver {self.trouble}")
        return notes

    def save(self) -> dict[str, Any]:
        return super().save() | {"queues": tuple(queue.state() for queue in self._queues)}

    def restore(self, state: dict[str, Any]) -> None:
        rest = dict(state)
        for queue, saved in zip(self._queues, rest.pop("queues"), strict=True):
            queue.put(saved)
        super().restore(rest)
        for queue in self._queues:
            queue.event_index = bool(self.accepted & EVENT_IDX and self.status & DRIVER_OK)
            queue.indirect = bool(self.accepted & INDIRECT_DESC and self.status & DRIVER_OK)

    def is_lawful(self) -> bool:
        bits = all(0 <= one < 1 << 64 for one in (self.offered, self.accepted, self.polled_at))
        return bits and all(queue.state().is_lawful() for queue in self._queues) and super().is_lawful()


def _unexited(count: int) -> str:
    return f" ({count:,} without an exit)" if count else ""


def _queue_words(queue: Queue) -> str:
    if not queue.ready:
        return "not set up"
    return f"{counted(queue.size, 'entry', 'entries')}, taken {queue.next:,}, given back {queue.done:,}"
