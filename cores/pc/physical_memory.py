"""The guest's physical address space: RAM, the hole with the text screen, and devices above RAM."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Protocol

from cores.pc.ram import PAGE, Ram
from cores.plural import counted

HOLE = range(0xA0000, 0xC0000)
"""The range without RAM (contract.md): the VGA text screen at 0xB8000, else all ones."""

SCREEN = range(0xB8000, 0xB9000)
"""The page of the VGA text screen."""

MOST_NOTES = 16
"""Ranges without RAM and device that are noted."""


class MmioDevice(Protocol):
    """A device that answers physical addresses. offset: from the beginning of its window; an access
    stays inside the window."""

    def mmio_read(self, offset: int, size: int) -> bytes: ...

    def mmio_peek(self, offset: int, size: int) -> bytes:
        """The answer of ``mmio_read``, without any effect; of any size."""

    def mmio_write(self, offset: int, data: bytes) -> None: ...

    def describe_access(self, offset: int) -> str:
        """The register there, by name; "" where the address says enough."""


class PhysicalMemory:
    """Reads and writes guest physical addresses: RAM, a device, or neither.

    writes: when a list, every range of RAM that the *VMM* stores to is appended as (gpa, length);
        sessions compare these ranges between cores. None: not recorded.
    unseen: when a list, the same ranges for an engine that keeps translated code; it removes them when
        it has discarded its translations of them.
    on_access: called once for each device access, for ``device_accesses``. last_access: the last of
        them, as (GPA, bytes, whether it was a write).
    unbacked: the first few ranges of accessed pages that have neither RAM nor device, each as the
        lowest and the highest address accessed; one more than ``MOST_NOTES`` at most.
    """

    def __init__(self, ram: Ram) -> None:
        self.ram = ram
        self.view = ram.view
        self.words = ram.words
        self.size = ram.size
        self.writes: list[tuple[int, int]] | None = None
        self.unseen: list[tuple[int, int]] | None = None
        self.on_access: Callable[[], None] = lambda: None
        self.last_access = 0, 0, False
        self.unbacked: list[tuple[int, int]] = []
        self._devices: dict[int, tuple[int, MmioDevice]] = {}  # page number -> its window's start
        self._edges: tuple[int, ...] = (HOLE.start, HOLE.stop, ram.size)

    def attach(self, window: range, device: MmioDevice) -> None:
        """Let ``device`` answer the physical addresses in ``window``. Raises ValueError unless these
        are whole pages, outside RAM and without another window."""
        pages = range(window.start // PAGE, window.stop // PAGE)
        name = f"the window {window.start:#x} to {window.stop:#x}"
        if not pages or window.start % PAGE or window.stop % PAGE:
            raise ValueError(f"{name} does not consist of whole pages of {PAGE} bytes")
        if any(self.is_ram(page * PAGE) for page in pages):
            raise ValueError(f"{name} reaches into RAM")
        if any(self._devices.get(page, (window.start, device))[0] != window.start for page in pages):
            raise ValueError(f"{name} reaches into another window")
        self._devices |= dict.fromkeys(pages, (window.start, device))
        self._edges = tuple(sorted({*self._edges, window.start, window.stop}))

    def is_ram(self, gpa: int, length: int = 1) -> bool:
        """Whether all of these bytes are RAM."""
        end = gpa + length
        return end <= HOLE.start or (gpa >= HOLE.stop and end <= self.size)

    def read(self, gpa: int, length: int) -> bytes:
        if gpa + length <= HOLE.start or (gpa >= HOLE.stop and gpa + length <= self.size):
            return bytes(self.view[gpa : gpa + length])
        return b"".join(
            bytes(self.view[a : a + n]) if self.is_ram(a, n) else self.device_read(a, n)
            for a, n in self._pieces(gpa, length)
        )

    def write(self, gpa: int, data: bytes) -> None:
        length = len(data)
        if self.is_ram(gpa, length):
            self.view[gpa : gpa + length] = data
            if self.writes is not None:
                self.writes.append((gpa, length))
            if self.unseen is not None:
                self.unseen.append((gpa, length))
            return
        at = 0
        for a, n in self._pieces(gpa, length):
            piece = data[at : at + n]
            if self.is_ram(a, n):
                self.write(a, piece)
            else:
                self.device_write(a, piece)
            at += n

    def read_u64(self, gpa: int) -> int:
        return int.from_bytes(self.read(gpa, 8), "little")

    def write_u64(self, gpa: int, value: int) -> None:
        self.write(gpa, value.to_bytes(8, "little"))

    def device_read(self, gpa: int, length: int) -> bytes:
        """Read outside RAM: the device's answer, else all ones."""
        self.on_access()
        self.last_access = gpa, length, False
        found = self._devices.get(gpa // PAGE)
        if found is not None:
            return found[1].mmio_read(gpa - found[0], length)
        self._note(gpa)
        return b"\xff" * length

    def device_peek(self, gpa: int, length: int) -> bytes:
        """The answer of ``device_read``, without counting as an access by the guest."""
        found = self._devices.get(gpa // PAGE)
        return b"\xff" * length if found is None else found[1].mmio_peek(gpa - found[0], length)

    def device_write(self, gpa: int, data: bytes) -> None:
        """Write outside RAM: to the device, else ignored."""
        self.on_access()
        self.last_access = gpa, len(data), True
        found = self._devices.get(gpa // PAGE)
        if found is not None:
            found[1].mmio_write(gpa - found[0], data)
        else:
            self._note(gpa)

    def describe(self, gpa: int, length: int, *, is_write: bool) -> str:
        """Text of a device access, for the log of exits."""
        text = f"{'write' if is_write else 'read'} {gpa:#x}, {counted(length, 'byte')}"
        found = self._devices.get(gpa // PAGE)
        name = found[1].describe_access(gpa - found[0]) if found is not None else ""
        return f"{text}: {name}" if name else text

    def notes(self) -> list[str]:
        """A sentence for each range of accessed addresses without RAM and device, the first few."""
        ranges = [
            f"physical address {low:#x} has neither RAM nor device"
            if low == high
            else f"physical addresses {low:#x} to {high:#x} have neither RAM nor device"
            for low, high in sorted(self.unbacked[:MOST_NOTES])
        ]
        if len(self.unbacked) > MOST_NOTES:
            ranges.append("and more ranges of physical addresses without RAM and device")
        return ranges

    def _note(self, gpa: int) -> None:
        """Note an address, and join it with those in its page and in the pages next to it."""
        if gpa in HOLE:
            return
        page = gpa // PAGE
        near = [r for r in self.unbacked if r[0] // PAGE - 1 <= page <= r[1] // PAGE + 1]
        if near:
            first = self.unbacked.index(near[0])
            joined = min(gpa, *(low for low, _ in near)), max(gpa, *(high for _, high in near))
            self.unbacked = [r for r in self.unbacked if r not in near]
            self.unbacked.insert(first, joined)
        elif len(self.unbacked) <= MOST_NOTES:
            self.unbacked.append((gpa, gpa))

    def _pieces(self, gpa: int, length: int) -> list[tuple[int, int]]:
        """Split a range at the borders of RAM, hole and devices."""
        end = gpa + length
        cuts = [gpa, *(edge for edge in self._edges if gpa < edge < end), end]
        return [(a, b - a) for a, b in pairwise(cuts)]
