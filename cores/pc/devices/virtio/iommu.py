"""virtio-iommu: says which of the guest's memory each other virtio device reaches (virtio 1.2, 5.13).

A device that is given to a guest stores where its driver says, and its driver is the guest. Without an
IOMMU that is any of the machine's memory: page tables bind the CPU, not the device. Here the driver
attaches a device (an endpoint, by the number of its slot) to a domain, and maps ranges of addresses in
the domain to ranges of RAM; what is not mapped, the device does not reach.

Until the driver sets ``bypass`` to 0, a device that is in no domain reaches everything, as firmware
needs it. The driver is told of refused accesses by the second queue.
"""

from __future__ import annotations

from bisect import bisect_right
from enum import IntEnum
from struct import Struct

from cores.pc.devices.base import Slot
from cores.pc.devices.virtio.device import VirtioDevice
from cores.pc.devices.virtio.dma import ViolationError
from cores.pc.devices.virtio.queue import Chain
from cores.plural import counted

INPUT_RANGE, DOMAIN_RANGE, MAP_UNMAP, BYPASS_CONFIG = 1 << 0, 1 << 1, 1 << 2, 1 << 6
REQUESTS, EVENTS = 0, 1
GRANULE = 4096
READ, WRITE = 1, 2
"""Flags of a mapping, and of a fault."""
FAULT_ADDRESS = 1 << 8
_NO_DOMAIN, _NO_MAPPING = 1, 2
"""Reasons of a fault."""
_BYPASS = 1
"""The flag of an attachment to a domain that translates nothing."""
_BYPASS_AT = 36
_LAST_ADDRESS, _LAST_DOMAIN = (1 << 64) - 1, (1 << 32) - 1
MOST_MAPPINGS = 4096
MOST_SHOWN = 16
"""Mappings that are shown to the user."""
_CONFIG = Struct("<QQQIIIB3x")
"""page sizes, first and last address, first and last domain, probe size, bypass."""
_ATTACH, _MAP, _UNMAP = Struct("<4xIII4x"), Struct("<4xIQQQI"), Struct("<4xIQQ4x")
_FAULT = Struct("<B3xII4xQ")
_TAIL = 4


class Request(IntEnum):
    ATTACH = 1
    DETACH = 2
    MAP = 3
    UNMAP = 4


class Status(IntEnum):
    OK = 0
    UNSUPPORTED = 2
    INVALID = 4
    RANGE = 5
    NO_ENTRY = 6
    NO_MEMORY = 8


_SIZES = {Request.ATTACH: 20, Request.DETACH: 20, Request.MAP: 36, Request.UNMAP: 28}
"""Bytes of each request before its status."""

Mapping = tuple[int, int, int, int, int]
"""Domain, first and last address, where it begins in RAM, flags."""


