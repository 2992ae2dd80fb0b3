"""Makes the networks of one machine, and writes their captures."""

from __future__ import annotations

from collections.abc import Sequence

from cores.errors import InputError
from cores.pc.network import capture
from cores.pc.network.hub import SECOND_CARD, HubEnd
from cores.pc.network.network import Network
from cores.pc.network.replay import ReplayNetwork
from cores.pc.network.spec import NetSpec


def make_networks(specs: Sequence[NetSpec]) -> tuple[Network, ...]:
    """The networks of one machine, in the order of its cards. Raises InputError."""
    for spec in specs:
        if spec.pcap:
            capture.check(spec.pcap)
    return tuple(_make(spec, number) for number, spec in enumerate(specs))


def make_other_end(specs: Sequence[NetSpec]) -> tuple[Network, ...]:
    """The network of the other machine on a hub; its guest's device need not have the same name."""
    return tuple(
        HubEnd(number + SECOND_CARD) for number, spec in enumerate(specs) if spec.mode == "hub"
    )


def _make(spec: NetSpec, number: int) -> Network:
    match spec.mode:
        case "user":
            from cores.pc.network.user import UserNetwork  # loads dpkt

            return UserNetwork(number, spec.name)
        case "ping":
            from cores.pc.network.ping import PingNetwork

            return PingNetwork(number, spec.name, spec.count)
        case "hub":
            return HubEnd(number, spec.name)
        case "replay":
            return ReplayNetwork(capture.read(spec.replay), spec.replay, number, spec.name)
    raise InputError(f"there is no network {spec.mode!r}")


def write_captures(specs: Sequence[NetSpec], networks: Sequence[Network]) -> None:
    """Write what has passed one machine's networks to the files that were asked for. Raises
    InputError."""
    for spec, network in zip(specs, networks, strict=True):
        if spec.pcap:
            capture.write(spec.pcap, network.packets)
