"""Packets of the Internet protocols: read from bytes with every check, and built.

A guest may send anything. What is no packet raises ``BadPacket`` with the reason in words; nothing else
is raised. Sources: RFC 826 (ARP), 791 (IP), 792 (ICMP), 768 (UDP), 9293 (TCP), 1071 (checksum).
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from enum import IntFlag

import dpkt

IP, ARP = 0x0800, 0x0806
ICMP, TCP, UDP = 1, 6, 17
EVERYONE = b"\xff" * 6
ECHO_REPLY, UNREACHABLE, ECHO = 0, 3, 8
NET_UNREACHABLE, PROTOCOL_UNREACHABLE, PORT_UNREACHABLE = 0, 2, 3
_TTL = 64
_MORE, _OFFSET = 0x2000, 0x1FFF
_ARP_ETHERNET, _REQUEST, _REPLY = 1, 1, 2
_MSS_OPTION = 2


class BadPacket(Exception):
    """Bytes that are no packet of their kind; the text says why."""


class Flags(IntFlag):
    """TCP's control bits that count here."""

    FIN = 1
    SYN = 2
    RST = 4
    PSH = 8
    ACK = 16


@dataclass(frozen=True, slots=True)
class Ethernet:
    """target, source: hardware addresses. kind: the type of ``payload``."""

    target: bytes
    source: bytes
    kind: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Arp:
    """is_request: else a reply. hardware, address: of the sender. asked: the target's IP address."""

    is_request: bool
    hardware: bytes
    address: bytes
    asked: bytes


@dataclass(frozen=True, slots=True)
class Ip:
    """A whole IPv4 packet. head: its header and 8 bytes more, which ICMP's errors quote."""

    source: bytes
    target: bytes
    protocol: int
    payload: bytes
    head: bytes = b""


@dataclass(frozen=True, slots=True)
class Icmp:
    """rest: everything behind the checksum; of an echo identifier, sequence number and data."""

    kind: int
    code: int
    rest: bytes


@dataclass(frozen=True, slots=True)
class Datagram:
    """A UDP datagram."""

    source: int
    target: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Segment:
    """A TCP segment. mss: the option's value, 0 without one."""

    source: int
    target: int
    sequence: int
    acknowledged: int
    flags: Flags
    window: int
    data: bytes = b""
    mss: int = 0


def dotted(address: bytes) -> str:
    """An IP address as it is written."""
    return socket.inet_ntoa(address)


# Reading


def ethernet(frame: bytes) -> Ethernet:
    """A frame of at least 14 bytes."""
    if len(frame) < 14:
        raise BadPacket("a frame shorter than its header")
    return Ethernet(frame[:6], frame[6:12], int.from_bytes(frame[12:14], "big"), frame[14:])


def arp(data: bytes) -> Arp:
    try:
        packet = dpkt.arp.ARP(data)
    except dpkt.UnpackError:
        raise BadPacket("a truncated ARP packet") from None
    kinds = packet.hrd, packet.pro, packet.hln, packet.pln
    if kinds != (_ARP_ETHERNET, IP, 6, 4) or packet.op not in (_REQUEST, _REPLY):
        raise BadPacket("ARP for something else than IPv4 on Ethernet")
    return Arp(packet.op == _REQUEST, packet.sha, packet.spa, packet.tpa)


def ip(data: bytes) -> Ip:
    """An IPv4 packet; what follows it in the frame is padding."""
    if len(data) < 20:
        raise BadPacket("a truncated IP header")
    version, size = data[0] >> 4, 4 * (data[0] & 15)
    if version != 4:
        raise BadPacket(f"IP version {version}")
    if size < 20:
        raise BadPacket(f"an IP header of {size} bytes")
    header = dpkt.ip.IP(data[:20] + b"\0" * 40)  # the payload is read by us, with checks
    if not size <= header.len <= len(data):
        raise BadPacket(f"an IP length of {header.len} in {len(data)} bytes, the header {size}")
    if dpkt.dpkt.in_cksum(data[:size]):
        raise BadPacket(_wrong("IP", header.sum, data[:10] + b"\0\0" + data[12:size]))
    if header._flags_offset & (_MORE | _OFFSET):
        raise BadPacket("a fragment of an IP packet")
    return Ip(header.src, header.dst, header.p, data[size : header.len], data[: size + 8])


def icmp(packet: Ip) -> Icmp:
    data = packet.payload
    if len(data) < 8:
        raise BadPacket("a truncated ICMP message")
    if dpkt.dpkt.in_cksum(data):
        given = int.from_bytes(data[2:4], "big")
        raise BadPacket(_wrong("ICMP", given, data[:2] + b"\0\0" + data[4:]))
    message = dpkt.icmp.ICMP(data[:4])
    return Icmp(message.type, message.code, data[4:])


