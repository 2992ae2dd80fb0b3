"""The NE2000, an Ethernet card of the ISA bus at 0x300-0x31F, IRQ 10: a DP8390 and its buffer.

Source: National Semiconductor, "DP8390D/NS32490D NIC Network Interface Controller" and "Writing
Drivers for the DP8390 NIC" (AN-874). Ports 0x300-0x30F are its registers, in three pages that the
command register selects; 0x310-0x317 is the data port, which leads through remote DMA to the card's own
memory; a read of 0x318-0x31F resets it.

    0x0000-0x001F  PROM: the card's address, each byte twice, then 0x57, the mark of a 16-bit card
    0x4000-0xBFFF  buffer: pages of 256 bytes, of which the driver makes a ring of received frames and
                   a place for the frame to send

QEMU and Bochs have 32 KiB there, too, where the card that was sold had 16. As there, a frame is sent at
once, and remote DMA does not ask which direction its command has said. As in the datasheet, and unlike
them, a frame for which the ring has no room is lost, counted, and reported in ISR.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from cores.pc.devices.base import BYTE, Device, IrqLine, Slot
from cores.pc.network.link import LONGEST, Link
from cores.plural import counted

BASE = 0x300
DATA, RESET = range(BASE + 0x10, BASE + 0x18), range(BASE + 0x18, BASE + 0x20)
PROM, BUFFER = range(0x20), range(0x4000, 0xC000)
PAGE = 256
HEADER = 4
"""Bytes before each frame in the ring: receive status, page of the next, length with this header."""
_HEADER_AND_CRC = 8
_SHORTEST = 14
"""A frame without data: what the card can send to itself may be shorter."""
_BROADCAST = b"\xff" * 6

# Command register.
STOP, START, TRANSMIT = 0x01, 0x02, 0x04
REMOTE_READ, REMOTE_WRITE, SEND_PACKET, NO_DMA = 0x08, 0x10, 0x18, 0x20
# Interrupt status and mask.
RECEIVED, SENT, OVERWRITTEN, COUNTED, REMOTE_DONE, WAS_RESET = 0x01, 0x02, 0x10, 0x20, 0x40, 0x80
# Receive configuration and status.
BROADCASTS, MULTICASTS, PROMISCUOUS, MONITOR = 0x04, 0x08, 0x10, 0x20
STATUS_OK, STATUS_MISSED, STATUS_GROUP, STATUS_DISABLED = 0x01, 0x10, 0x20, 0x40
WORDS = 0x01
"""Data configuration: the data port moves words."""
LOOPBACK = 0x06
"""Transmit configuration: what is sent goes to the card's own receiver."""

_NAMES = (
    "command", "PSTART", "PSTOP", "BNRY", "TPSR", "TBCR0", "TBCR1", "ISR", "RSAR0", "RSAR1", "RBCR0",
    "RBCR1", "RCR", "TCR", "DCR", "IMR",
)  # fmt: skip
"""The registers of page 0, as they are written."""


