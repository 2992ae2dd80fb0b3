"""``--net [NAME=]MODE[,pcap:FILE]``: what the user asks for, and the network that it makes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cores.errors import InputError

MODES = ("user", "hub", "replay:FILE", "ping[:COUNT]")
MOST_NETWORKS = 4
"""Networks of one machine: more cards than a lesson needs."""
PINGS, MOST_PINGS = 100, 1_000_000
_SHAPE = re.compile(
    r"(?:([A-Za-z0-9_.-]{1,64})=)?(user|hub|ping(?::([0-9]{1,9}))?|replay:(.+?))(?:,pcap:(.+))?",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class NetSpec:
    """One network. name: of the guest's device that it is for; "" for the next one. mode: user, hub,
    replay or ping. replay: the capture that is played back. pcap: the file in which packets are
    recorded; "" for none. count: of pings."""

    mode: str
    name: str = ""
    replay: str = ""
    pcap: str = ""
    count: int = PINGS

    def __str__(self) -> str:
        """As the user writes it."""
        name = self.name and f"{self.name}="
        mode = self.mode
        if self.mode == "replay":
            mode = f"replay:{self.replay}"
        elif self.count != PINGS:
            mode = f"ping:{self.count}"
        return f"{name}{mode}" + (self.pcap and f",pcap:{self.pcap}")


def parse(text: str) -> NetSpec:
    """Read the option's value. Raises InputError in one line."""
    found = _SHAPE.fullmatch(text)
    if found is None:
        shown = text if len(text) <= 60 else f"{text[:60]} ..."
        raise InputError(
            f"{shown!r} is no network; write [NAME=]MODE[,pcap:FILE], MODE one of {', '.join(MODES)}"
        )
    name, mode, count, replay, pcap = found.groups()
    pings = int(count or PINGS)
    if not 0 < pings <= MOST_PINGS:
        raise InputError(f"ping:{count}: from 1 to {MOST_PINGS} pings")
    return NetSpec(mode.partition(":")[0], name or "", replay or "", pcap or "", pings)
