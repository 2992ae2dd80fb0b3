"""The virtio-iommu: domains, mappings, and what a device behind it does not reach."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from struct import pack, unpack

import pytest

from cores.pc.devices.storage.disk import Disk
from cores.pc.physical_memory import PhysicalMemory
from tests.cores.pc.devices.virtio.driver import WRITE, Driver, make_board

OK, UNSUPPORTED, INVALID, RANGE, NO_ENTRY = 0, 2, 4, 5, 6
ATTACH, DETACH, MAP, UNMAP = 1, 2, 3, 4
BYPASS_CONFIG, ACCESS_PLATFORM = 1 << 6, 1 << 33
AT, SECTOR, EVENT = 0x60000, 0x70000, 0x61000


class Rig:
    """A disk in slot 0, behind an IOMMU in slot 1."""

    def __init__(self, memory: PhysicalMemory, disk: Disk) -> None:
        self.memory = memory
        self.board = make_board(memory, ("block", "iommu"), disks=(disk,))
        self.iommu = Driver(self.board, memory, slot=1, features=BYPASS_CONFIG)
        self.iommu.rings[1].add((EVENT, 24, WRITE))
        places = (0x80000, 0x86000)
        self.disk = Driver(self.board, memory, features=ACCESS_PLATFORM, queues=places)

    def ask(self, kind: int, *fields: int) -> int:
        """A request; gives its status."""
        layout = {ATTACH: "<4xIII4x", DETACH: "<4xII8x", MAP: "<4xIQQQI", UNMAP: "<4xIQQ4x"}
        request = bytearray(pack(layout.get(kind, "<4x"), *fields))
        request[0] = kind
        self.memory.write(AT, bytes(request))
        self.memory.write(AT + 0x100, b"\xee" * 4)
        ring = self.iommu.rings[0]
        ring.add((AT, len(request), 0), (AT + 0x100, 4, WRITE))
        ring.kick()
        assert [written for _, written in ring.done()] == [4]
        return self.memory.read(AT + 0x100, 4)[0]

    def read_sector(self, address: int) -> int | None:
        """The status of a read of sector 5 to ``address``; None: the device did not answer."""
        self.memory.write(AT + 0x200, pack("<IIQ", 0, 0, 5))
        self.memory.write(AT + 0x300, b"\xee")
        ring = self.disk.rings[0]
        ring.add((AT + 0x200, 16, 0), (address, 512, WRITE), (AT + 0x300, 1, WRITE))
        ring.kick()
        return self.memory.read(AT + 0x300, 1)[0] if ring.done() else None

    def bypass(self, value: int) -> None:
        self.memory.device_write(self.iommu.base + 0x100 + 36, bytes((value,)))

    def confine(self) -> None:
        """The disk reaches its queue, the requests, and 0x70000 by the address 0x1000000."""
        assert self.ask(ATTACH, 1, 0, 0) == OK
        assert self.ask(MAP, 1, 0x80000, 0x8BFFF, 0x80000, 3) == OK
        assert self.ask(MAP, 1, AT, AT + 0xFFF, AT, 3) == OK
        assert self.ask(MAP, 1, 0x1000000, 0x1000FFF, SECTOR, 2) == OK


@pytest.fixture
def rig(memory: PhysicalMemory, image: Path) -> Iterator[Rig]:
    disk = Disk(str(image))
    yield Rig(memory, disk)
    disk.close()


def test_translates(rig: Rig) -> None:
    """The device's addresses are the domain's: a sector arrives where the mapping leads."""
    assert rig.read_sector(SECTOR) == 0
    rig.memory.write(SECTOR, bytes(512))
    rig.confine()
    assert rig.read_sector(0x1000000) == 0
    assert rig.memory.read(SECTOR, 512) == b"\x05" * 512


@pytest.mark.parametrize("address", [SECTOR, 0x1000E01, 0x11000, AT + 0x1000, 1 << 40])
def test_refuses(rig: Rig, address: int) -> None:
    """What is not mapped, or not all of it, stays as it was: the device needs a reset, a note says why,
    and the driver of the IOMMU is told the address."""
    rig.confine()
    before = bytes(rig.memory.view[0x10000:0x14000]) + rig.memory.read(SECTOR, 0x2000)
    assert rig.read_sector(address) is None
    after = bytes(rig.memory.view[0x10000:0x14000]) + rig.memory.read(SECTOR, 0x2000)
    assert before == after
    assert rig.disk.broken
    assert not rig.iommu.broken
    (told,) = rig.iommu.rings[1].done()
    assert told[1] == 24
    reason, flags, endpoint, where = unpack("<B3xII4xQ", rig.memory.read(EVENT, 24))
    border = 0x1001000 if address == 0x1000E01 else address
    assert (reason, flags, endpoint, where) == (2, 0x102, 0, border)
    assert "which the IOMMU does not let it reach" in " ".join(rig.board.notes())
    assert ("refused", "1 access") in rig.iommu.device.facts(0)


def test_a_load_needs_its_right(rig: Rig) -> None:
    """A page mapped for stores alone is not read."""
    rig.confine()
    ring = rig.disk.rings[0]
    ring.add((0x1000000, 16, 0), (AT + 0x300, 1, WRITE))
    ring.kick()
    assert rig.disk.broken


def test_no_domain(rig: Rig) -> None:
    """Without bypass a device in no domain reaches nothing, not even its queue."""
    rig.bypass(0)
    assert rig.read_sector(SECTOR) is None
    assert rig.disk.broken
    reason, _, _, _ = unpack("<B3xII4xQ", rig.memory.read(EVENT, 24))
    assert reason == 1


def test_a_driver_must_know(rig: Rig) -> None:
    """Behind the IOMMU a driver that does not accept VIRTIO_F_ACCESS_PLATFORM gets no FEATURES_OK."""
    with pytest.raises(AssertionError):
        Driver(rig.board, rig.memory)


def test_requests(rig: Rig) -> None:
    """The answers that the specification names to each request that cannot be."""
    ask = rig.ask
    assert ask(9) == UNSUPPORTED
    assert ask(ATTACH, 1, 7, 0) == NO_ENTRY
    assert ask(ATTACH, 1, 1, 0) == NO_ENTRY  # the IOMMU itself
    assert ask(ATTACH, 1, 0, 4) == INVALID
    assert ask(MAP, 1, 0, 0xFFF, 0, 3) == NO_ENTRY
    assert ask(ATTACH, 1, 0, 0) == OK
    assert ask(ATTACH, 1, 0, 1) == INVALID
    for first, last, gpa in ((1, 0xFFF, 0), (0, 0xFFE, 0), (0, 0xFFF, 8), (0x2000, 0xFFF, 0)):
        assert ask(MAP, 1, first, last, gpa, 3) == RANGE
    assert ask(MAP, 1, 0x3000, 0x5FFF, 0x3000, 8) == INVALID
    assert ask(MAP, 1, 0x3000, 0x5FFF, 0x3000, 3) == OK
    assert ask(MAP, 1, 0x5000, 0x5FFF, 0x9000, 3) == INVALID
    assert ask(UNMAP, 1, 0x3000, 0x3FFF) == RANGE
    assert ask(UNMAP, 2, 0x3000, 0x3FFF) == NO_ENTRY
    assert ask(UNMAP, 1, 0, 0xFFFF) == OK
    assert ask(MAP, 1, 0x5000, 0x5FFF, 0x9000, 3) == OK
    assert ask(DETACH, 2, 0) == INVALID
    assert ask(DETACH, 1, 0) == OK
    assert ask(UNMAP, 1, 0x5000, 0x5FFF) == NO_ENTRY
    assert ask(ATTACH, 2, 0, 1) == OK
    assert ask(MAP, 2, 0x5000, 0x5FFF, 0x9000, 3) == INVALID
    assert rig.read_sector(SECTOR) == 0
    assert ("devices", "0 in domain 2 (bypass)") in rig.iommu.device.facts(0)


def test_the_table_says_how_much_it_leaves_out(rig: Rig) -> None:
    """Sixteen mappings are shown, and how many more there are."""
    assert rig.ask(ATTACH, 1, 0, 0) == OK
    for page in range(18):
        assert rig.ask(MAP, 1, page << 12, (page << 12) + 0xFFF, 0x70000, 1) == OK
    facts = rig.iommu.device.facts(0)
    shown = [value for name, value in facts if name == "domain 1"]
    assert (len(shown), shown[15]) == (16, "0xf000 to 0xffff is 0x70000, r")
    assert facts[-1] == ("and", "2 more mappings")


def test_goes_back(rig: Rig) -> None:
    """Domains and mappings are part of the saved state."""
    rig.confine()
    state = rig.board.save()
    assert rig.ask(DETACH, 1, 0) == OK
    rig.board.restore(state)
    assert rig.board.is_lawful()
    rig.iommu.rings[0].next = rig.iommu.rings[0].taken = 4
    assert rig.ask(UNMAP, 1, 0x1000000, 0x1000FFF) == OK


def test_random_mappings(rig: Rig) -> None:
    """Random maps and unmaps, against a dictionary of pages."""
    random, pages = Random(5), dict[int, int]()
    assert rig.ask(ATTACH, 1, 0, 0) == OK
    iommu = rig.iommu.device
    for _ in range(150):
        first = random.randrange(40)
        last = min(first + random.randrange(6), 63)
        if random.random() < 0.6:
            gpa = random.randrange(64)
            free = not any(page in pages for page in range(first, last + 1))
            status = rig.ask(MAP, 1, first << 12, (last << 12) + 0xFFF, gpa << 12, 3)
            assert status == (OK if free else INVALID)
            pages |= {page: gpa + page - first for page in range(first, last + 1)} if free else {}
        elif rig.ask(UNMAP, 1, first << 12, (last << 12) + 0xFFF) == OK:
            for page in range(first, last + 1):
                pages.pop(page, None)
        page = random.randrange(64)
        found = iommu._mapping(1, page << 12)  # type: ignore[attr-defined]
        where = None if found is None else (found[3] >> 12) + page - (found[1] >> 12)
        assert where == pages.get(page)