class Ne2000(Device):
    """The card. link: what its cable leads to.

    Registers have the datasheet's names: boundary (BNRY) and current (CURR) are the reader's and the
    writer's page of the ring from start (PSTART) to stop (PSTOP); remote and remaining (RSAR, RBCR)
    are remote DMA's address and count. missed: CNTR2. unsent: frames that
    are longer than Ethernet's, or not in the buffer.
    """

    name = "NE2000"
    ports = range(BASE, BASE + 0x20)
    irq = 10
    timely = True
    wiring = frozenset({"_link", "_line", "_now", "_memory"})
    wide = frozenset({"remote", "remaining", "length", "unsent"})

    def __init__(self, link: Link, line: IrqLine, now: Callable[[], int]) -> None:
        self._link, self._line, self._now = link, line, now
        self._memory = bytearray(BUFFER.stop)
        self._memory[: PROM.stop] = bytes(b for b in (*link.mac, *b"WWWWWWWWWW") for _ in "12")
        self.saved_memory = bytes(self._memory)
        self.address = link.mac
        self.groups = bytes(8)
        self.start = self.stop = self.boundary = self.current = self.page_to_send = 0
        self.length = self.remote = self.remaining = 0
        self.status = self.sent_status = self.missed = self.unsent = 0
        self.receive_mode = self.transmit_mode = self.mask = 0
        self.data_mode = 0x04
        self.command, self.isr = STOP | NO_DMA, WAS_RESET

    @classmethod
    def plug(cls, slot: Slot) -> Self:
        return cls(slot.links[0], slot.line(cls.irq), slot.now)

    def reset(self) -> None:
        """As the reset port does; memory and the other registers keep their values."""
        self.command, self.isr = STOP | NO_DMA, WAS_RESET
        self.remaining = 0
        self._update()

    # The bus.

    def widths(self, port: int) -> frozenset[int]:
        return frozenset({1, 2, 4}) if port == DATA.start else BYTE

    def read(self, port: int, size: int) -> int:
        if port in DATA:
            return int.from_bytes(self._from_memory(size), "little")
        if port in RESET:
            self.reset()
            return 0
        register, page = port - BASE, self.command >> 6
        if register == 0:
            return self.command
        return (self._page_0, self._page_1, self._page_2, self._none)[page](register)

    def write(self, port: int, size: int, value: int) -> None:
        if port in DATA:
            self._to_memory(value, size)
        elif port in RESET:
            pass  # the end of the reset pulse
        elif port == BASE:
            self._order(value)
        elif self.command >> 6 == 0:
            self._set_page_0(port - BASE, value)
        elif self.command >> 6 == 1:
            self._set_page_1(port - BASE, value)

    def read_string(self, port: int, size: int, count: int) -> bytes:
        if not self._in_one_block(port, size, count):
            return super().read_string(port, size, count)
        data = self._bytes(self.remote, size * count)
        self._moved(size * count)
        return data

    def write_string(self, port: int, size: int, data: bytes) -> None:
        if not self._in_one_block(port, size, len(data) // size):
            super().write_string(port, size, data)
            return
        self._store(self.remote, data)
        self._moved(len(data))

    def _in_one_block(self, port: int, size: int, count: int) -> bool:
        """Is the transfer one stretch of the buffer, inside what remote DMA has to move?"""
        first, last = self.remote, self.remote + size * count
        whole = count and last - first <= self.remaining and not first % size
        inside = first >= BUFFER.start and last <= BUFFER.stop
        passes = first < self.stop << 8 < last
        right = size == (2 if self.data_mode & WORDS else 1)
        return bool(port in DATA and right and whole and inside and not passes)

    # Registers.

    def _page_0(self, register: int) -> int:
        values = {
            0x3: self.boundary, 0x4: self.sent_status, 0x7: self.isr, 0x8: self.remote & 0xFF,
            0x9: self.remote >> 8, 0xC: self.status, 0xF: self.missed,
        }  # fmt: skip
        if register == 0xF:
            self.missed = 0
        return values.get(register, 0)

    def _page_1(self, register: int) -> int:
        if register <= 6:
            return self.address[register - 1]
        return self.current if register == 7 else self.groups[register - 8]

    def _page_2(self, register: int) -> int:
        values = {
            0x1: self.start, 0x2: self.stop, 0x4: self.page_to_send, 0xC: self.receive_mode,
            0xD: self.transmit_mode, 0xE: self.data_mode, 0xF: self.mask,
        }  # fmt: skip
        return values.get(register, 0)

    @staticmethod
    def _none(register: int) -> int:
        return 0

    def _set_page_0(self, register: int, value: int) -> None:
        match register:
            case 0x1:
                self.start = value
            case 0x2:
                self.stop = value
            case 0x3:
                self.boundary = value
            case 0x4:
                self.page_to_send = value
            case 0x5:
                self.length = self.length & 0xFF00 | value
            case 0x6:
                self.length = self.length & 0xFF | value << 8
            case 0x7:
                self.isr &= ~value | WAS_RESET
            case 0x8:
                self.remote = self.remote & 0xFF00 | value
            case 0x9:
                self.remote = self.remote & 0xFF | value << 8
            case 0xA:
                self.remaining = self.remaining & 0xFF00 | value
            case 0xB:
                self.remaining = self.remaining & 0xFF | value << 8
            case 0xC:
                self.receive_mode = value
            case 0xD:
                self.transmit_mode = value
            case 0xE:
                self.data_mode = value
            case 0xF:
                self.mask = value
        self._update()

    def _set_page_1(self, register: int, value: int) -> None:
        if register <= 6:
            self.address = _with_byte(self.address, register - 1, value)
        elif register == 7:
            self.current = value
        else:
            self.groups = _with_byte(self.groups, register - 8, value)

    def _order(self, value: int) -> None:
        self.command = value
        if value & STOP:
            self.isr |= WAS_RESET
            self.command &= ~TRANSMIT
            self._update()
            return
        self.isr &= ~WAS_RESET
        if value & (SEND_PACKET | NO_DMA) == SEND_PACKET:  # remote DMA from the ring's next frame
            self.remote = self.boundary << 8
            self.remaining = int.from_bytes(self._bytes(self.remote + 2, 2), "little")
            self.command = value & ~SEND_PACKET | REMOTE_READ
        if value & SEND_PACKET and not self.remaining:
            self.isr |= REMOTE_DONE
        if value & TRANSMIT:
            self._transmit()
        self._update()

    def _update(self) -> None:
        self._line(bool(self.isr & self.mask & 0x7F))

    # Remote DMA: the data port, through which the driver accesses the card's memory.

    def _from_memory(self, size: int) -> bytes:
        unit = size if size == 4 else 2 if self.data_mode & WORDS else 1
        at = self.remote & ~1 if unit > 1 else self.remote
        data = self._bytes(at, unit)
        self._moved(unit)
        return data[:size].ljust(size, b"\0")

    def _to_memory(self, value: int, size: int) -> None:
        if not self.remaining:
            return
        unit = size if size == 4 else 2 if self.data_mode & WORDS else 1
        at = self.remote & ~1 if unit > 1 else self.remote
        self._store(at, value.to_bytes(4, "little")[:unit])
        self._moved(unit)

    def _moved(self, count: int) -> None:
        self.remote = self.remote + count & 0xFFFF
        if self.remote == self.stop << 8:
            self.remote = self.start << 8
        self.remaining = max(self.remaining - count, 0)
        if not self.remaining:
            self.isr |= REMOTE_DONE
            self._update()

    def _bytes(self, at: int, count: int) -> bytes:
        """From the card's memory; all ones where it has none, or not enough."""
        if at in PROM or (at >= BUFFER.start and at + count <= BUFFER.stop):
            return bytes(self._memory[at : at + count])
        return b"\xff" * count

    def _store(self, at: int, data: bytes) -> None:
        if at >= BUFFER.start and at + len(data) <= BUFFER.stop:
            self._memory[at : at + len(data)] = data
            self.saved_memory = b""

    # The cable.

    def _transmit(self) -> None:
        self.command &= ~TRANSMIT
        self.sent_status = STATUS_OK
        self.isr |= SENT
        at = self.page_to_send << 8
        if self.length > LONGEST or at < BUFFER.start or at + self.length > BUFFER.stop:
            self.unsent += 1
            return
        frame = self._bytes(at, self.length)
        if self.transmit_mode & LOOPBACK:
            self._receive(frame)
        else:
            self._link.transmit(frame, self._now())

    def advance(self, now: int) -> None:
        came = False
        while (frame := self._link.receive(now)) is not None:
            self._receive(frame)
            came = True
        if came:
            self._update()

    def next_event(self) -> int | None:
        return self._link.next_arrival() if self.mask & (RECEIVED | OVERWRITTEN) else None

    def _receive(self, frame: bytes) -> None:
        if self.command & STOP or len(frame) < _SHORTEST or not self._is_for_us(frame[:6]):
            return
        group = STATUS_GROUP if frame[0] & 1 else 0
        if self.receive_mode & MONITOR:
            self.status = STATUS_MISSED | STATUS_DISABLED | group
            self._miss()
            return
        pages = -(-(len(frame) + _HEADER_AND_CRC) // PAGE)
        if pages >= self._free_pages():
            self.status = STATUS_MISSED | group
            self.isr |= OVERWRITTEN
            self._miss()
            return
        self.status = STATUS_OK | group
        following = self.current + pages
        if following >= self.stop:
            following -= self.stop - self.start
        length = len(frame) + HEADER
        self._into_ring(bytes((self.status, following, length & 0xFF, length >> 8)) + frame)
        self.current = following
        self.isr |= RECEIVED

    def _miss(self) -> None:
        self.missed = min(self.missed + 1, 0xFF)
        if self.missed & 0x80:
            self.isr |= COUNTED

    def _free_pages(self) -> int:
        """Pages of the ring from CURR to BNRY: all of them where these are equal. 0 for a ring that the
        driver has set up with pages outside it."""
        if not self.start <= self.current < self.stop:
            return 0
        return (self.boundary - self.current - 1) % (self.stop - self.start) + 1

    def _into_ring(self, data: bytes) -> None:
        at, end = self.current << 8, self.stop << 8
        self._store_part(at, data[: end - at])
        self._store_part(self.start << 8, data[end - at :])

    def _store_part(self, at: int, data: bytes) -> None:
        """What of it the card has memory for."""
        first, last = max(at, BUFFER.start), min(at + len(data), BUFFER.stop)
        if first < last:
            self._store(first, data[first - at : last - at])

    def _is_for_us(self, destination: bytes) -> bool:
        mode = self.receive_mode
        if destination == _BROADCAST:
            return bool(mode & (BROADCASTS | PROMISCUOUS))
        if destination[0] & 1:
            if mode & PROMISCUOUS:
                return True
            index = crc(destination) >> 26
            return bool(mode & MULTICASTS) and bool(self.groups[index >> 3] >> (index & 7) & 1)
        return bool(mode & PROMISCUOUS) or destination == self.address

    # For the user and for saved sessions.

    def describe(self, port: int, value: int, is_write: bool) -> str:
        if port in DATA:
            return f"{self.name}: data"
        if port in RESET:
            return f"{self.name}: reset"
        register, page = port - BASE, self.command >> 6
        if register == 0:
            orders = (
                f", send {counted(self.length, 'byte')}" if is_write and value & 5 == TRANSMIT else ""
            )
            return f"{self.name}: command{orders}"
        if page == 1:
            name = "CURR" if register == 7 else f"PAR{register - 1}" if register < 7 else "MAR"
            return f"{self.name}: {name}"
        reads = {0x1: "CLDA0", 0x2: "CLDA1", 0x4: "TSR", 0x5: "NCR", 0x8: "CRDA0", 0x9: "CRDA1",
                 0xC: "RSR", 0xD: "CNTR0", 0xE: "CNTR1", 0xF: "CNTR2"}  # fmt: skip
        name = _NAMES[register] if is_write or page == 2 else reads.get(register, _NAMES[register])
        return f"{self.name}: {name}"

    def facts(self, now: int) -> tuple[tuple[str, str], ...]:
        ring = f"pages {self.start:#x} to {self.stop:#x}, reader {self.boundary:#x}, "
        return (
            ("address", self.address.hex(":")),
            ("state", "stopped" if self.command & STOP else "started"),
            ("receive ring", f"{ring}writer {self.current:#x}"),
            ("interrupts", f"status {self.isr:#04x}, mask {self.mask:#04x}"),
        )

    def notes(self) -> list[str]:
        which = (
            f"{counted(self.unsent, 'frame')}, longer than {LONGEST} bytes or outside the card's buffer"
        )
        return [f"the guest told the NE2000 to send {which}: not sent"] if self.unsent else []

    def save(self) -> dict[str, Any]:
        if not self.saved_memory:
            self.saved_memory = bytes(self._memory)
        return super().save()

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self._memory[:] = self.saved_memory

    def is_lawful(self) -> bool:
        sizes = len(self.saved_memory), len(self.address), len(self.groups)
        words = (self.remote, self.remaining, self.length)
        whole = sizes == (BUFFER.stop, 6, 8) and all(0 <= word <= 0xFFFF for word in words)
        return whole and super().is_lawful()


def crc(data: bytes) -> int:
    """Ethernet's check sequence, most significant bit first, as the card computes it of an address to
    find its bit in MAR0-7 (DP8390, 10.0: the six bits at the top)."""
    value = 0xFFFFFFFF
    for byte in data:
        for bit in range(8):
            carry = value >> 31 ^ byte >> bit & 1
            value = value << 1 & 0xFFFFFFFF ^ (0x04C11DB7 if carry else 0)
    return value


def _with_byte(data: bytes, index: int, value: int) -> bytes:
    return data[:index] + bytes((value,)) + data[index + 1 :]
