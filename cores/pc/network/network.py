"""The base of networks: frames on their way to the card, and the log of all that passed.

A network is a device of the board without ports: the state is saved with the others', so that going
back brings frames back too. The log is not part of the state: after going back the same frames are
logged again in the same places, and ``passed`` says how many of them count.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

from cores.pc.devices.base import PortlessDevice
from cores.pc.network.link import LONGEST, SHORTEST
from cores.plural import counted

MOST_QUEUED = 256
"""Frames that wait for one card; what comes then is dropped, as by a switch."""
MOST_LOGGED, MOST_PACKETS = 64 << 20, 500_000
"""Bytes of frames, and frames, that a log holds; a guest must not fill the host's memory. Those that
come then are only counted."""
_HEADER = 14
"""Bytes of an Ethernet header: two addresses and a type."""


@dataclass(frozen=True, slots=True)
class Packet:
    """A frame that passed a card. at: the tick. sent: by the guest, else received by it. event,
    accesses: the number of exits in the machine's log, and of its device accesses, by then."""

    at: int
    sent: bool
    frame: bytes
    event: int = field(default=0, compare=False)
    accesses: int = field(default=0, compare=False)


class Network(PortlessDevice):
    """What one card's cable leads to (``Link``).

    number: of the machine's networks, from 0. called: the user's name for it, or "". queued: frames on
    their way to the card, with the tick at which each arrives. passed: packets so far; before: those
    older than the log, which a saved session does not hold. sent, received: by the guest. dropped:
    frames for which there was no room. lost: what the guest sent that is no frame. done: the machine's
    exits and device accesses so far, for the log.
    """

    name = "network"
    wiring = frozenset({"number", "called", "mac", "log", "before", "done", "_kept"})
    wide = frozenset({"passed", "sent", "received", "dropped", "lost"})
    mode = ""
    """Its name in ``--net``."""

    queued: tuple[tuple[int, bytes], ...]

    def __init__(self, number: int = 0, called: str = "") -> None:
        self.number, self.called = number, called
        self.mac = bytes((0x52, 0x54, 0, 0x12, 0x34, 0x56 + number & 0xFF))
        self.queued = ()
        self.log: list[Packet] = []
        self.done: Callable[[], tuple[int, int]] = lambda: (0, 0)
        self.before = self._kept = 0
        self.passed = self.sent = self.received = self.dropped = self.lost = 0

    @property
    def title(self) -> str:
        return f"Network {self.called or self.number or ''}".rstrip()

    @abstractmethod
    def carry(self, frame: bytes, now: int) -> None:
        """The guest has sent a frame: at least a header, at most ``LONGEST`` bytes, padded."""

    def enqueue(self, frame: bytes, at: int) -> None:
        """Send a frame to the card, which arrives at tick ``at``, and behind those sent before."""
        if len(self.queued) >= MOST_QUEUED:
            self.dropped += 1
            return
        if self.queued:
            at = max(at, self.queued[-1][0])
        self.queued = (*self.queued, (at, frame.ljust(SHORTEST, b"\0")))

    # The card's side.

    def transmit(self, frame: bytes, now: int) -> None:
        if not _HEADER <= len(frame) <= LONGEST:
            self.lost += 1
            return
        self.sent += 1
        frame = frame.ljust(SHORTEST, b"\0")
        self._note(now, True, frame)
        self.carry(frame, now)

    def next_arrival(self) -> int | None:
        return self.queued[0][0] if self.queued else None

    def arrived(self, by: int) -> bool:
        at = self.next_arrival()
        return at is not None and at <= by

    def receive(self, now: int) -> bytes | None:
        if not self.queued or self.queued[0][0] > now:
            return None
        (_, frame), self.queued = self.queued[0], self.queued[1:]
        return self._received(frame, now)

    def _received(self, frame: bytes, now: int) -> bytes:
        """Count and log a frame that the card takes."""
        self.received += 1
        self._note(now, False, frame)
        return frame

    def _note(self, now: int, sent: bool, frame: bytes) -> None:
        log, packet = self.log, Packet(now, sent, frame, *self.done())
        if not log:
            self.before = self.passed
        at = self.passed - self.before
        self.passed += 1
        if at < len(log):
            if log[at] == packet:  # passed before the guest went back
                return
            del log[at:]
            self._kept = sum(len(one.frame) for one in log)
        full = at > len(log) or at >= MOST_PACKETS or self._kept + len(frame) > MOST_LOGGED
        if not full:
            log.append(packet)
            self._kept += len(frame)

    # The board's side.

    @property
    def packets(self) -> list[Packet]:
        """The packets so far, oldest first, as far as the log has them."""
        return self.log[: max(self.passed - self.before, 0)]

    @property
    def unkept(self) -> int:
        """Packets for which the log had no room: the newest."""
        return max(self.passed - self.before - len(self.log), 0) if self.log else 0

    def facts(self, now: int) -> tuple[tuple[str, str], ...]:
        return (
            ("leads to", self.mode),
            ("card's address", self.mac.hex(":")),
            ("packets", f"{self.sent} sent, {self.received} received, {len(self.queued)} on their way"),
        )

    def notes(self) -> list[str]:
        notes = []
        if self.lost:
            notes.append(
                f"{self.title}: {counted(self.lost, 'frame')} too short or too long for Ethernet:"
                " dropped"
            )
        if self.dropped:
            notes.append(
                f"{self.title}: {counted(self.dropped, 'frame')} dropped:"
                f" {MOST_QUEUED} before them still waited"
            )
        if self.unkept:
            notes.append(
                f"{self.title}: the log of packets is full: the last {self.unkept:,} are not in it"
            )
        return notes

    def is_lawful(self) -> bool:
        frames = all(at >= 0 and len(frame) <= LONGEST for at, frame in self.queued)
        return frames and len(self.queued) <= MOST_QUEUED and super().is_lawful()