class VirtioIommu(VirtioDevice):
    """The IOMMU. endpoints: numbers of the devices behind it. attached: (endpoint, domain) of each that
    is in one. passing: domains that translate nothing. mappings: in order. bypass: see above. refused:
    accesses that it has refused."""

    name = "virtio-iommu"
    id = 23
    queue_names = ("requests", "events")
    wiring = VirtioDevice.wiring | {"endpoints"}
    wide = VirtioDevice.wide | {"refused"}

    attached: tuple[tuple[int, int], ...]
    passing: tuple[int, ...]
    mappings: tuple[Mapping, ...]

    def __init__(self, slot: Slot, slot_number: int) -> None:
        self.endpoints: frozenset[int] = frozenset()
        self.bypass = 1
        self.refused = 0
        super().__init__(slot, slot_number)

    def own_features(self) -> int:
        return INPUT_RANGE | DOMAIN_RANGE | MAP_UNMAP | BYPASS_CONFIG

    def config(self) -> bytes:
        sizes = -GRANULE & _LAST_ADDRESS
        return _CONFIG.pack(sizes, 0, _LAST_ADDRESS, 0, _LAST_DOMAIN, 0, self.bypass)

    def configure(self, offset: int, data: bytes) -> None:
        if offset == _BYPASS_AT and self.accepted & BYPASS_CONFIG and data[0] <= 1:
            self.bypass = data[0]

    def restarted(self) -> None:
        self.attached, self.passing, self.mappings = (), (), ()

    # For the devices behind it.

    def translate(
        self, endpoint: int, address: int, length: int, *, write: bool
    ) -> list[tuple[int, int]]:
        """See ``dma.Translation``."""
        domain = dict(self.attached).get(endpoint)
        if domain is None and self.bypass:
            return [(address, length)]
        if domain in self.passing:
            return [(address, length)]
        places: list[tuple[int, int]] = []
        needed, at, end = WRITE if write else READ, address, address + length
        while at < end:
            found = None if domain is None else self._mapping(domain, at)
            if found is None or not found[4] & needed:
                self._refuse(endpoint, at, needed, _NO_DOMAIN if domain is None else _NO_MAPPING)
                verb = "store to" if write else "load from"
                raise ViolationError(f"had it {verb} {at:#x}, which the IOMMU does not let it reach")
            _, first, last, gpa, _ = found
            count = min(end, last + 1) - at
            places.append((gpa + at - first, count))
            at += count
        return places or [(address, 0)]

    def _mapping(self, domain: int, address: int) -> Mapping | None:
        index = bisect_right(self.mappings, (domain, address, _LAST_ADDRESS + 1))
        found = self.mappings[index - 1] if index else None
        return found if found and found[0] == domain and address <= found[2] else None

    def _refuse(self, endpoint: int, address: int, access: int, reason: int) -> None:
        self.refused += 1
        if not self.works or not self._queues[EVENTS].ready:
            return

        def tell() -> None:
            queue = self._queues[EVENTS]
            chain = queue.pop()
            if chain is None:
                return
            fault = _FAULT.pack(reason, access | FAULT_ADDRESS, endpoint, address)
            queue.push(chain, chain.write(self.dma, fault))
            self.interrupt_for(queue)

        self.carefully(tell)

    # For its driver.

    def wants_kicks(self, number: int) -> bool:
        return not self.polls and number == REQUESTS

    def serve(self, number: int, now: int) -> None:
        if number == REQUESTS:
            self.drain(REQUESTS, self._request)

    def _request(self, chain: Chain) -> int:
        fields = chain.read(self.dma, max(_SIZES.values()))
        if not fields or chain.room < _TAIL:
            raise ViolationError("made an IOMMU request without room for the status")
        known = fields[0] in _SIZES and len(fields) >= _SIZES[Request(fields[0])]
        status = self._do(fields) if known else Status.UNSUPPORTED
        return chain.write(self.dma, bytes((status, 0, 0, 0)), at=chain.room - _TAIL)

    def _do(self, fields: bytes) -> Status:
        match fields[0]:
            case Request.ATTACH:
                return self._attach(*_ATTACH.unpack_from(fields))
            case Request.DETACH:
                domain, endpoint, _ = _ATTACH.unpack_from(fields)
                return self._detach(domain, endpoint)
            case Request.MAP:
                return self._map(*_MAP.unpack_from(fields))
            case _:
                return self._unmap(*_UNMAP.unpack_from(fields))

    def _exists(self, domain: int) -> bool:
        return any(one == domain for _, one in self.attached)

    def _attach(self, domain: int, endpoint: int, flags: int) -> Status:
        if flags & ~_BYPASS:
            return Status.INVALID
        if endpoint not in self.endpoints:
            return Status.NO_ENTRY
        if self._exists(domain) and bool(flags & _BYPASS) != (domain in self.passing):
            return Status.INVALID
        before = dict(self.attached).get(endpoint)
        if before is not None and before != domain:
            self._detach(before, endpoint)
        self.attached = tuple(sorted({*self.attached, (endpoint, domain)}))
        if flags & _BYPASS:
            self.passing = tuple(sorted({*self.passing, domain}))
        return Status.OK

    def _detach(self, domain: int, endpoint: int) -> Status:
        if endpoint not in self.endpoints:
            return Status.NO_ENTRY
        if (endpoint, domain) not in self.attached:
            return Status.INVALID
        self.attached = tuple(one for one in self.attached if one != (endpoint, domain))
        if not self._exists(domain):
            self.mappings = tuple(one for one in self.mappings if one[0] != domain)
            self.passing = tuple(one for one in self.passing if one != domain)
        return Status.OK

    def _map(self, domain: int, first: int, last: int, gpa: int, flags: int) -> Status:
        if flags & ~(READ | WRITE) or not flags or domain in self.passing:
            return Status.INVALID
        if not self._exists(domain):
            return Status.NO_ENTRY
        if (first | gpa | last + 1) % GRANULE or last < first or gpa + last - first > _LAST_ADDRESS:
            return Status.RANGE
        if any(one[0] == domain and one[1] <= last and first <= one[2] for one in self.mappings):
            return Status.INVALID
        if len(self.mappings) >= MOST_MAPPINGS:
            return Status.NO_MEMORY
        self.mappings = tuple(sorted((*self.mappings, (domain, first, last, gpa, flags))))
        return Status.OK

    def _unmap(self, domain: int, first: int, last: int) -> Status:
        if not self._exists(domain):
            return Status.NO_ENTRY
        met = [m for m in self.mappings if m[0] == domain and m[1] <= last and first <= m[2]]
        if any(one[1] < first or last < one[2] for one in met):
            return Status.RANGE  # a mapping is not cut
        self.mappings = tuple(one for one in self.mappings if one not in met)
        return Status.OK

    # For the user and for saved sessions.

    def facts(self, now: int) -> tuple[tuple[str, str], ...]:
        devices = ", ".join(
            f"{endpoint} in domain {domain}" + " (bypass)" * (domain in self.passing)
            for endpoint, domain in self.attached
        )
        without = "reach everything" if self.bypass else "reach nothing"
        more = len(self.mappings) - MOST_SHOWN
        return (
            *super().facts(now),
            ("devices", devices or "none attached"), ("others", without),
            ("refused", counted(self.refused, "access", "accesses")),
            *((f"domain {m[0]}", _words(m)) for m in self.mappings[:MOST_SHOWN]),
            *([("and", f"{counted(more, 'more mapping')}")] if more > 0 else []),
        )  # fmt: skip

    def is_lawful(self) -> bool:
        whole = all(
            0 <= one[1] <= one[2] <= _LAST_ADDRESS and 0 <= one[3] <= _LAST_ADDRESS
            for one in self.mappings
        )
        order = list(self.mappings) == sorted(self.mappings)
        return whole and order and self.bypass in (0, 1) and super().is_lawful()


def _words(mapping: Mapping) -> str:
    _, first, last, gpa, flags = mapping
    rights = "".join(letter for bit, letter in ((READ, "r"), (WRITE, "w")) if flags & bit)
    return f"{first:#x} to {last:#x} is {gpa:#x}, {rights}"
