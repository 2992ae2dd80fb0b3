"""The log of what has passed a network: it is bounded, says so, and stands going back."""

from __future__ import annotations

import pytest

from cores.pc.network import network
from cores.pc.network.replay import ReplayNetwork


def frame(number: int) -> bytes:
    return number.to_bytes(2, "big") + bytes(58)


def send(net: network.Network, *numbers: int) -> None:
    for number in numbers:
        net.transmit(frame(number), number)


def kept(net: network.Network) -> list[int]:
    return [packet.at for packet in net.packets]


@pytest.mark.parametrize(("limit", "value"), [("MOST_PACKETS", 3), ("MOST_LOGGED", 200)])
def test_bounded(limit: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that is full keeps what it has and counts the rest, also when the guest goes back and
    comes again, or does something else."""
    monkeypatch.setattr(network, limit, value)
    net = ReplayNetwork([], "")
    send(net, 0, 1)
    early = net.save()
    send(net, 2, 3, 4)
    assert (kept(net), net.passed, net.unkept) == ([0, 1, 2], 5, 2)
    assert any("the last 2 are not in it" in note for note in net.notes())
    late = net.save()
    net.restore(early)
    assert (kept(net), net.unkept) == ([0, 1], 0)
    send(net, 2, 3, 4)
    assert (kept(net), net.unkept, net.save()) == ([0, 1, 2], 2, late)
    net.restore(early)
    send(net, 7, 8)
    assert (kept(net), net.unkept) == ([0, 1, 7], 1)


def test_after_a_saved_session() -> None:
    """The log of a session that was opened again begins there, and going back within it is as ever."""
    net = ReplayNetwork([], "")
    send(net, 0, 1, 2)
    opened = ReplayNetwork([], "")
    opened.restore(net.save())
    assert (kept(opened), opened.passed, opened.unkept) == ([], 3, 0)
    send(opened, 3)
    early = opened.save()
    send(opened, 4, 5)
    opened.restore(early)
    send(opened, 4, 5)
    assert (kept(opened), opened.passed, opened.unkept) == ([3, 4, 5], 6, 0)
