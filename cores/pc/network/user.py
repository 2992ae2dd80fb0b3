"""``--net user``: a small network of its own. It needs no privileges, and nothing leaves this computer.

    10.0.2.2   the router: ARP, ICMP echo, DHCP, UDP and TCP echo (port 7), a page by HTTP (port 80)
    10.0.2.3   the name server: ARP, ICMP echo, DNS (port 53) for names in ringscope.test
    10.0.2.15  the guest, if it asks by DHCP

Any other address is unreachable. An answer arrives ``LATENCY`` after its question, in virtual time, so
that packets come at the same instruction on every core. The addresses are those of QEMU's network of
the same name.
"""

from __future__ import annotations

from cores.pc.network import packets, services, tcp
from cores.pc.network.network import Network
from cores.pc.network.packets import BadPacket, Datagram, Flags, Icmp, Ip
from cores.pc.network.services import EVERYONE, NAMES, NETWORK, ROUTER
from cores.pc.network.tcp import MOST_CONNECTIONS, Connection

LATENCY = 100
"""Ticks from a frame to its answer: 100 microseconds of virtual time, a local network's."""
HARDWARE = {ROUTER: bytes.fromhex("52550a000202"), NAMES: bytes.fromhex("52550a000203")}
_ECHO, _DNS, _DHCP, _DHCP_CLIENT, _HTTP = 7, 53, 67, 68, 80
_SERVICES: dict[int, tcp.Service] = {_ECHO: services.echo, _HTTP: services.http}
_NOWHERE = b"\0" * 4


