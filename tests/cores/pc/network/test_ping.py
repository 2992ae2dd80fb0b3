"""The network that pings its guest counts right answers, and names what is wrong with others."""

from __future__ import annotations

import pytest

from cores.debugging.plain_values import plain, shaped
from cores.pc.network import packets
from cores.pc.network.packets import Arp, Icmp
from cores.pc.network.ping import HARDWARE, PingNetwork

MAC, GUEST = bytes.fromhex("525400123456"), bytes((10, 0, 0, 2))


def answered(network: PingNetwork, spoil: int | None = None) -> None:
    """A guest that announces itself and answers; ``spoil``: the byte of its answers that is wrong."""
    network.transmit(packets.arp_request(MAC, GUEST, GUEST), 0)
    while (at := network.next_arrival()) is not None:
        frame = packets.ethernet(network.receive(at) or b"")
        if frame.kind == packets.ARP:
            question = packets.arp(frame.payload)
            assert question == Arp(True, HARDWARE, bytes((10, 0, 0, 1)), GUEST)
            network.transmit(packets.arp_reply(question, MAC), at + 3)
            continue
        request = packets.ip(frame.payload)
        message = packets.icmp_bytes(Icmp(0, 0, packets.icmp(request).rest))
        packet = bytearray(packets.ip_bytes(GUEST, request.source, packets.ICMP, message))
        if spoil is not None:
            packet[spoil] ^= 1
        network.transmit(packets.framed(frame.source, MAC, packets.IP, bytes(packet)), at + 3)


def test_all_right() -> None:
    """Each request follows the answer to the last; the count is what was asked for."""
    network = PingNetwork(count=300)
    answered(network)
    assert (network.asked, network.right, network.wrong) == (300, 300, 0)
    assert network.notes() == ["Network: 300 of 300 pings answered rightly"]
    assert shaped(network.shape(), plain(network.save())) == network.save()
    assert network.is_lawful()


@pytest.mark.parametrize(("byte", "why"), [(70, "a wrong ICMP checksum"), (11, "a wrong IP checksum")])
def test_wrong_answers(byte: int, why: str) -> None:
    """A wrong byte counts as wrong, and the note says what."""
    network = PingNetwork(count=2)
    answered(network, byte)
    assert (network.right, network.wrong) == (0, 1)
    assert why in network.notes()[-1]
