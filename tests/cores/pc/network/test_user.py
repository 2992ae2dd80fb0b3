"""The built-in network as a guest meets it: frames in, frames out, each read by dpkt's own parser."""

from __future__ import annotations

import dpkt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cores.debugging.plain_values import plain, shaped
from cores.pc.network import packets, services, tcp
from cores.pc.network.network import MOST_QUEUED
from cores.pc.network.packets import Datagram, Flags, Icmp, Segment
from cores.pc.network.services import GUEST, NAMES, ROUTER
from cores.pc.network.user import HARDWARE, LATENCY, UserNetwork

MAC = bytes.fromhex("525400123456")


class Host:
    """A guest on the network, with the time that it has reached."""

    def __init__(self) -> None:
        self.network = UserNetwork()
        self.now = 1000

    def send(
        self, kind: int, payload: bytes, to: bytes = HARDWARE[ROUTER]
    ) -> list[dpkt.ethernet.Ethernet]:
        """Send a frame; what has arrived when the network is quiet."""
        self.network.transmit(packets.framed(to, MAC, kind, payload), self.now)
        came = []
        while (at := self.network.next_arrival()) is not None:
            assert at == self.now + LATENCY
            frame = self.network.receive(at)
            assert frame is not None
            assert len(frame) >= 60
            came.append(dpkt.ethernet.Ethernet(frame))
        self.now += 2 * LATENCY
        return came

    def ip(
        self, protocol: int, body: bytes, to: bytes = ROUTER, source: bytes = GUEST
    ) -> list[dpkt.ip.IP]:
        came = self.send(packets.IP, packets.ip_bytes(source, to, protocol, body))
        for frame in came:
            assert frame.dst == MAC
            ip = frame.data
            assert dpkt.dpkt.in_cksum(ip.pack_hdr()) == 0
            given, ip.sum = ip.sum, 0
            if isinstance(ip.data, dpkt.Packet):
                transport, ip.data.sum = ip.data.sum, 0
                assert dpkt.ip.IP(bytes(ip)).data.sum == transport  # built anew: the same sums
            assert given
        return [frame.data for frame in came]

    def udp(
        self, port: int, data: bytes, to: bytes = ROUTER, source: bytes = GUEST
    ) -> list[dpkt.ip.IP]:
        return self.ip_packet(packets.datagram_bytes(source, to, Datagram(5000, port, data)))

    def ip_packet(self, packet: bytes) -> list[dpkt.ip.IP]:
        return [frame.data for frame in self.send(packets.IP, packet)]

    def segment(self, **fields: object) -> list[dpkt.tcp.TCP]:
        segment = Segment(**{"source": 5000, "target": 7, "window": 8192, **fields})  # type: ignore[arg-type]
        return [ip.data for ip in self.ip_packet(packets.segment_bytes(GUEST, ROUTER, segment))]

    def connect(self, port: int, source: int = 5000) -> tuple[int, int]:
        """Our next sequence number, and theirs."""
        (answer,) = self.segment(
            source=source, target=port, sequence=99, acknowledged=0, flags=Flags.SYN, mss=500
        )
        assert answer.flags == Flags.SYN | Flags.ACK
        assert answer.ack == 100
        here, there = 100, answer.seq + 1
        self.segment(source=source, target=port, sequence=here, acknowledged=there, flags=Flags.ACK)
        return here, there

    def talk(self, port: int, data: bytes, source: int = 5000) -> bytes:
        """Send data on a new connection, end it, and give all that comes until the other end ends."""
        here, there = self.connect(port, source)
        got, ended = b"", False
        flags = Flags.ACK | Flags.PSH
        came = self.segment(
            source=source, target=port, sequence=here, acknowledged=there, flags=flags, data=data
        )
        here += len(data)
        fin = False
        while not ended:
            for one in came:
                assert one.seq == there  # in order, nothing twice
                got += one.data
                there += len(one.data) + bool(one.flags & Flags.FIN)
                ended |= bool(one.flags & Flags.FIN)
                assert one.ack == here
            flags = Flags.ACK if fin else Flags.ACK | Flags.FIN
            came = self.segment(
                source=source, target=port, sequence=here, acknowledged=there, flags=flags
            )
            here += not fin
            fin = True
        return got