def datagram(packet: Ip) -> Datagram:
    data = packet.payload
    if len(data) < 8:
        raise BadPacket("a truncated UDP header")
    header = dpkt.udp.UDP(data[:8])
    if not 8 <= header.ulen <= len(data):
        raise BadPacket(f"a UDP length of {header.ulen} in {len(data)} bytes")
    data = data[: header.ulen]
    if header.sum and dpkt.dpkt.in_cksum(_pseudo(packet, len(data)) + data):
        raise BadPacket(
            _wrong("UDP", header.sum, _pseudo(packet, len(data)) + data[:6] + b"\0\0" + data[8:])
        )
    return Datagram(header.sport, header.dport, data[8:])


def segment(packet: Ip) -> Segment:
    data = packet.payload
    if len(data) < 20:
        raise BadPacket("a truncated TCP header")
    size = 4 * (data[12] >> 4)
    if not 20 <= size <= len(data):
        raise BadPacket(f"a TCP header of {size} bytes in {len(data)}")
    if dpkt.dpkt.in_cksum(_pseudo(packet, len(data)) + data):
        given = int.from_bytes(data[16:18], "big")
        raise BadPacket(
            _wrong("TCP", given, _pseudo(packet, len(data)) + data[:16] + b"\0\0" + data[18:])
        )
    header = dpkt.tcp.TCP(data[:size])
    return Segment(
        header.sport, header.dport, header.seq, header.ack, Flags(header.flags & 0x1F), header.win,
        data[size:], _mss(header.opts),
    )  # fmt: skip


def _mss(options: bytes) -> int:
    while options and options[0]:
        if options[0] == 1:
            options = options[1:]
            continue
        if len(options) < 2 or options[1] < 2:
            break
        if options[0] == _MSS_OPTION and len(options) >= 4:
            return int.from_bytes(options[2:4], "big")
        options = options[options[1] :]
    return 0


def _pseudo(packet: Ip, length: int) -> bytes:
    """The part of the IP header that UDP's and TCP's checksums cover."""
    return packet.source + packet.target + struct.pack("!HH", packet.protocol, length)


def _wrong(protocol: str, given: int, zeroed: bytes) -> str:
    right: int = dpkt.dpkt.in_cksum(zeroed)
    return f"a wrong {protocol} checksum: {given:#06x} in place of {right:#06x}"


# Building


def framed(target: bytes, source: bytes, kind: int, payload: bytes) -> bytes:
    return target + source + kind.to_bytes(2, "big") + payload


def arp_request(hardware: bytes, address: bytes, asked: bytes) -> bytes:
    """The frame that asks everyone who has the address ``asked``."""
    packet = dpkt.arp.ARP(op=_REQUEST, sha=hardware, spa=address, tha=b"\0" * 6, tpa=asked)
    return framed(EVERYONE, hardware, ARP, bytes(packet))


def arp_reply(request: Arp, hardware: bytes) -> bytes:
    """The frame that answers: ``hardware`` has the address."""
    packet = dpkt.arp.ARP(
        op=_REPLY, sha=hardware, spa=request.asked, tha=request.hardware, tpa=request.address
    )
    return framed(request.hardware, hardware, ARP, bytes(packet))


def ip_bytes(source: bytes, target: bytes, protocol: int, payload: bytes | dpkt.Packet) -> bytes:
    """The packet, with its checksums."""
    packet = dpkt.ip.IP(src=source, dst=target, p=protocol, ttl=_TTL, data=payload)
    return bytes(packet)


def icmp_bytes(message: Icmp) -> bytes:
    head = struct.pack("!BBH", message.kind, message.code, 0)
    total: int = dpkt.dpkt.in_cksum(head + message.rest)
    return head[:2] + total.to_bytes(2, "big") + message.rest


def datagram_bytes(source: bytes, target: bytes, datagram: Datagram) -> bytes:
    """An IP packet with the datagram."""
    body = dpkt.udp.UDP(
        sport=datagram.source, dport=datagram.target, ulen=8 + len(datagram.data), data=datagram.data
    )
    return ip_bytes(source, target, UDP, body)


def segment_bytes(source: bytes, target: bytes, segment: Segment) -> bytes:
    """An IP packet with the segment."""
    options = struct.pack("!BBH", _MSS_OPTION, 4, segment.mss) if segment.mss else b""
    body = dpkt.tcp.TCP(
        sport=segment.source, dport=segment.target, seq=segment.sequence, ack=segment.acknowledged,
        flags=int(segment.flags), win=segment.window, off=5 + len(options) // 4, opts=options,
        data=segment.data,
    )  # fmt: skip
    return ip_bytes(source, target, TCP, body)
