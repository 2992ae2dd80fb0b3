"""TCP, the server's side, as far as a small service needs it (RFC 9293).

The network loses nothing, so nothing is sent again by a timer: only when the guest's segment shows that
it has missed something. Segments out of order are not kept; the guest sends them again. Numbers are
deterministic. What a connection holds is bounded, and so is the number of connections.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from cores.pc.network.packets import Flags, Segment

MOST_CONNECTIONS = 32
BUFFER = 32_768
"""Bytes that a connection holds towards the guest, and the window that is offered to it."""
MSS = 1460
_DEFAULT_MSS = 536
_NUMBERS = 64_000
"""Distance between the first sequence numbers of connections."""
_MASK = 0xFFFFFFFF

Service = Callable[[bytes], tuple[bytes, bytes, bool]]
"""What answers on a port. Given what has come and was not used yet: the answer, what is still not used,
and whether the connection is to be closed then."""


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection. peer, port: the guest's address and port. ours, at: the other end's. expected:
    the guest's next sequence number. first: ours, of the first byte in ``out``. out: bytes that the
    guest has not acknowledged. sent: how many of them are on their way. unused: what the service has
    not used yet. open: the guest has acknowledged our SYN. closing: a FIN follows ``out``. finished: it
    is on its way, or acknowledged. ended: the guest's FIN has come."""

    peer: bytes
    port: int
    ours: bytes
    at: int
    expected: int
    first: int
    mss: int
    window: int
    out: bytes = b""
    sent: int = 0
    unused: bytes = b""
    open: bool = False
    closing: bool = False
    finished: bool = False
    ended: bool = False


def same(connection: Connection, peer: bytes, ours: bytes, segment: Segment) -> bool:
    """Does the segment belong to the connection?"""
    ends = connection.peer, connection.port, connection.ours, connection.at
    return ends == (peer, segment.source, ours, segment.target)


def refusal(segment: Segment) -> Segment:
    """The reset that answers a segment for which there is no connection."""
    if segment.flags & Flags.ACK:
        return Segment(segment.target, segment.source, segment.acknowledged, 0, Flags.RST, 0)
    length = len(segment.data) + bool(segment.flags & Flags.SYN) + bool(segment.flags & Flags.FIN)
    acknowledged = (segment.sequence + length) & _MASK
    return Segment(segment.target, segment.source, 0, acknowledged, Flags.RST | Flags.ACK, 0)


def reset(connection: Connection) -> Segment:
    """The reset by which we give up a connection."""
    number = (connection.first + connection.sent) & _MASK
    return Segment(connection.at, connection.port, number, 0, Flags.RST, 0)


def accept(peer: bytes, ours: bytes, syn: Segment, number: int) -> tuple[Connection, Segment]:
    """A connection for the guest's SYN, and the SYN that answers. number: how many there were."""
    first = number * _NUMBERS & _MASK
    connection = Connection(
        peer, syn.source, ours, syn.target, (syn.sequence + 1) & _MASK, (first + 1) & _MASK,
        max(1, min(syn.mss or _DEFAULT_MSS, MSS)), syn.window,
    )  # fmt: skip
    return connection, Segment(
        syn.target, syn.source, first, connection.expected, Flags.SYN | Flags.ACK, BUFFER, mss=MSS
    )


