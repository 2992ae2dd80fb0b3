"""The view of a machine's networks: cards, packets in words, and what each cost.

A packet's cost is what the machine did since the packet before: its exits by reason, as far as the log
of exits goes back, and its accesses to devices.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

from cores.inspection.tables_devices import DeviceState
from cores.machine.machine import Machine
from cores.pc.devices.ne2000 import Ne2000
from cores.pc.devices.solo5_hypercalls import Hypercalls
from cores.pc.devices.virtio.device import VirtioDevice
from cores.pc.network.network import Network, Packet
from cores.vmm.trace import UNCOUNTED

MOST = 500
"""Packets that a view holds, the newest."""
_CARDS = (Ne2000, VirtioDevice, Hypercalls)


@dataclass(frozen=True, slots=True)
class PacketLine:
    """One packet. number: among its network's, from 1. network: its number. at: the tick. sent: by the
    guest. words: what it is. exits: by reason, since the packet before; None where they are not known.
    accesses: to devices, since the packet before."""

    number: int
    network: int
    at: int
    sent: bool
    size: int
    words: str
    exits: tuple[tuple[str, int], ...] | None
    accesses: int


@dataclass(frozen=True, slots=True)
class NetworkView:
    """networks, cards: their state in words. packets: the newest of the log, oldest first. earlier,
    later: how many came before and after these. other: the console of the other machine on a hub, None
    without one."""

    networks: tuple[DeviceState, ...]
    cards: tuple[DeviceState, ...]
    packets: tuple[PacketLine, ...]
    earlier: int
    later: int
    other: str | None


def network_view(machine: Machine) -> NetworkView:
    """The networks of a machine; without one, a view without any."""
    from cores.pc.network.summary import summary  # loads dpkt, which most sessions do not need

    board, now = machine.board, machine.vmm.ticks
    passed = sorted(
        ((packet.event, packet.at, network.number, i, packet)
         for network in board.networks
         for i, packet in _newest(network)),
        key=lambda one: one[:4],
    )  # fmt: skip
    costs = _costs(machine, [packet for *_, packet in passed])
    lines = tuple(
        PacketLine(
            i + 1, number, packet.at, packet.sent, len(packet.frame), summary(packet.frame), *cost,
        )
        for (_, _, number, i, packet), cost in zip(passed, costs, strict=True)
    )[1 if len(passed) > MOST else 0 :]  # fmt: skip
    later = sum(network.unkept for network in board.networks)
    earlier = sum(network.passed for network in board.networks) - later - len(lines)
    cards = (device for device in board.devices if isinstance(device, _CARDS))
    other = None if machine.pair is None else machine.pair.second.console()
    return NetworkView(
        tuple(DeviceState(one.title, one.facts(now)) for one in board.networks),
        tuple(DeviceState(card.title, card.facts(now)) for card in cards if card.facts(now)),
        lines, earlier, later, other,
    )  # fmt: skip


def _newest(network: Network) -> list[tuple[int, Packet]]:
    """The newest packets of the log, and one more before them, by their index."""
    packets = network.packets[-MOST - 1 :]
    return list(enumerate(packets, network.passed - network.unkept - len(packets)))


def _costs(
    machine: Machine, packets: list[Packet]
) -> list[tuple[tuple[tuple[str, int], ...] | None, int]]:
    """Exits by reason and device accesses between each packet and the one before."""
    trace = machine.vmm.trace
    events, dropped = trace.events, trace.dropped
    found: list[tuple[tuple[tuple[str, int], ...] | None, int]] = []
    start = Packet(0, True, b"")
    for before, packet in pairwise([start, *packets]):
        first, end = before.event - dropped, packet.event - dropped
        exits = None
        if 0 <= first <= end <= len(events) + 1:
            reasons = Counter(e.reason.value for e in events[first:end] if e.reason not in UNCOUNTED)
            exits = tuple(sorted(reasons.items()))
        found.append((exits, packet.accesses - before.accesses))
    return found
