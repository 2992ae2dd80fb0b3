"""The place of the virtio devices: registers at 0xD0000000 + 0x200 n, all on IRQ 11, by level.

A slot without a device has the magic number and device ID 0, which drivers skip (virtio 1.2, 4.2.2).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from cores.pc.devices.base import IrqLine, MemoryDevice, Slot
from cores.pc.devices.virtio.block import VirtioBlock
from cores.pc.devices.virtio.console import VirtioConsole
from cores.pc.devices.virtio.device import (
    ACCESS_PLATFORM,
    CONFIG,
    IRQ,
    MAGIC,
    SPAN,
    VERSION,
    VirtioDevice,
)
from cores.pc.devices.virtio.iommu import VirtioIommu
from cores.pc.devices.virtio.net import VirtioNet

BASE = 0xD0000000
WINDOW = range(BASE, BASE + 0x1000)
SLOTS = len(WINDOW) // SPAN
_NOBODY = b"".join(word.to_bytes(4, "little") for word in (MAGIC, VERSION, 0)).ljust(SPAN, b"\0")
_TIMELY = (0x60, 0x70)


def devices_named(names: Sequence[str], slot: Slot) -> tuple[VirtioDevice, ...]:
    """The devices in the order of ``names``; of "net" one for each network. An IOMMU stands before all
    others, which demand that their drivers know (VIRTIO_F_ACCESS_PLATFORM)."""
    found: list[VirtioDevice] = []
    for name in names:
        match name:
            case "net":
                for link in slot.links or (None,):
                    found.append(VirtioNet(slot, len(found), link))
            case "block":
                found.append(VirtioBlock(slot, len(found)))
            case "console":
                found.append(VirtioConsole(slot, len(found)))
            case "iommu":
                found.append(VirtioIommu(slot, len(found)))
    iommu = next((one for one in found if isinstance(one, VirtioIommu)), None)
    if iommu is not None:
        behind = [one for one in found if one is not iommu]
        iommu.endpoints = frozenset(one.slot_number for one in behind)
        for one in behind:
            one.dma.iommu = iommu
            one.offered |= ACCESS_PLATFORM
    return tuple(found)


class VirtioBus(MemoryDevice):
    """The bus. stale: a thread that watches the queues has changed what the line should be.
    before_access: called before each access, for kicks that came before it by a doorbell. rises: called
    from that thread where the line should be high; whether the guest is told without its owner, by an
    irqfd (cores/vmm/irqfd.py)."""

    name = "virtio"
    window = WINDOW
    irq = IRQ
    wiring = frozenset({"parts", "before_access", "rises", "_line", "_owner"})

    parts: tuple[VirtioDevice, ...]

    def __init__(self, parts: tuple[VirtioDevice, ...], line: IrqLine) -> None:
        self.parts, self._line = parts, line
        self.stale = False
        self.before_access: Callable[[], None] = lambda: None
        self.rises: Callable[[], bool] = lambda: False
        self._owner = threading.get_ident()
        for part in parts:
            part.changed = self._changed

    @classmethod
    def plug_with(cls, names: Sequence[str], slot: Slot) -> VirtioBus:
        """The bus with the devices of these names."""
        return cls(devices_named(names, slot), slot.line(IRQ))

    def is_timely(self, offset: int) -> bool:
        return offset % SPAN in _TIMELY

    def mmio_read(self, offset: int, size: int) -> bytes:
        self.before_access()
        return self.mmio_peek(offset, size)

    def mmio_peek(self, offset: int, size: int) -> bytes:
        parts = []
        while size:
            number, at = divmod(offset, SPAN)
            border = CONFIG if at < CONFIG else SPAN
            here = min(size, border - at)
            known = number < len(self.parts)
            parts.append(self.parts[number].load(at, here) if known else _NOBODY[at : at + here])
            offset += here
            size -= here
        return b"".join(parts)

    def mmio_write(self, offset: int, data: bytes) -> None:
        self.before_access()
        number, at = divmod(offset, SPAN)
        if number >= len(self.parts):
            return
        if at < CONFIG and len(data) == 8:  # a 32-bit bus
            self.parts[number].store(at, data[:4])
            at, data = at + 4, data[4:]
        self.parts[number].store(at, data)

    def _changed(self) -> None:
        if threading.get_ident() == self._owner:
            self.settle()
        else:
            self.stale = self.stale or not self.wanted or not self.rises()

    @property
    def wanted(self) -> bool:
        """Should the line be high?"""
        return any(part.interrupts for part in self.parts)

    def settle(self) -> None:
        """From the owner: set the line."""
        self.stale = False
        self._line(self.wanted)

    def took(self) -> None:
        """The guest has taken the interrupt without an exit."""
        next(part for part in self.parts if part.interrupts).by_irqfd += 1

    def advance(self, now: int) -> None:
        if self.stale:
            self.settle()

    def next_event(self) -> int | None:
        return None

    def describe_access(self, offset: int) -> str:
        number, at = divmod(offset, SPAN)
        if number >= len(self.parts):
            return f"{self.name}: no device in slot {number}"
        return self.parts[number].describe_register(at)
