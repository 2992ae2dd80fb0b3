"""``--net replay:FILE``: plays back a capture, and hears nothing of what the guest sends.

A capture holds both directions, without saying which packet had which. Frames whose sender is the
guest's own card were sent by it, and are left out.
"""

from __future__ import annotations

from cores.pc.network.capture import Frame
from cores.pc.network.network import Network
from cores.plural import counted


class ReplayNetwork(Network):
    """played: how many of the capture's frames have been received."""

    wiring = Network.wiring | {"frames", "mode"}
    wide = Network.wide | {"played"}

    def __init__(self, frames: list[Frame], path: str, number: int = 0, called: str = "") -> None:
        super().__init__(number, called)
        self.frames = tuple((at, frame) for at, frame in frames if frame[6:12] != self.mac)
        self.mode = f"replay of {path}: {counted(len(self.frames), 'frame')}"
        self.played = 0

    def carry(self, frame: bytes, now: int) -> None:
        """Nothing listens."""

    def next_arrival(self) -> int | None:
        return self.frames[self.played][0] if self.played < len(self.frames) else None

    def receive(self, now: int) -> bytes | None:
        at = self.next_arrival()
        if at is None or at > now:
            return None
        frame = self.frames[self.played][1]
        self.played += 1
        return self._received(frame, now)

    def is_lawful(self) -> bool:
        return 0 <= self.played <= len(self.frames) and super().is_lawful()
