"""Options of a run: the cores, the mode and the limits."""

from __future__ import annotations

from dataclasses import dataclass

from cores.pc.network.spec import NetSpec
from cores.programs.program import PLAIN, Program, StartOptions

DEFAULT_CORES = ("interpreter", "trap", "kvm")
DEFAULT_STEPS = 1_000_000
DEFAULT_SECONDS = 10.0
GIVABLE = ("screen",)
"""Devices that a guest can be given in free mode."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a run (contract.md, Commands).

    cores: as named by the user; None: all that can run here. budget: instructions in exact mode,
    seconds in free. slow: free mode handles every exit the long way. ram: bytes; None: as many as the
    program has by default. disks: image files, master and slave. input: for keyboard and UART. peers:
    other emulators to run it on too. clock: where the guest's CMOS clock begins, in seconds since
    2000-01-01 00:00:00. start: how the program on the command line is started.
    until: ends each machine when its console or screen has shown it. timeout: seconds of host time, in
    exact mode for all machines together, in free mode for each. images: reports hold a copy of RAM.
    devices: Python files with devices of the user's own. nets: networks, each for one card. virtio: the
    virtio devices, of net, block, console and iommu. other: the program of the other machine on a hub.
    poll: virtio devices look into their queues by themselves. give: device pages that the guest has
    itself in free mode, of GIVABLE.
    """

    cores: tuple[str, ...] | None = None
    free: bool = False
    pure: bool = False
    slow: bool = False
    budget: float | None = None
    ram: int | None = None
    disks: tuple[str, ...] = ()
    disk_write: bool = False
    input: bytes = b""
    peers: tuple[str, ...] = ()
    clock: int = 0
    start: StartOptions = PLAIN
    until: str = ""
    timeout: float | None = None
    images: bool = True
    devices: tuple[str, ...] = ()
    nets: tuple[NetSpec, ...] = ()
    virtio: tuple[str, ...] = ()
    other: Program | None = None
    poll: bool = False
    give: tuple[str, ...] = ()

    @property
    def disk(self) -> str | None:
        """The first disk's image."""
        return self.disks[0] if self.disks else None

    @property
    def seconds(self) -> float:
        """The time limit of a free run."""
        limit = DEFAULT_SECONDS if self.budget is None else self.budget
        return limit if self.timeout is None else min(limit, self.timeout)

    @property
    def asked(self) -> tuple[str, ...]:
        """The cores to run it on, by the names given."""
        return self.cores or DEFAULT_CORES


@dataclass(frozen=True, slots=True)
class Absent:
    """A core that cannot run here. core: its resolved name."""

    core: str
    engine: str
    reason: str
