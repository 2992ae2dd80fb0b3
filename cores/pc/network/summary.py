"""A frame in a line of words, for people: what it is, from whom, to whom, and what is wrong with it."""

from __future__ import annotations

import dpkt

from cores.pc.network import packets
from cores.pc.network.packets import BadPacket, Datagram, Flags, Ip
from cores.plural import counted

_UNREACHABLE = {0: "network", 1: "host", 2: "protocol", 3: "port"}
_DHCP = {
    1: "discover",
    2: "offer",
    3: "request",
    4: "decline",
    5: "ack",
    6: "nak",
    7: "release",
    8: "inform",
}
_LONGEST_TEXT = 40


def summary(frame: bytes) -> str:
    """The frame in words. Never raises: any bytes are described as far as they go."""
    try:
        return _ethernet(packets.ethernet(frame))
    except BadPacket as reason:
        return f"damaged: {reason}"


def _ethernet(frame: packets.Ethernet) -> str:
    if frame.kind == packets.ARP:
        told = packets.arp(frame.payload)
        who, asked = packets.dotted(told.address), packets.dotted(told.asked)
        if not told.is_request:
            return f"ARP: {who} is at {told.hardware.hex(':')}"
        return f"ARP: {who} announces itself" if who == asked else f"ARP: who has {asked}? asks {who}"
    if frame.kind == packets.IP:
        packet = packets.ip(frame.payload)
        return (
            f"{_transport(packet)}, {packets.dotted(packet.source)} to {packets.dotted(packet.target)}"
        )
    text = frame.payload.rstrip(b"\0")
    shown = f": {_text(text)}" if text else ""
    return f"type {frame.kind:04x} from {frame.source.hex(':')}{shown}"


def _transport(packet: Ip) -> str:
    match packet.protocol:
        case packets.ICMP:
            return _icmp(packets.icmp(packet))
        case packets.UDP:
            return _datagram(packets.datagram(packet))
        case packets.TCP:
            return _segment(packets.segment(packet))
    return f"IP protocol {packet.protocol}"


def _icmp(message: packets.Icmp) -> str:
    if message.kind in (packets.ECHO, packets.ECHO_REPLY):
        what = "echo" if message.kind == packets.ECHO else "echo reply"
        number = int.from_bytes(message.rest[2:4], "big")
        return f"ICMP {what} {number}, {counted(len(message.rest) - 4, 'byte')}"
    if message.kind == packets.UNREACHABLE:
        return f"ICMP {_UNREACHABLE.get(message.code, 'destination')} unreachable"
    return f"ICMP type {message.kind}"


def _datagram(datagram: Datagram) -> str:
    ports = datagram.source, datagram.target
    if 53 in ports:
        return f"DNS {_dns(datagram.data)}"
    if ports in ((68, 67), (67, 68)):
        return f"DHCP {_dhcp(datagram.data)}"
    return f"UDP port {ports[0]} to {ports[1]}, {_payload(datagram.data)}"


def _dns(data: bytes) -> str:
    try:
        name, _ = dpkt.dns.unpack_name(data, 12)
    except (dpkt.UnpackError, ValueError, IndexError, RecursionError, dpkt.dpkt.struct.error):
        return "message that cannot be read"
    flags, count = int.from_bytes(data[2:4], "big"), int.from_bytes(data[6:8], "big")
    shown = _text(name.encode())
    if not flags & 0x8000:
        return f"where is {shown}?"
    found = packets.dotted(data[-4:]) if count else "no address"
    return f"{shown}: {found}" if not flags & 15 else f"{shown}: no such name"


def _dhcp(data: bytes) -> str:
    try:
        options = dict(dpkt.dhcp.DHCP(data).opts)
    except (dpkt.UnpackError, IndexError):
        return "message that cannot be read"
    kind = bytes(options.get(53) or b"\0")[0]
    return _DHCP.get(kind, f"message {kind}")


def _segment(segment: packets.Segment) -> str:
    names = "+".join(flag.name or "" for flag in Flags if segment.flags & flag)
    data = f", {_payload(segment.data)}" if segment.data else ""
    return f"TCP port {segment.source} to {segment.target} {names}{data}"


def _payload(data: bytes) -> str:
    count = counted(len(data), "byte")
    line = data.split(b"\r\n", 1)[0].split(b"\n", 1)[0]
    readable = len(line) > 3 and all(0x20 <= byte < 0x7F for byte in line)
    return f"{count}: {_text(line)}" if readable else count


def _text(data: bytes) -> str:
    shown = "".join(chr(b) if 0x20 <= b < 0x7F else "." for b in data[: _LONGEST_TEXT + 1])
    return shown if len(shown) <= _LONGEST_TEXT else f"{shown[:_LONGEST_TEXT]}..."
