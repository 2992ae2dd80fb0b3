"""Memory as a virtio device reaches it: RAM alone, and where an IOMMU stands before it, what that maps.

Everything that a device reads or writes is named by the guest. An address outside RAM, or one that the
IOMMU does not map, raises ``ViolationError`` before anything is transferred.
"""

from __future__ import annotations

from typing import Protocol

from cores.pc.physical_memory import PhysicalMemory
from cores.plural import counted


class ViolationError(Exception):
    """The driver has broken a rule of the specification. Its text is a clause about the driver."""


class Translation(Protocol):
    """An IOMMU, as a device behind it sees it (cores/pc/devices/virtio/iommu.py)."""

    def translate(
        self, endpoint: int, address: int, length: int, *, write: bool
    ) -> list[tuple[int, int]]:
        """The guest-physical ranges, (GPA, length), of a range of the device's addresses. Raises
        ViolationError where one may not be accessed."""


class Dma:
    """One device's way to memory. endpoint: its number for the IOMMU."""

    def __init__(
        self, memory: PhysicalMemory, iommu: Translation | None = None, endpoint: int = 0
    ) -> None:
        self._memory, self.iommu, self._endpoint = memory, iommu, endpoint

    def places(self, address: int, length: int, *, write: bool) -> list[tuple[int, int]]:
        """The ranges of RAM, (GPA, length). Raises ViolationError unless all of it is RAM."""
        places = [(address, length)]
        if self.iommu is not None:
            places = self.iommu.translate(self._endpoint, address, length, write=write)
        for gpa, count in places:
            if not self._memory.is_ram(gpa, count):
                raise ViolationError(f"named {counted(length, 'byte')} at {address:#x}: not all RAM")
        return places

    def read(self, address: int, length: int) -> bytes:
        """Raises ViolationError."""
        places = self.places(address, length, write=False)
        if len(places) == 1:
            return self._memory.read(*places[0])
        return b"".join(self._memory.read(gpa, count) for gpa, count in places)

    def write(self, address: int, data: bytes) -> None:
        """Raises ViolationError."""
        at = 0
        for gpa, count in self.places(address, len(data), write=True):
            self._memory.write(gpa, data[at : at + count])
            at += count

    def read_u16(self, address: int) -> int:
        return int.from_bytes(self.read(address, 2), "little")

    def write_u16(self, address: int, value: int) -> None:
        self.write(address, value.to_bytes(2, "little"))