class UserNetwork(Network):
    """connections: TCP's, the one with the newest segment last. made: their number so far. bad: packets
    that were dropped because they are damaged. last_bad: what was wrong with the last of them."""

    mode = "user: router 10.0.2.2, names 10.0.2.3"
    wide = Network.wide | {"made", "bad"}

    connections: tuple[Connection, ...]
    last_bad: str

    def __init__(self, number: int = 0, called: str = "") -> None:
        super().__init__(number, called)
        self.connections = ()
        self.made = self.bad = 0
        self.last_bad = ""

    def carry(self, frame: bytes, now: int) -> None:
        try:
            self._take(packets.ethernet(frame), now + LATENCY)
        except BadPacket as reason:
            self.bad += 1
            self.last_bad = str(reason)

    def _take(self, frame: packets.Ethernet, due: int) -> None:
        if frame.target != packets.EVERYONE and frame.target not in HARDWARE.values():
            return  # for someone else, who is not there
        if frame.kind == packets.ARP:
            question = packets.arp(frame.payload)
            if question.is_request and question.asked in HARDWARE:
                self.enqueue(packets.arp_reply(question, HARDWARE[question.asked]), due)
        elif frame.kind == packets.IP:
            packet = packets.ip(frame.payload)
            for answer, source in self._answers(packet):
                self.enqueue(packets.framed(frame.source, HARDWARE[source], packets.IP, answer), due)

    def _answers(self, packet: Ip) -> list[tuple[bytes, bytes]]:
        """IP packets that answer, each with the address of the one who sends it."""
        broadcast = packet.target in (EVERYONE, NETWORK)
        if packet.protocol == packets.UDP:
            return self._datagram(packet, broadcast=broadcast)
        if broadcast or packet.source == _NOWHERE:
            return []
        if packet.target not in HARDWARE:
            return _unreachable(packet, packets.NET_UNREACHABLE)
        if packet.protocol == packets.ICMP:
            message = packets.icmp(packet)
            if (message.kind, message.code) != (packets.ECHO, 0):
                return []
            return _message(packet, Icmp(packets.ECHO_REPLY, 0, message.rest))
        if packet.protocol == packets.TCP:
            return self._segment(packet)
        return _unreachable(packet, packets.PROTOCOL_UNREACHABLE)

    def _datagram(self, packet: Ip, *, broadcast: bool) -> list[tuple[bytes, bytes]]:
        asked = packets.datagram(packet)
        if asked.target == _DHCP and (broadcast or packet.target == ROUTER):
            reply = services.lease(asked.data)
            if reply is None:
                return []
            to = EVERYONE if packet.source == _NOWHERE else packet.source
            answer = Datagram(_DHCP, _DHCP_CLIENT, reply)
            return [(packets.datagram_bytes(ROUTER, to, answer), ROUTER)]
        if broadcast or packet.source == _NOWHERE:
            return []
        if packet.target not in HARDWARE:
            return _unreachable(packet, packets.NET_UNREACHABLE)
        if asked.target == _DNS and packet.target == NAMES:
            data = services.names(asked.data)
        elif asked.target == _ECHO and packet.target == ROUTER:
            data = asked.data
        else:
            return _unreachable(packet, packets.PORT_UNREACHABLE)
        answer = Datagram(asked.target, asked.source, data)
        return [(packets.datagram_bytes(packet.target, packet.source, answer), packet.target)]

    def _segment(self, packet: Ip) -> list[tuple[bytes, bytes]]:
        segment = packets.segment(packet)
        peer, ours = packet.source, packet.target
        known = next((c for c in self.connections if tcp.same(c, peer, ours, segment)), None)
        service = _SERVICES.get(segment.target) if ours == ROUTER else None
        others = tuple(one for one in self.connections if one is not known)
        if known is not None and service is not None:
            now, answers = tcp.take(known, segment, service)
            self.connections = others if now is None else (*others, now)
        elif segment.flags & Flags.RST:
            answers = []
        elif service is None or segment.flags & ~Flags.PSH != Flags.SYN:
            answers = [tcp.refusal(segment)]
        else:
            made, answer = tcp.accept(peer, ours, segment, self.made)
            self.made += 1
            room = others[1 - MOST_CONNECTIONS :]
            given_up = others[: len(others) - len(room)]
            self.connections = (*room, made)
            return [
                *((_ip(one.ours, one.peer, tcp.reset(one)), one.ours) for one in given_up),
                (_ip(ours, peer, answer), ours),
            ]
        return [(_ip(ours, peer, answer), ours) for answer in answers]

    def facts(self, now: int) -> tuple[tuple[str, str], ...]:
        shown = []
        if self.connections:
            shown.append(("TCP connections", str(len(self.connections))))
        if self.bad:
            shown.append(("damaged packets", f"{self.bad:,}, the last: {self.last_bad}"))
        return (*super().facts(now), *shown)

    def notes(self) -> list[str]:
        notes = super().notes()
        if self.bad:
            notes.append(
                f"{self.title}: damaged packets dropped: {self.bad:,}, the last: {self.last_bad}"
            )
        return notes

    def is_lawful(self) -> bool:
        few = len(self.connections) <= MOST_CONNECTIONS
        return few and all(tcp.is_lawful(one) for one in self.connections) and super().is_lawful()


def _ip(source: bytes, target: bytes, segment: packets.Segment) -> bytes:
    return packets.segment_bytes(source, target, segment)


def _message(packet: Ip, message: Icmp, source: bytes | None = None) -> list[tuple[bytes, bytes]]:
    sender = packet.target if source is None else source
    body = packets.icmp_bytes(message)
    return [(packets.ip_bytes(sender, packet.source, packets.ICMP, body), sender)]


def _unreachable(packet: Ip, code: int) -> list[tuple[bytes, bytes]]:
    """The router's answer to what leads nowhere; to an error there is none (RFC 1122, 3.2.2)."""
    if packet.protocol == packets.ICMP and packet.payload[:1] not in (b"\x08", b"\0"):
        return []
    source = packet.target if packet.target in HARDWARE else ROUTER
    return _message(packet, Icmp(packets.UNREACHABLE, code, bytes(4) + packet.head), source)
