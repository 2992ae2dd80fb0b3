"""Views of the inside of the fake session's machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cores.inspection.network import NetworkView, PacketLine
from cores.inspection.page_tables import Entry, PagingView, Range
from cores.inspection.tables_devices import DeviceState, DevicesView, Gate, SegmentEntry, TablesView
from cores.inspection.views import (
    CodeQuery,
    CodeView,
    DevicesQuery,
    EventsQuery,
    EventsView,
    MemoryQuery,
    MemoryView,
    NetworkQuery,
    PagingQuery,
    Query,
    TablesQuery,
    View,
)

if TYPE_CHECKING:
    from fake_session import FakeSession

TEXT = b"Hello, ring 0!\n\0"
TEXT_AT = 0x100100


def answer(session: FakeSession, what: Query) -> View | None:
    match what:
        case MemoryQuery(where=where, length=length, offset=offset):
            registers = session.moments[session.n].registers
            target = where if isinstance(where, int) else registers[where]
            start = (target & -16) + offset
            data = [
                TEXT[a - TEXT_AT] if 0 <= a - TEXT_AT < len(TEXT) else 0
                for a in range(start, start + length)
            ]
            return MemoryView(start, target, tuple(data), frozenset({TEXT_AT + 1}))
        case PagingQuery():
            return PAGING
        case TablesQuery():
            return TABLES
        case DevicesQuery():
            return DEVICES
        case NetworkQuery():
            return NETWORK
        case CodeQuery():
            return CodeView(())  # all of its program is in the snapshot
        case EventsQuery(core=core, first=first, count=count):
            events = session.events(core)
            return EventsView(first, len(events), tuple(events[first : first + count]))


PAGING = PagingView(
    0x12000, 0x100000,
    (
        Entry("PML4", 0, 0x12000, 0x13023, ""), Entry("PDPT", 0, 0x13000, 0x14023, ""),
        Entry("page directory", 0, 0x14000, 0x15023, ""),
        Entry("page table", 256, 0x15800, 0x100063, "a page of 4 KiB"),
    ),
    0x100000,
    (
        Range(0x10000, 0x1F0000, 0x10000, 0x1000, True, False, True, (0x1000, 0)),
        Range(0x200000, 0xE00000, 0x200000, 0x200000, True, False, True, (0, 0)),
    ),
    True, ((False, 0x100000, 0x100000, 0x1000), (True, 0x400000, 0x7000, 0x1000)),
    ((True, 0x400000, 0x7000, 0x1000),), 3,
)  # fmt: skip

TABLES = TablesView(
    (0x11000, 0x4F), (0x16000, 0xFFF),
    (
        SegmentEntry(0x10, "64-bit code", 0, 0xFFFFFFFF, 0, True, ("cs",)),
        SegmentEntry(0x40, "TSS, busy", 0x11080, 0x67, 0, True, ("tr",)),
    ),
    (
        Gate(13, "#GP", "interrupt gate", 0x10, 0x100016, 0, 0, True),
        Gate(32, "", "interrupt gate", 0x10, 0x100009, 0, 1, True),
    ),
    (("rsp0", 0x9000), ("ist1", 0)), {0x100016: "done"},
)  # fmt: skip

NETWORK = NetworkView(
    (DeviceState("Network", (("leads to", "user: router 10.0.2.2"), ("packets", "2 sent"))),),
    (DeviceState("NE2000", (("state", "started"),)),),
    (
        PacketLine(1, 0, 325, True, 60, "ARP: who has 10.0.2.2? asks 10.0.2.15", (("io", 54),), 90),
        PacketLine(2, 0, 1_425, False, 60, "ARP: 10.0.2.2 is at 52:55:0a:00:02:02",
            (("hlt", 1), ("io", 4)), 12),
        PacketLine(3, 0, 1_525, True, 98, "damaged: a fragment of an IP packet", None, 30),
    ),
    7, 3, "one\ntwo\n",
)  # fmt: skip
DEVICES = DevicesView((
    DeviceState("PIC, master", (("lets through", "IRQ 0"), ("in service", "none"))),
    DeviceState("UART", (("speed", "9,600 baud"),)),
))  # fmt: skip
