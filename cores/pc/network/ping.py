"""``--net ping[:COUNT]``: a network that pings the guest, each request as soon as the last is answered.

It waits until the guest has told its address, by ARP or as the sender of a packet, and asks in ARP for
the hardware address, as every host does. An answer counts if all of it is right: addresses, number,
data and checksums. That is how Solo5 tests its networks (`ping -f`), here in virtual time.
"""

from __future__ import annotations

import struct

from cores.pc.network import packets
from cores.pc.network.network import Network
from cores.pc.network.packets import BadPacket, Icmp, Ip
from cores.pc.network.spec import PINGS
from cores.plural import counted

LATENCY = 100
HARDWARE = bytes.fromhex("52550a000001")
_IDENTIFIER = 0x5249
_DATA = bytes(16) + b"\xde\xad\xbe\xef" * 10
"""What `ping -p deadbeef` sends: its time stamp comes first, and is 0 here."""


class PingNetwork(Network):
    """count: requests that it makes in all. guest: the guest's IP address, b"" while it is not known.
    hardware: the guest's answer to ARP, b"" before it. asked: requests so far. right: those answered
    rightly. wrong: other answers. last_wrong: why the last of them is wrong."""

    wiring = Network.wiring | {"count", "mode"}
    wide = Network.wide | {"asked", "right", "wrong"}

    guest: bytes
    hardware: bytes
    last_wrong: str

    def __init__(self, number: int = 0, called: str = "", count: int = PINGS) -> None:
        super().__init__(number, called)
        self.count = count
        self.mode = f"ping: {counted(count, 'request')} to the guest"
        self.guest = self.hardware = b""
        self.last_wrong = ""
        self.asked = self.right = self.wrong = 0

    @property
    def address(self) -> bytes:
        """Its own IP address: in the guest's network of 256 addresses, the first that is not the
        guest's."""
        last = 1 if self.guest[3:] != b"\1" else 2
        return self.guest[:3] + bytes((last,))

    def carry(self, frame: bytes, now: int) -> None:
        try:
            self._take(packets.ethernet(frame), now + LATENCY)
        except BadPacket as reason:
            self._wrong(str(reason))

    def _take(self, frame: packets.Ethernet, due: int) -> None:
        if frame.kind == packets.ARP:
            told = packets.arp(frame.payload)
            self._learn(told.address, due)
            if told.asked != self.address:
                return
            if told.is_request:
                self.enqueue(packets.arp_reply(told, HARDWARE), due)
            elif told.address == self.guest and not self.hardware:
                self.hardware = told.hardware
                self._ask(due)
        elif frame.kind == packets.IP:
            packet = packets.ip(frame.payload)
            self._learn(packet.source, due)
            if packet.protocol == packets.ICMP and frame.target == HARDWARE:
                self._answer(packet, packets.icmp(packet), due)

    def _learn(self, address: bytes, due: int) -> None:
        if not self.guest and any(address):
            self.guest = address
            self.enqueue(packets.arp_request(HARDWARE, self.address, address), due)

    def _ask(self, due: int) -> None:
        if self.asked >= self.count:
            return
        self.asked += 1
        message = packets.icmp_bytes(Icmp(packets.ECHO, 0, self._content()))
        packet = packets.ip_bytes(self.address, self.guest, packets.ICMP, message)
        self.enqueue(packets.framed(self.hardware, HARDWARE, packets.IP, packet), due)

    def _content(self) -> bytes:
        return struct.pack("!HH", _IDENTIFIER, self.asked & 0xFFFF) + _DATA

    def _answer(self, packet: Ip, message: Icmp, due: int) -> None:
        if message.kind != packets.ECHO_REPLY:
            return
        ends = packet.source, packet.target
        if ends != (self.guest, self.address):
            self._wrong("an answer from or to another address")
        elif message.code or message.rest != self._content():
            self._wrong("an answer with another number or other data than the request")
        else:
            self.right += 1
            self._ask(due)

    def _wrong(self, why: str) -> None:
        self.wrong += 1
        self.last_wrong = why

    def facts(self, now: int) -> tuple[tuple[str, str], ...]:
        shown = [("requests", f"{self.asked:,} of {self.count:,}, {self.right:,} answered rightly")]
        if self.wrong:
            shown.append(("wrong answers", f"{self.wrong:,}, the last: {self.last_wrong}"))
        return (*super().facts(now), *shown)

    def notes(self) -> list[str]:
        told = f"{self.title}: {self.right:,} of {self.count:,} pings answered rightly"
        if not self.guest:
            told = f"{self.title}: no pings, for the guest has not told its IP address"
        if self.wrong:
            told += f"; wrong answers: {self.wrong:,}, the last: {self.last_wrong}"
        return [*super().notes(), told]

    def is_lawful(self) -> bool:
        whole = len(self.guest) in (0, 4) and len(self.hardware) in (0, 6)
        return whole and 0 <= self.asked <= self.count and super().is_lawful()
