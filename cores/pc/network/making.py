"""Makes the networks of one machine. A network's file is loaded only when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence

from cores.errors import InputError
from cores.pc.network.network import Network
from cores.pc.network.spec import NetSpec


def make_networks(specs: Sequence[NetSpec]) -> tuple[Network, ...]:
    """The networks of one machine, in the order of its cards. Raises InputError."""
    return tuple(_make(spec, number) for number, spec in enumerate(specs))


def _make(spec: NetSpec, number: int) -> Network:
    raise InputError(f"--net {spec.mode}: not there yet")