def test_arp_and_ping() -> None:
    """Router and name server tell their addresses and answer pings with the same data; no other."""
    host = Host()
    for asked, hardware in HARDWARE.items():
        question = packets.arp_request(MAC, GUEST, asked)
        (reply,) = host.send(packets.ARP, question[14:], packets.EVERYONE)
        assert (reply.data.op, reply.data.sha, reply.data.spa) == (2, hardware, asked)
        echo = packets.icmp_bytes(Icmp(8, 0, b"\0\1\0\2" + bytes(range(99))))
        (answer,) = host.ip(packets.ICMP, echo, asked)
        assert (answer.src, answer.data.type) == (asked, 0)
        assert bytes(answer.data.data) == b"\0\1\0\2" + bytes(range(99))
        assert dpkt.dpkt.in_cksum(bytes(answer.data)) == 0
    stranger = packets.arp_request(MAC, GUEST, bytes((10, 0, 2, 9)))
    assert host.send(packets.ARP, stranger[14:], packets.EVERYONE) == []
    (gone,) = host.ip(packets.ICMP, echo, bytes((8, 8, 8, 8)))
    assert (gone.data.type, gone.data.code, gone.src) == (3, 0, ROUTER)


def dhcp(kind: int, *more: tuple[int, bytes]) -> bytes:
    options = [(53, bytes((kind,))), *more]
    return bytes(dpkt.dhcp.DHCP(xid=77, chaddr=MAC.ljust(16, b"\0"), opts=options))


def test_address_by_dhcp() -> None:
    """A guest without an address is offered 10.0.2.15, gets it, and is refused another."""
    host = Host()

    def ask(message: bytes) -> tuple[int, dict[int, bytes], int]:
        nobody = b"\0" * 4
        packet = packets.datagram_bytes(nobody, b"\xff" * 4, Datagram(68, 67, message))
        (frame,) = host.send(packets.IP, packet, packets.EVERYONE)
        reply = dpkt.dhcp.DHCP(frame.data.data.data)
        assert reply.xid == 77
        options = dict(reply.opts)
        return options[53][0], options, reply.yiaddr

    kind, options, address = ask(dhcp(1))
    assert (kind, address.to_bytes(4, "big")) == (2, GUEST)
    assert (options[1], options[3], options[6]) == (services.MASK, ROUTER, NAMES)
    assert ask(dhcp(3, (50, GUEST), (54, ROUTER)))[::2] == (5, int.from_bytes(GUEST, "big"))
    assert ask(dhcp(3, (50, bytes((10, 0, 2, 99)))))[0] == 6


@pytest.mark.parametrize(
    ("name", "kind", "status", "address"),
    [("ringscope.test", 1, 0, ROUTER), ("DNS.ringscope.test", 1, 0, NAMES),
     ("example.com", 1, 3, None), ("ringscope.test", 28, 0, None)],
)  # fmt: skip
def test_names(name: str, kind: int, status: int, address: bytes | None) -> None:
    """The name server knows its names in any case, and no other."""
    question = dpkt.dns.DNS(id=9, qd=[dpkt.dns.DNS.Q(name=name, type=kind)])
    (reply,) = Host().udp(53, bytes(question), NAMES)
    answer = dpkt.dns.DNS(reply.data.data)
    assert (answer.id, answer.rcode, answer.qd[0].name) == (9, status, name)
    assert [one.ip for one in answer.an] == [address] * bool(address)


def test_udp_echo_and_closed_ports() -> None:
    """Port 7 echoes; another is unreachable, and the error quotes the packet."""
    host = Host()
    (reply,) = host.udp(7, b"hello")
    assert (reply.data.data, reply.data.dport) == (b"hello", 5000)
    (error,) = host.udp(9, b"hello")
    assert (error.data.type, error.data.code) == (3, 3)
    assert error.data.data.data.data.dport == 9


@pytest.mark.parametrize("size", [1, 499, 500, 501, 1400])
def test_tcp_echo(size: int) -> None:
    """What is sent comes back whole, in segments of the guest's size, and both ends close."""
    host = Host()
    data = bytes(i & 255 for i in range(size))
    assert host.talk(7, data) == data
    assert host.network.connections == ()


