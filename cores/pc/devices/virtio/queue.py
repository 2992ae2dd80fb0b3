"""A split virtqueue: how driver and device pass each other buffers (virtio 1.2, 2.7).

Three areas in the guest's RAM. Descriptors name buffers and form chains. In the *available* ring the
driver lists chains that the device may use; in the *used* ring the device lists those it is done with.

    descriptor   u64 address, u32 length, u16 flags (1 next, 2 write, 4 indirect), u16 next
    available    u16 flags, u16 index, u16 heads[size], u16 used_event
    used         u16 flags, u16 index, {u32 head, u32 written}[size], u16 avail_event

Neither side needs to tell the other of each entry. The device is told (a *kick*, an exit) unless it has
suppressed that, and tells by an interrupt unless the driver has: by a flag, or, where both know
VIRTIO_F_EVENT_IDX, by the index from which on they want to hear.

All of it is the guest's, and may be anything. A chain is checked whole before its device sees it.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from cores.pc.devices.virtio.dma import Dma, ViolationError
from cores.plural import counted

LARGEST = 256
"""Entries of the largest queue that a driver can set up."""
MOST_BYTES = 64 << 20
"""Bytes that one chain may name: more would keep the host at work, and no driver needs it."""

NEXT, WRITE, INDIRECT = 1, 2, 4
_DESCRIPTOR = Struct("<QIHH")
_USED = Struct("<II")
_QUIET = 1
"""The flag of either ring that suppresses kicks or interrupts."""

Buffer = tuple[int, int]
"""Address and length, as the device reaches it."""


@dataclass(frozen=True, slots=True)
class Chain:
    """The buffers of one request, in order. head: the number of its first descriptor."""

    head: int
    readable: tuple[Buffer, ...]
    writable: tuple[Buffer, ...]

    @property
    def room(self) -> int:
        """Bytes that the device may write."""
        return sum(length for _, length in self.writable)

    def read(self, dma: Dma, limit: int = MOST_BYTES) -> bytes:
        """What the driver has put in, at most ``limit`` bytes of it."""
        parts: list[bytes] = []
        for address, length in self.readable:
            parts.append(dma.read(address, min(length, limit)))
            limit -= len(parts[-1])
            if not limit:
                break
        return b"".join(parts)

    def write(self, dma: Dma, data: bytes, at: int = 0) -> int:
        """Write ``data`` from byte ``at`` of the writable buffers on, as far as there is room; gives
        how many bytes that were."""
        done = 0
        for address, length in self.writable:
            if at < length:
                part = data[done : done + length - at]
                if not part:
                    break
                dma.write(address + at, part)
                done += len(part)
                at = 0
            else:
                at -= length
        return done


@dataclass(frozen=True, slots=True)
class QueueState:
    """What the driver has set up, and how far the device is. size: entries, 0 before the driver has
    said. descriptors, available, used: addresses of the areas. next: the entry of the available ring
    that comes next; done: entries of the used ring, written so far. Both count to 65536 and begin
    again. signalled: ``done`` at the last interrupt. quiet: the device has suppressed kicks."""

    size: int = LARGEST
    ready: bool = False
    descriptors: int = 0
    available: int = 0
    used: int = 0
    next: int = 0
    done: int = 0
    signalled: int = 0
    quiet: bool = False

    def is_lawful(self) -> bool:
        """Whether a driver could have brought a queue into this state."""
        counters = (self.next, self.done, self.signalled)
        areas = (self.descriptors, self.available, self.used)
        return (
            0 < self.size <= LARGEST
            and not self.size & self.size - 1
            and all(0 <= one <= 0xFFFF for one in counters)
            and all(0 <= one < 1 << 64 for one in areas)
        )


class Queue:
    """One queue of a device. event_index, indirect: the features that the driver has accepted."""

    def __init__(self, dma: Dma) -> None:
        self.dma = dma
        self.event_index = self.indirect = False
        self.put(QueueState())

    def put(self, state: QueueState) -> None:
        """Go to a state: a reset, or a saved one."""
        self.size, self.ready = state.size, state.ready
        self.descriptors, self.available, self.used = state.descriptors, state.available, state.used
        self.next, self.done, self.signalled = state.next, state.done, state.signalled
        self.quiet = state.quiet

    def state(self) -> QueueState:
        return QueueState(
            self.size, self.ready, self.descriptors, self.available, self.used, self.next, self.done,
            self.signalled, self.quiet,
        )  # fmt: skip

    def begin(self) -> None:
        """The driver says that it is ready. Raises ViolationError for areas that cannot be right."""
        size = self.size
        areas = (
            ("descriptors", self.descriptors, 16, 16 * size, False),
            ("available ring", self.available, 2, 6 + 2 * size, False),
            ("used ring", self.used, 4, 6 + 8 * size, True),
        )
        for name, address, alignment, length, write in areas:
            if address % alignment:
                raise ViolationError(f"put its {name} at {address:#x}, which is not aligned")
            self.dma.places(address, length, write=write)
        self.ready = True

    # The device's side.

    def waiting(self) -> int:
        """Chains that the driver has made available and the device has not taken. Raises
        ViolationError for an impossible number."""
        count = self.dma.read_u16(self.available + 2) - self.next & 0xFFFF
        if count > self.size:
            raise ViolationError(
                f"made {count} chains available in a queue of {self.size}, by its index"
            )
        return count

    def pop(self) -> Chain | None:
        """Take the next chain; None: there is none. Raises ViolationError, and then takes nothing."""
        if not self.ready or not self.waiting():
            return None
        chain = self._walk(self.dma.read_u16(self.available + 4 + 2 * (self.next % self.size)))
        self.next = self.next + 1 & 0xFFFF
        return chain

    def push(self, chain: Chain, written: int) -> None:
        """Give a chain back, with the number of bytes written into it."""
        at = self.used + 4 + _USED.size * (self.done % self.size)
        self.dma.write(at, _USED.pack(chain.head, written))
        self.done = self.done + 1 & 0xFFFF
        self.dma.write_u16(self.used + 2, self.done)

    def wants_interrupt(self) -> bool:
        """Whether the driver wants to hear of the chains given back since the last call (2.7.7)."""
        before, self.signalled = self.signalled, self.done
        if before == self.done:
            return False
        if not self.event_index:
            return not self.dma.read_u16(self.available) & _QUIET
        event = self.dma.read_u16(self.available + 4 + 2 * self.size)
        return self.done - event - 1 & 0xFFFF < self.done - before & 0xFFFF

    def kicks(self, wanted: bool) -> None:
        """Say whether the driver shall tell of the chains that it makes available next (2.7.10)."""
        if self.event_index:
            event = self.next if wanted else self.next - 1 & 0xFFFF  # the last one: long past
            self.dma.write_u16(self.used + 4 + _USED.size * self.size, event)
        elif self.quiet is wanted:
            self.dma.write_u16(self.used, 0 if wanted else _QUIET)
        self.quiet = not wanted

    def _walk(self, head: int) -> Chain:
        """The chain from descriptor ``head`` on, checked. Raises ViolationError."""
        table, count, index, inside = self.descriptors, self.size, head, False
        readable: list[Buffer] = []
        writable: list[Buffer] = []
        total = 0
        while True:
            if index >= count:
                raise ViolationError(f"named descriptor {index} of a table of {count}")
            fields = self.dma.read(table + _DESCRIPTOR.size * index, _DESCRIPTOR.size)
            address, length, flags, following = _DESCRIPTOR.unpack(fields)
            if flags & INDIRECT:
                self._check_indirect(length, flags, inside)
                self.dma.places(address, length, write=False)
                table, count, index, inside = address, length // _DESCRIPTOR.size, 0, True
                continue
            if len(readable) + len(writable) >= self.size:
                raise ViolationError("made a chain that is a loop, or longer than its queue")
            total += length
            if not length or total > MOST_BYTES:
                raise ViolationError(
                    f"made a chain with a buffer of {counted(length, 'byte')}, {total} in all"
                )
            write = bool(flags & WRITE)
            if writable and not write:
                raise ViolationError("put a buffer to be read behind one to be written")
            self.dma.places(address, length, write=write)
            (writable if write else readable).append((address, length))
            if not flags & NEXT:
                return Chain(head, tuple(readable), tuple(writable))
            index = following

    def _check_indirect(self, length: int, flags: int, inside: bool) -> None:
        if not self.indirect:
            raise ViolationError("used an indirect table without having accepted that feature")
        if inside or flags & NEXT:
            raise ViolationError("put an indirect table into another, or a descriptor behind it")
        if not length or length % _DESCRIPTOR.size:
            raise ViolationError(f"made an indirect table of {counted(length, 'byte')}")