def take(
    connection: Connection, segment: Segment, service: Service
) -> tuple[Connection | None, list[Segment]]:
    """A segment of the guest's. Gives what becomes of the connection, None when it is over, and the
    segments to send."""
    if segment.flags & Flags.RST:
        return None, []
    if segment.flags & Flags.SYN:  # ours was not seen, or this is an attack
        first = (connection.first - 1) & _MASK
        if connection.open or (segment.sequence + 1) & _MASK != connection.expected:
            return connection, [_plain(connection)]
        again = Flags.SYN | Flags.ACK
        return connection, [
            Segment(connection.at, connection.port, first, connection.expected, again, BUFFER, mss=MSS)
        ]
    if not segment.flags & Flags.ACK:
        return connection, []
    before = connection
    new = (segment.acknowledged - connection.first) & _MASK
    if new > connection.sent:
        return connection, [_plain(connection)]  # it acknowledges what was never sent
    missed = new == 0 and connection.sent > 0 and not segment.data and before.open
    connection = _acknowledged(connection, new, segment.window)
    connection, tell = _received(connection, segment, service)
    if missed:
        connection = replace(connection, sent=0, finished=False)  # send again all that waits
    connection, segments = _sending(connection)
    if tell and not segments:
        segments = [_plain(connection)]
    over = connection.finished and connection.ended and not connection.sent
    return None if over else connection, segments


def _acknowledged(connection: Connection, new: int, window: int) -> Connection:
    """The guest has received ``new`` more of our bytes, or our FIN behind them."""
    return replace(
        connection, out=connection.out[new:], first=(connection.first + new) & _MASK,
        sent=connection.sent - new, window=window, open=True,
    )  # fmt: skip


def _received(connection: Connection, segment: Segment, service: Service) -> tuple[Connection, bool]:
    """Take the segment's data, as far as they come in order and there is room. The second value: is an
    acknowledgement due?"""
    data, skip = segment.data, (connection.expected - segment.sequence) & _MASK
    ends = bool(segment.flags & Flags.FIN)
    if not data and not ends:
        return connection, skip != 0 and skip < 1 << 31  # an old one: a keepalive, say
    if skip > len(data) or connection.ended:
        return connection, True
    data = data[skip:]
    room = max(0, BUFFER - len(connection.out) - len(connection.unused))
    if len(data) > room:
        data, ends = data[:room], False
    out, unused, closing = connection.out, connection.unused + data, connection.closing
    if data and not closing:
        answer, unused, closing = service(unused)
        out += answer[: 2 * BUFFER]
    if closing or ends:
        unused = b""
    expected = (connection.expected + len(data) + ends) & _MASK
    return replace(
        connection, out=out, unused=unused, expected=expected, ended=ends, closing=closing or ends
    ), True


def _sending(connection: Connection) -> tuple[Connection, list[Segment]]:
    """The segments that the guest's window permits now."""
    segments, sent = [], connection.sent
    size, end = connection.mss, min(len(connection.out), connection.window)
    while sent < end:
        data = connection.out[sent : min(sent + size, end)]
        flags = Flags.ACK | Flags.PSH
        segments.append(replace(_plain(connection, sent), flags=flags, data=data))
        sent += len(data)
    finished = connection.finished
    if connection.closing and not finished and sent == len(connection.out):
        last = segments.pop() if segments else _plain(connection, sent)
        segments.append(replace(last, flags=last.flags | Flags.FIN))
        finished, sent = True, sent + 1
    return replace(connection, sent=sent, finished=finished), segments


def _plain(connection: Connection, sent: int | None = None) -> Segment:
    """A segment without data, which acknowledges."""
    at = connection.sent if sent is None else sent
    room = max(0, BUFFER - len(connection.out) - len(connection.unused))
    number = (connection.first + at) & _MASK
    return Segment(
        connection.at, connection.port, number, connection.expected, Flags.ACK, min(room, 0xFFFF)
    )


def is_lawful(connection: Connection) -> bool:
    """Whether a guest could have brought the connection into this state; see ``Device``."""
    numbers = connection.expected, connection.first
    return (
        len(connection.peer) == len(connection.ours) == 4
        and 0 <= connection.port < 1 << 16 > connection.at >= 0
        and all(0 <= number <= _MASK for number in numbers)
        and 1 <= connection.mss <= MSS
        and 0 <= connection.window < 1 << 16
        and 0 <= connection.sent <= len(connection.out) + 1
        and len(connection.out) + len(connection.unused) <= 4 * BUFFER
    )