def test_page_by_http() -> None:
    """The page comes with its length; another path is 404, and what is no request 400."""
    host = Host()
    page = host.talk(80, b"GET / HTTP/1.0\r\nHost: ringscope.test\r\n\r\n")
    head, _, body = page.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 OK\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert body == services.PAGE
    assert host.talk(80, b"GET /x HTTP/1.1\r\n\r\n", 5001).startswith(b"HTTP/1.0 404 ")
    assert host.talk(80, b"what\n\n", 5002).startswith(b"HTTP/1.0 400 ")


def test_narrow_window() -> None:
    """The other end never sends more than the guest's window, and goes on when it opens."""
    host = Host()
    here, there = host.connect(80)
    request = b"GET / HTTP/1.0\n\n"
    fields = {"target": 80, "flags": Flags.ACK, "window": 10}
    got, came = b"", host.segment(sequence=here, acknowledged=there, data=request, **fields)
    here += len(request)
    while not any(one.flags & Flags.FIN for one in came):
        assert sum(len(one.data) for one in came) <= 10
        got += b"".join(one.data for one in came)
        there += sum(len(one.data) for one in came)
        came = host.segment(sequence=here, acknowledged=there, **fields)
    got += b"".join(one.data for one in came)
    assert got.endswith(services.PAGE)


def test_lost_segments_come_again() -> None:
    """A guest that acknowledges less than was sent is sent it again; one that repeats itself is not
    echoed twice."""
    host = Host()
    here, there = host.connect(7)
    flags = Flags.ACK
    (first,) = host.segment(sequence=here, acknowledged=there, flags=flags, data=b"abc")
    (again,) = host.segment(sequence=here + 3, acknowledged=there, flags=flags)
    assert (first.data, again.data, first.seq) == (b"abc", b"abc", again.seq)
    (told,) = host.segment(sequence=here, acknowledged=there + 3, flags=flags, data=b"abc")
    assert (told.data, told.ack) == (b"", here + 3)


def test_closed_ports_and_many_connections() -> None:
    """No service: a reset. More connections than there is room for: the oldest is reset."""
    host = Host()
    (refused,) = host.segment(target=9, sequence=5, acknowledged=0, flags=Flags.SYN)
    assert (refused.flags, refused.ack) == (Flags.RST | Flags.ACK, 6)
    (unknown,) = host.segment(sequence=5, acknowledged=8, flags=Flags.ACK)
    assert (unknown.flags, unknown.seq) == (Flags.RST, 8)
    for port in range(tcp.MOST_CONNECTIONS):
        host.connect(7, 6000 + port)
    reset, answer = host.segment(source=7000, sequence=1, acknowledged=0, flags=Flags.SYN)
    assert (reset.flags, reset.dport) == (Flags.RST, 6000)
    assert answer.flags == Flags.SYN | Flags.ACK
    assert len(host.network.connections) == tcp.MOST_CONNECTIONS


def damaged(at: int, value: int) -> bytes:
    whole = bytearray(packets.datagram_bytes(GUEST, ROUTER, Datagram(1, 7, b"abcd")))
    whole[at] = value
    if at < 20 and at not in (10, 11):  # the header's sum is to be right
        whole[10:12] = bytes(2)
        whole[10:12] = dpkt.dpkt.in_cksum(bytes(whole[:20])).to_bytes(2, "big")
    return bytes(whole)


@pytest.mark.parametrize(
    ("packet", "reason"),
    [(damaged(0, 0x65), "IP version 6"), (damaged(0, 0x44), "an IP header of 16 bytes"),
     (damaged(2, 9), "an IP length of 2336"), (damaged(6, 0x20), "a fragment"),
     (damaged(10, 0), "a wrong IP checksum: 0x00"), (damaged(30, 9), "a wrong UDP checksum"),
     (damaged(25, 99), "a UDP length of 99"), (b"\x45", "a truncated IP header")],
)  # fmt: skip
def test_damaged_packets_are_named(packet: bytes, reason: str) -> None:
    """A damaged packet is dropped, and the user is told what was wrong with it."""
    host = Host()
    host.network.transmit(packets.framed(HARDWARE[ROUTER], MAC, packets.IP, packet), 0)
    assert host.network.next_arrival() is None
    if packet != b"\x45":  # a frame is padded
        assert reason in host.network.notes()[0]


