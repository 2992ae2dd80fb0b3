"""What answers on the ports of the built-in network: names, addresses, echoes, and one page.

Sources: RFC 1035 (DNS), 2131 and 2132 (DHCP), 862 (echo), 1945 (HTTP/1.0). The names lie in ``test``,
which RFC 2606 keeps free for ever.
"""

from __future__ import annotations

import struct

import dpkt

from cores.pc.network.packets import BadPacket

ROUTER, NAMES, GUEST = bytes((10, 0, 2, 2)), bytes((10, 0, 2, 3)), bytes((10, 0, 2, 15))
MASK, EVERYONE, NETWORK = bytes((255, 255, 255, 0)), b"\xff" * 4, bytes((10, 0, 2, 255))
ADDRESSES = {
    "ringscope.test": ROUTER, "www.ringscope.test": ROUTER, "dns.ringscope.test": NAMES,
    "guest.ringscope.test": GUEST,
}  # fmt: skip
"""The made-up names. No other has an address."""
_TTL = _LEASE = 86_400
_A, _IN = 1, 1
_QUERY, _ANSWER, _AUTHORITATIVE, _RECURSION = 0x8000, 0x8000, 0x0400, 0x0100
_FORMAT_ERROR, _NO_SUCH_NAME, _NOT_IMPLEMENTED = 1, 3, 4

LONGEST_REQUEST = 8192
PAGE = b"""<!DOCTYPE html>
<title>Ringscope</title>
<h1>It works</h1>
<p>This page has crossed no wire. A guest asked for it through a network card that does not exist.
"""


def echo(data: bytes) -> tuple[bytes, bytes, bool]:
    """TCP's echo service (``tcp.Service``)."""
    return data, b"", False


def http(data: bytes) -> tuple[bytes, bytes, bool]:
    """One page, by HTTP/1.0 (``tcp.Service``)."""
    head, end, _ = data.replace(b"\r\n", b"\n").partition(b"\n\n")
    if not end:
        if len(data) < LONGEST_REQUEST:
            return b"", data, False
        return _response(b"400 Bad Request", b"The request does not end.\n"), b"", True
    words = head.split(b"\n", 1)[0].split()
    if len(words) != 3 or not words[2].startswith(b"HTTP/"):
        return _response(b"400 Bad Request", b"This is no HTTP request.\n"), b"", True
    method, path = words[:2]
    if method not in (b"GET", b"HEAD"):
        return _response(b"501 Not Implemented", b"GET and HEAD are there.\n"), b"", True
    found = path.split(b"?")[0] in (b"/", b"/index.html")
    answer = (
        _response(b"200 OK", PAGE, b"text/html")
        if found
        else _response(b"404 Not Found", b"There is one page here: /\n")
    )
    return answer if method == b"GET" else answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n", b"", True


def _response(status: bytes, body: bytes, kind: bytes = b"text/plain") -> bytes:
    return (
        b"HTTP/1.0 %s\r\nServer: Ringscope\r\nContent-Type: %s\r\nContent-Length: %d\r\n"
        b"Connection: close\r\n\r\n%s"
    ) % (status, kind, len(body), body)


def names(query: bytes) -> bytes:
    """The name server's answer. Raises BadPacket for what cannot be answered at all."""
    if len(query) < 12:
        raise BadPacket("a truncated DNS query")
    number, flags, questions, *others = struct.unpack_from("!6H", query)
    if flags & _QUERY:
        raise BadPacket("a DNS answer to a question that nobody asked")
    reply = _ANSWER | _AUTHORITATIVE | flags & _RECURSION | flags & 0x7800
    if flags & 0x7800:
        return struct.pack("!6H", number, reply | _NOT_IMPLEMENTED, 0, 0, 0, 0)
    try:
        name, end = dpkt.dns.unpack_name(query, 12)
        kind, family = struct.unpack_from("!HH", query, end)
    except (dpkt.UnpackError, struct.error, UnicodeDecodeError, RecursionError):
        questions = 0
    if questions != 1 or others[0] or others[1]:
        return struct.pack("!6H", number, reply | _FORMAT_ERROR, 0, 0, 0, 0)
    asked = query[12 : end + 4]
    address = ADDRESSES.get(name.lower().rstrip("."))
    if address is None:
        return struct.pack("!6H", number, reply | _NO_SUCH_NAME, 1, 0, 0, 0) + asked
    if (kind, family) != (_A, _IN):
        return struct.pack("!6H", number, reply, 1, 0, 0, 0) + asked
    pointer = 0xC000 | 12  # to the name in the question
    record = struct.pack("!HHHIH", pointer, _A, _IN, _TTL, len(address)) + address
    return struct.pack("!6H", number, reply, 1, 1, 0, 0) + asked + record


def lease(request: bytes) -> bytes | None:
    """The DHCP server's answer: always the same address. None where none is due. Raises BadPacket."""
    try:
        packet = dpkt.dhcp.DHCP(request)
    except (dpkt.UnpackError, IndexError):
        raise BadPacket("a truncated DHCP message") from None
    options = {code: bytes(value) for code, value in packet.opts}
    if packet.magic != dpkt.dhcp.DHCP_MAGIC or packet.op != dpkt.dhcp.DHCP_OP_REQUEST:
        raise BadPacket("a message that is no DHCP request")
    kind = (options.get(dpkt.dhcp.DHCP_OPT_MSGTYPE) or b"\0")[0]
    if options.get(dpkt.dhcp.DHCP_OPT_SERVER_ID, ROUTER) != ROUTER:
        return None  # it has chosen another server
    match kind:
        case dpkt.dhcp.DHCPDISCOVER:
            answer = dpkt.dhcp.DHCPOFFER
        case dpkt.dhcp.DHCPREQUEST:
            current = packet.ciaddr.to_bytes(4, "big")
            wanted = options.get(dpkt.dhcp.DHCP_OPT_REQ_IP, current)
            answer = dpkt.dhcp.DHCPACK if wanted == GUEST else dpkt.dhcp.DHCPNAK
        case dpkt.dhcp.DHCPINFORM:
            answer = dpkt.dhcp.DHCPACK
        case _:
            return None
    given = answer != dpkt.dhcp.DHCPNAK and kind != dpkt.dhcp.DHCPINFORM
    told = [(dpkt.dhcp.DHCP_OPT_MSGTYPE, bytes((answer,))), (dpkt.dhcp.DHCP_OPT_SERVER_ID, ROUTER)]
    if answer != dpkt.dhcp.DHCPNAK:
        told += [
            (dpkt.dhcp.DHCP_OPT_NETMASK, MASK),
            (dpkt.dhcp.DHCP_OPT_ROUTER, ROUTER),
            (dpkt.dhcp.DHCP_OPT_DNS_SVRS, NAMES),
            (dpkt.dhcp.DHCP_OPT_DOMAIN, b"ringscope.test"),
        ]
    if given:
        told.append((dpkt.dhcp.DHCP_OPT_LEASE_SEC, _LEASE.to_bytes(4, "big")))
    reply = dpkt.dhcp.DHCP(
        op=dpkt.dhcp.DHCP_OP_REPLY, xid=packet.xid, flags=packet.flags,
        ciaddr=0 if given else packet.ciaddr,
        yiaddr=int.from_bytes(GUEST, "big") if given else 0,
        siaddr=int.from_bytes(ROUTER, "big"), chaddr=bytes(packet.chaddr), opts=told,
    )  # fmt: skip
    return bytes(reply).ljust(300, b"\0")  # BOOTP's least size, which old clients demand
