"""``--net hub``: a cable between two machines of one session, whose ends these are.

What one machine sends at a tick arrives at the other ``LATENCY`` later. In exact mode this makes the
pair deterministic: neither can know of the other what is not ``LATENCY`` old, so one may be run ahead
by as much (cores/machine/pair.py).

All frames so far stay in the order in which they came, and an end's state is how many of them it has
taken and given. So one machine can go back and come forward again without the other: it gets the frames
that it got before. That holds while it sends what it sent before; a guest that the user has changed may
not, and then nothing more passes.
"""

from __future__ import annotations

from collections.abc import Callable

from cores.pc.network.network import MOST_LOGGED, Network

LATENCY = 1000
"""Ticks from one card to the other: a millisecond of virtual time."""
SECOND_CARD = 0x10
"""Added to the number of the other machine's card, so that the two have different addresses."""


class HubEnd(Network):
    """taken, given: frames that the card has received and sent, of all so far. split: it has sent,
    after going back, what it had not sent before.

    run_other: lets the other machine reach a tick. horizon: the tick before which no frame can come of
    which this end does not know yet; None: none will come by itself."""

    wiring = Network.wiring | {"coming", "going", "other", "run_other", "horizon", "mode", "_size"}
    wide = Network.wide | {"taken", "given"}

    split: bool

    def __init__(self, number: int = 0, called: str = "") -> None:
        super().__init__(number, called)
        self.mode = "hub: no other machine"
        self.coming: list[tuple[int, bytes]] = []
        self.going: list[tuple[int, bytes]] = []
        self.other: HubEnd | None = None
        self.run_other: Callable[[int], None] = lambda now: None
        self.horizon: Callable[[], int | None] = lambda: None
        self.taken = self.given = self._size = 0
        self.split = False

    def carry(self, frame: bytes, now: int) -> None:
        if self.given < len(self.going):
            self.split |= self.going[self.given] != (now, frame)
            self.given += 1
            return
        self.split |= self._size > MOST_LOGGED
        if self.split or self.other is None:
            return
        self.going.append((now, frame))
        self._size += len(frame)
        self.given += 1
        self.other.coming.append((now + LATENCY, frame))

    def _next(self) -> int | None:
        return self.coming[self.taken][0] if self.taken < len(self.coming) else None

    def next_arrival(self) -> int | None:
        at, horizon = self._next(), self.horizon()
        return min((tick for tick in (at, horizon) if tick is not None), default=None)

    def arrived(self, by: int) -> bool:
        at = self._next()
        return at is not None and at <= by

    def receive(self, now: int) -> bytes | None:
        self.run_other(now)
        if not self.arrived(now):
            return None
        frame = self.coming[self.taken][1]
        self.taken += 1
        return self._received(frame, now)

    def notes(self) -> list[str]:
        if not self.split:
            return super().notes()
        why = (
            f"more than {MOST_LOGGED >> 20} MiB have passed"
            if self._size > MOST_LOGGED
            else "after going back the guest sent what it had not sent before"
        )
        return [*super().notes(), f"{self.title}: nothing more reaches the other machine: {why}"]

    def is_lawful(self) -> bool:
        return 0 <= self.taken <= len(self.coming) and super().is_lawful()


def join(first: HubEnd, second: HubEnd) -> None:
    """Lay the cable."""
    first.other, second.other = second, first
