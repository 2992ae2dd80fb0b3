"""Captures: files of packets with their times (pcap, as tcpdump and Wireshark read and write them).

Format: https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html. What is written has
microseconds, which are ticks of virtual time: the guest began at 0.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from cores import input_file
from cores.atomic_file import ANOTHER_NAME, Kind, demand_writable, replacing
from cores.errors import InputError
from cores.pc.network.link import LONGEST
from cores.pc.network.network import Packet
from cores.plural import counted

LARGEST = 64 << 20
"""Bytes of a capture that is played back."""
_HEADER = struct.Struct("<IHHiIII")
_MICROSECONDS, _NANOSECONDS, _NEWER = 0xA1B2C3D4, 0xA1B23C4D, 0x0A0D0D0A
_ETHERNET, _SNAP, _SECOND = 1, 65_535, 1_000_000
_MAGICS = {
    struct.pack(f"{order}I", magic): (order, unit)
    for magic, unit in ((_MICROSECONDS, 1), (_NANOSECONDS, 1000))
    for order in "<>"
}
"""Byte order, and the fractions of a second in a microsecond, by a file's first bytes."""
KIND = Kind("a capture", lambda head: head[:4] in _MAGICS, ANOTHER_NAME)

Frame = tuple[int, bytes]
"""A tick, and the frame that passed then."""


def check(path: str) -> None:
    """Demand that a capture can be written there, before a long run. Raises InputError."""
    try:
        demand_writable(path, KIND)
    except OSError as error:
        raise InputError(f"cannot write the capture: {error.strerror}", path) from None


def write(path: str, packets: Iterable[Packet]) -> None:
    """Write a capture, whole or not at all. Raises InputError."""
    try:
        with replacing(path, KIND) as file:
            file.write(_HEADER.pack(_MICROSECONDS, 2, 4, 0, 0, _SNAP, _ETHERNET))
            for packet in packets:
                seconds, rest = divmod(packet.at, _SECOND)
                size = len(packet.frame)
                head = struct.pack("<IIII", min(seconds, 0xFFFFFFFF), rest, size, size)
                file.write(head + packet.frame)
    except OSError as error:
        raise InputError(f"cannot write the capture: {error.strerror}", path) from None


def read(path: str) -> list[Frame]:
    """The frames of a capture by their times; what is longer than a frame is left out. A capture that
    begins within a day of 0 has virtual times, and they stand; else they count from the first packet.
    Raises InputError."""
    data = input_file.read(path, LARGEST, "capture")
    if len(data) > LARGEST:
        raise InputError(f"a capture of more than {LARGEST >> 20} MiB", path)
    if data[:4] == _NEWER.to_bytes(4, "little"):
        raise InputError("a capture in the newer format: `editcap -F pcap` converts it", path)
    if data[:4] not in _MAGICS or len(data) < _HEADER.size:
        raise InputError("no capture: it does not begin as pcap files do", path)
    order, unit = _MAGICS[data[:4]]
    link = struct.unpack_from(f"{order}I", data, 20)[0] & 0xFFFF
    if link != _ETHERNET:
        raise InputError(f"a capture of link type {link}; Ethernet is {_ETHERNET}", path)
    frames: list[Frame] = []
    at = _HEADER.size
    while at < len(data):
        if at + 16 > len(data):
            raise InputError(f"a truncated capture, after {counted(len(frames), 'packet')}", path)
        seconds, rest, size, _ = struct.unpack_from(f"{order}IIII", data, at)
        at += 16 + size
        if at > len(data):
            raise InputError(f"a truncated capture, after {counted(len(frames), 'packet')}", path)
        frames.append((seconds * _SECOND + rest // unit, data[at - size : at]))
    return _from_begin(frames)


def _from_begin(frames: list[Frame]) -> list[Frame]:
    first = min((at for at, _ in frames), default=0)
    if first < 86_400 * _SECOND:
        first = 0
    return sorted(
        ((at - first, frame) for at, frame in frames if len(frame) <= LONGEST), key=lambda one: one[0]
    )
