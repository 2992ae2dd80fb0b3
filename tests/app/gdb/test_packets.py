"""The framing of GDB's protocol: whatever way the bytes come, and whatever bytes they are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.gdb.packets import LARGEST, Break, Damaged, Lost, Packet, Reader, framed


@given(st.binary(max_size=80), st.integers(1, 9))
def test_any_payload_comes_through(payload: bytes, piece: int) -> None:
    """What is framed is read again, however it is cut."""
    data, reader = framed(payload), Reader()
    items = [item for at in range(0, len(data), piece) for item in reader.feed(data[at : at + piece])]
    assert items == [Packet(payload)]


def test_what_stands_between_packets() -> None:
    """Ctrl-C and the wish for the last packet are told apart from acknowledgements and rubbish."""
    assert Reader().feed(b"+x\x03-$g#67") == [Break(), Lost(), Packet(b"g")]


def test_a_wrong_sum() -> None:
    """A damaged packet is to be sent again, and does not take the next one with it."""
    assert Reader().feed(b"$g#00$g#zz$g#67") == [Damaged(), Damaged(), Packet(b"g")]


def test_a_packet_without_an_end() -> None:
    """What has no end is dropped once it is longer than any packet."""
    reader = Reader()
    assert reader.feed(b"$" + b"a" * LARGEST) == [Damaged()]
    assert reader.feed(b"$g#67") == [Packet(b"g")]


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_rubbish(pieces: list[bytes]) -> None:
    """No bytes make the reader fail."""
    reader = Reader()
    for piece in pieces:
        reader.feed(piece)
