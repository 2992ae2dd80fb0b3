"""Captures are what other programs write and read, and play back as they were."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import dpkt
import pytest

from cores.errors import InputError
from cores.pc.network import capture
from cores.pc.network.making import make_networks, write_captures
from cores.pc.network.network import Packet
from cores.pc.network.spec import NetSpec, parse

FRAME = bytes(range(60))


def test_written_as_others_read_it(tmp_path: Path) -> None:
    """dpkt's reader finds the packets with their microseconds."""
    path = str(tmp_path / "a.pcap")
    capture.write(
        path,
        [
            Packet(1_000_001, True, FRAME),
            Packet(1 << 60, True, FRAME),
        ],
    )
    reader = dpkt.pcap.Reader(io.BytesIO(Path(path).read_bytes()))
    assert reader.datalink() == dpkt.pcap.DLT_EN10MB
    assert next(iter(reader)) == (1.000001, FRAME)


@pytest.mark.parametrize("nano", [False, True])
def test_others_captures_are_read(tmp_path: Path, nano: bool) -> None:
    """Times of today count from the first packet, in micro- or nanoseconds; what is no frame is left
    out."""
    path = tmp_path / "a.pcap"
    with path.open("wb") as file:
        writer = dpkt.pcap.Writer(file, nano=nano)
        for at, size in ((1_700_000_000.25, 60), (1_700_000_000.75, 100), (1_700_000_001.0, 9000)):
            writer.writepkt(bytes(size), at)
    assert capture.read(str(path)) == [(0, bytes(60)), (500_000, bytes(100))]


BIG = struct.pack(">IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)


def test_big_endian_and_virtual_time(tmp_path: Path) -> None:
    """A capture of virtual time keeps its times, and its packets are sorted."""
    path = tmp_path / "a.pcap"
    path.write_bytes(BIG + b"".join(struct.pack(">IIII", s, 7, 2, 2) + b"ab" for s in (3, 2)))
    assert capture.read(str(path)) == [(2_000_007, b"ab"), (3_000_007, b"ab")]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"hello", "no capture: it does not begin as pcap files do"), (b"", "no capture"),
     (b"\n\r\r\n" + bytes(40), "the newer format: `editcap -F pcap` converts it"),
     (BIG[:20] + struct.pack(">I", 113), "link type 113; Ethernet is 1"),
     (BIG + bytes(7), "a truncated capture, after 0 packets"),
     (BIG + struct.pack(">IIII", 0, 0, 2, 2) + b"ab" + struct.pack(">IIII", 0, 0, 1 << 31, 2),
      "a truncated capture, after 1 packet")],
)  # fmt: skip
def test_no_captures(tmp_path: Path, content: bytes, reason: str) -> None:
    """Any other file is refused in a sentence that names it."""
    path = tmp_path / "a.pcap"
    path.write_bytes(content)
    with pytest.raises(InputError, match=reason) as error:
        capture.read(str(path))
    assert error.value.path == str(path)


def test_replay(tmp_path: Path) -> None:
    """What the guest received is played back at the same ticks, also after going back; what it sent is
    not."""
    path = str(tmp_path / "a.pcap")
    mac = bytes.fromhex("525400123456")
    sent, came = mac + bytes(54), bytes(6) + mac + bytes(48)
    (network,) = make_networks([NetSpec("user", pcap=path)])
    network.enqueue(sent, 50)
    network.transmit(came, 10)
    assert network.receive(60) == sent
    write_captures([NetSpec("user", pcap=path)], [network])
    (replay,) = make_networks([NetSpec("replay", replay=path)])
    before = replay.save()
    for _ in range(2):
        assert replay.next_arrival() == 60
        assert replay.receive(59) is None
        assert replay.receive(60) == sent
        assert replay.next_arrival() is None
        replay.restore(before)


@pytest.mark.parametrize("place", ["nowhere/a.pcap", ".", "notes"])
def test_a_capture_that_cannot_be_written(tmp_path: Path, place: str) -> None:
    """Said before the run: no such directory, a directory, a file of another kind."""
    (tmp_path / "notes").write_text("my notes")
    with pytest.raises(InputError):
        make_networks([NetSpec("user", pcap=str(tmp_path / place))])
    assert (tmp_path / "notes").read_text() == "my notes"


@pytest.mark.parametrize(
    ("text", "spec"),
    [("user", NetSpec("user")), ("net0=hub", NetSpec("hub", "net0")),
     ("ping:7,pcap:a,b", NetSpec("ping", pcap="a,b", count=7)),
     ("replay:a=b,c,pcap:d", NetSpec("replay", replay="a=b,c", pcap="d"))],
)  # fmt: skip
def test_the_option(text: str, spec: NetSpec) -> None:
    """Every part of --net is read."""
    assert parse(text) == spec


@pytest.mark.parametrize("text", ["", "tap", "user,pcap:", "replay:", "a b=user", "ping:0", "ping:x"])
def test_no_option(text: str) -> None:
    """Anything else is refused in one line."""
    with pytest.raises(InputError, match=r"^[^\n]+$"):
        parse(text)
