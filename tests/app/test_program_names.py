"""Programs by their names, and what shipped guests need."""

from __future__ import annotations

from app.programs import equipped, path_of
from cores.lockstep.options import Options
from cores.pc.network.spec import parse


def test_a_guest_gets_what_it_needs() -> None:
    """By name or path a shipped guest gets its networks and virtio devices; what the user gives stays,
    and another program gets nothing."""
    for name in ("vping", path_of("vping")):
        options = equipped(Options(), name)
        assert (options.nets, options.virtio) == ((parse("user"),), ("net",))
    assert equipped(Options(), "ping").virtio == ()
    assert equipped(Options(nets=(parse("hub"),)), "vping").virtio == ()
    assert equipped(Options(), "hello") == equipped(Options(), None) == Options()
