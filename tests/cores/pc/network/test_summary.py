"""A frame in words: what it is and what is wrong with it, for any bytes."""

from __future__ import annotations

import dpkt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cores.pc.network import packets
from cores.pc.network.packets import Datagram, Flags, Icmp, Segment
from cores.pc.network.summary import summary

MAC, A, B = bytes(5) + b"\2", bytes((10, 0, 2, 15)), bytes((10, 0, 2, 2))


def ip(packet: bytes) -> bytes:
    return packets.framed(MAC, MAC, packets.IP, packet)


def udp(source: int, target: int, data: bytes) -> bytes:
    return ip(packets.datagram_bytes(A, B, Datagram(source, target, data)))


DISCOVER = bytes(dpkt.dhcp.DHCP(opts=[(53, b"\1")]))
GET = Segment(9, 80, 1, 2, Flags.ACK | Flags.PSH, 9, b"GET / H\r\n\r\n")
QUESTION = bytes(dpkt.dns.DNS(qd=[dpkt.dns.DNS.Q(name="ringscope.test")]))


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (packets.arp_request(MAC, A, B), "ARP: who has 10.0.2.2? asks 10.0.2.15"),
        (packets.arp_request(MAC, A, A), "ARP: 10.0.2.15 announces itself"),
        (ip(packets.ip_bytes(A, B, 1, packets.icmp_bytes(Icmp(8, 0, b"\0\1\0\7" + bytes(9))))),
         "ICMP echo 7, 9 bytes, 10.0.2.15 to 10.0.2.2"),
        (ip(packets.ip_bytes(A, B, 1, packets.icmp_bytes(Icmp(3, 3, bytes(8))))),
         "ICMP port unreachable, 10.0.2.15 to 10.0.2.2"),
        (udp(9, 53, QUESTION), "DNS where is ringscope.test?, 10.0.2.15 to 10.0.2.2"),
        (udp(9, 7, b"hello"), "UDP port 9 to 7, 5 bytes: hello, 10.0.2.15 to 10.0.2.2"),
        (udp(68, 67, DISCOVER), "DHCP discover, 10.0.2.15 to 10.0.2.2"),
        (ip(packets.segment_bytes(A, B, GET)),
         "TCP port 9 to 80 PSH+ACK, 11 bytes: GET / H, 10.0.2.15 to 10.0.2.2"),
        (ip(packets.ip_bytes(A, B, 99, b"")), "IP protocol 99, 10.0.2.15 to 10.0.2.2"),
        (packets.framed(MAC, MAC, 0x88B5, b"ab\0\0"), "type 88b5 from 00:00:00:00:00:02: ab"),
        (ip(b"\x45" + bytes(30)), "damaged: an IP length of 0 in 31 bytes, the header 20"),
        (b"abc", "damaged: a frame shorter than its header"),
    ],
)  # fmt: skip
def test_words(frame: bytes, words: str) -> None:
    """Each protocol in its own words."""
    assert summary(frame) == words


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=80), st.sampled_from([b"\x08\0", b"\x08\x06"]), st.sampled_from([1, 6, 17, 53])
)
def test_any_bytes(data: bytes, kind: bytes, protocol: int) -> None:
    """No bytes raise."""
    summary(data)
    summary(bytes(12) + kind + data)
    summary(ip(packets.ip_bytes(A, B, protocol, data)))
    summary(udp(53, 53, data))
    summary(udp(67, 68, data))