def test_flood_is_bounded() -> None:
    """A guest that sends without reading finds later frames dropped, and a note says how many."""
    network = UserNetwork()
    echo = packets.icmp_bytes(Icmp(8, 0, bytes(1400)))
    frame = packets.framed(HARDWARE[ROUTER], MAC, packets.IP, packets.ip_bytes(GUEST, ROUTER, 1, echo))
    for tick in range(MOST_QUEUED + 10):
        network.transmit(frame, tick)
    assert len(network.queued) == MOST_QUEUED
    assert "10 frames dropped" in network.notes()[0]


def test_going_back_gives_the_same_packets() -> None:
    """A state that was saved and read back as from a file goes on as before, and the log with it."""
    host = Host()
    here, there = host.connect(7)
    state = shaped(host.network.shape(), plain(host.network.save()))
    fields = {"sequence": here, "acknowledged": there, "flags": Flags.ACK, "data": b"once more"}
    first, log = host.segment(**fields), list(host.network.packets)
    host.network.restore(state)
    host.now -= 2 * LATENCY
    assert len(host.network.packets) == len(log) - 2
    again = host.segment(**fields)
    assert [bytes(one) for one in again] == [bytes(one) for one in first]
    assert host.network.packets == log
    assert host.network.is_lawful()


VALID = (
    packets.arp_request(MAC, GUEST, ROUTER),
    *(
        packets.framed(HARDWARE[to], MAC, packets.IP, packet)
        for to, packet in (
            (ROUTER, packets.ip_bytes(GUEST, ROUTER, 1, packets.icmp_bytes(Icmp(8, 0, bytes(40))))),
            (ROUTER, packets.datagram_bytes(GUEST, ROUTER, Datagram(68, 67, dhcp(1)))),
            (NAMES, packets.datagram_bytes(GUEST, NAMES, Datagram(9, 53, bytes(dpkt.dns.DNS(
                qd=[dpkt.dns.DNS.Q(name="ringscope.test")]))))),
            (ROUTER, packets.segment_bytes(GUEST, ROUTER, Segment(9, 80, 1, 0, Flags.SYN, 99, mss=9))),
            (ROUTER, packets.segment_bytes(
                GUEST, ROUTER, Segment(9, 80, 2, 1, Flags.ACK, 99, b"GET / HTTP/1.0\n\n"))),
        )
    ),
)  # fmt: skip


@st.composite
def hostile(draw: st.DrawFn) -> bytes:
    """Any bytes, or a good frame with some bytes changed or cut; its sums mended half of the time, so
    that what lies behind them is reached."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=1600))
    frame = bytearray(draw(st.sampled_from(VALID)))
    for at, value in draw(st.lists(st.tuples(st.integers(14, 400), st.integers(0, 255)), max_size=4)):
        if at < len(frame):
            frame[at] = value
    cut = draw(st.integers(0, len(frame)))
    frame = frame[:cut] if draw(st.booleans()) and cut > 34 else frame
    if draw(st.booleans()) and frame[12:14] == b"\x08\0" and len(frame) > 42:
        frame[24:26] = bytes(2)
        frame[24:26] = dpkt.dpkt.in_cksum(bytes(frame[14:34])).to_bytes(2, "big")
        if frame[23] == packets.UDP:
            frame[40:42] = bytes(2)
    return bytes(frame)


@settings(max_examples=40, deadline=None)
@given(st.lists(hostile(), max_size=12))
def test_any_frames(frames: list[bytes]) -> None:
    """Whatever a guest sends: no exception, a lawful state that a file can hold, bounded."""
    network = UserNetwork()
    for tick, frame in enumerate(frames):
        network.transmit(frame, tick)
    assert network.is_lawful()
    assert shaped(network.shape(), plain(network.save())) == network.save()
    network.facts(0)
    network.notes()
    while network.receive(10**9) is not None:
        pass
