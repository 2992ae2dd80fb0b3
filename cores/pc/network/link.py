"""A card's side of its cable.

A card (cores/pc/devices) asks ``next_arrival`` in its own ``next_event``, so that a sleeping guest
wakes when a frame comes, and takes frames by ``receive`` in its ``advance``. The network behind the
cable is a device of the board by itself: its state is saved and restored with the others', not by the
card.
"""

from __future__ import annotations

from typing import Protocol

SHORTEST, LONGEST = 60, 1514
"""Bytes of an Ethernet frame without its check sequence. Networks pad what they send; a card need
not."""


class Link(Protocol):
    """What a card's cable leads to. Frames are Ethernet's, destination first, without the check
    sequence. Times are ticks of 1 MHz, as for every device."""

    mac: bytes
    """The address that this end's card has: six bytes."""
    called: str
    """The user's name for it (``--net NAME=MODE``), or "": the device that it is for, if the guest
    names its devices."""

    def transmit(self, frame: bytes, now: int) -> None:
        """The card sends a frame at tick ``now``. Any bytes of any length: a network drops what is no
        frame."""

    def next_arrival(self) -> int | None:
        """The tick at which the next frame for this card arrives, or at which to ask again; in the past
        if one waits already; None: none is on its way."""

    def arrived(self, by: int) -> bool:
        """Is a frame known that will have arrived by tick ``by``?"""

    def receive(self, now: int) -> bytes | None:
        """Take the next frame that has arrived by tick ``now``. A card without room leaves it: frames
        wait, up to a limit of the network's. The card filters by address itself."""
