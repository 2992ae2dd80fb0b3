"""The framing of GDB's remote protocol (GDB manual, E.1 "Overview").

$payload#xx    a packet; xx: the sum of its bytes modulo 256
+ -            received; send it again
0x03           the user has pressed Ctrl-C, outside any packet
}c             in a payload: the byte c ^ 0x20
"""

from __future__ import annotations

from dataclasses import dataclass

LARGEST = 1 << 16
"""Bytes of the largest packet that is taken; ``PacketSize`` announces a quarter of it."""
_ESCAPED = b"#$}*"


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet whose sum is right, without escapes."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Break:
    """Ctrl-C."""


@dataclass(frozen=True, slots=True)
class Damaged:
    """A packet whose sum is wrong, or which is too long: it is to be sent again."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The other side asks for the last packet once more."""


Item = Packet | Break | Damaged | Lost


def framed(payload: bytes) -> bytes:
    """The packet that carries ``payload``."""
    body = bytearray()
    for byte in payload:
        if byte in _ESCAPED:
            body += bytes((ord("}"), byte ^ 0x20))
        else:
            body.append(byte)
    return b"$%b#%02x" % (bytes(body), sum(body) & 0xFF)


class Reader:
    """Takes what the socket gives, however it is cut, and gives what it holds."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> list[Item]:
        """The items that ``data`` completes. What belongs to none is dropped."""
        held = self._held
        held += data
        found: list[Item] = []
        while held:
            if held[0] == 0x03:
                found.append(Break())
                del held[0]
            elif held[0] == ord("-"):
                found.append(Lost())
                del held[0]
            elif held[0] != ord("$"):
                del held[0]
            else:
                end = held.find(b"#")
                if end < 0 or len(held) < end + 3:
                    if len(held) > LARGEST:
                        held.clear()
                        found.append(Damaged())
                    break
                found.append(_opened(bytes(held[1:end]), bytes(held[end + 1 : end + 3])))
                del held[: end + 3]
        return found


def _opened(body: bytes, told: bytes) -> Item:
    try:
        if int(told, 16) != sum(body) & 0xFF:
            return Damaged()
    except ValueError:
        return Damaged()
    payload, escaped = bytearray(), False
    for byte in body:
        if escaped:
            payload.append(byte ^ 0x20)
            escaped = False
        elif byte == ord("}"):
            escaped = True
        else:
            payload.append(byte)
    return Packet(bytes(payload))
