"""Pings through each kind of card, on each core, beside QEMU's on the same machine.

The guests are `ping` and `vping` with more pings and without their printing; what a ping costs is the
difference of two runs with few and with many, so that set-up does not count. A ping is two packets, and
the built-in network takes 100 microseconds to answer, as its virtual time has it.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from time import perf_counter

from cores import peers
from cores.engines import registry
from cores.lockstep.options import Options
from cores.lockstep.session import start
from cores.pc.network.spec import NetSpec
from cores.pc.platform import MIB
from cores.pc.stop import Stop
from cores.programs.loader import assemble_program
from cores.programs.program import Program
from cores.programs.shipped import ASSETS

from .figures import Figure, Result, Skipped, Spread

FEW, MANY, MANY_THERE = 4, 204, 200_004
"""Pings of the two runs; and of the longer one on QEMU, whose clock is read every 20 ms."""
RUNS = 3
_PRINTS = "        call    print\n        inc     r12d"


@dataclass(frozen=True, slots=True)
class Way:
    """how: in words. guest: its name. changes: of its source, text by text. virtio, poll: options."""

    how: str
    guest: str
    changes: tuple[tuple[str, str], ...] = ()
    virtio: tuple[str, ...] = ()
    poll: bool = False

    def source(self, pings: int) -> str:
        """The guest's, changed. Raises RuntimeError where it is not as this measurement knows it."""
        source = (ASSETS / "guests" / f"{self.guest}.s").read_text()
        number = "\nPINGS   = 4", f"\nPINGS   = {pings}"
        for old, new in (*self.changes, number, (_PRINTS, "        inc     r12d")):
            if source.count(old) != 1:
                raise RuntimeError(f"{self.guest}.s is no longer as this measurement knows it")
            source = source.replace(old, new)
        return source

    def program(self, pings: int) -> Program:
        return assemble_program(self.source(pings).encode(), f"{self.guest}.s", 16 * MIB)


_ALL = ("cmp     r12d, 2 * PINGS", "cmp     r12d, PINGS")
_INTERRUPTS = (_ALL, ("cmp     r12d, PINGS + 1", "cmp     r12d, PINGS + 2"))
_POLLING = (_ALL, ("cmp     r12d, PINGS + 1", "cmp     r12d, 1"))
WAYS = (
    Way("NE2000", "ping"),
    Way("virtio, with interrupts", "vping", _INTERRUPTS, ("net",)),
    Way("virtio, the driver looks", "vping", _POLLING, ("net",)),
    Way("virtio, both look (--poll)", "vping", _POLLING, ("net",), True),
)


def net() -> list[Result]:
    """Exits a packet and packets a second, for each way and core, and QEMU's by its NE2000."""
    found: list[Result] = []
    for core in ("trap:native", "kvm"):
        here = registry.availability(core)
        if not here.available:
            found.append(Skipped("net", here.reason or f"{core} cannot run here"))
            continue
        for way in WAYS:
            runs = [_per_packet(way, core) for _ in range(RUNS)]
            exits, seconds = zip(*runs, strict=True)
            what = f"{way.how}, {core}, free"
            found.append(Figure("net", f"exits a packet: {what}", "", Spread.of(list(exits))))
            rates = [1 / one for one in seconds]
            found.append(Figure("net", f"packets a second: {what}", "/s", Spread.of(rates)))
    return [*found, _on_qemu()]


def _per_packet(way: Way, core: str) -> tuple[float, float]:
    """Exits and seconds of one packet."""
    few, many = (_run(way.program(n), way, core) for n in (FEW, MANY))
    packets = 2 * (MANY - FEW)
    return (many[0] - few[0]) / packets, (many[1] - few[1]) / packets


def _run(program: Program, way: Way, core: str) -> tuple[int, float]:
    options = Options(
        cores=(core,), free=True, nets=(NetSpec("user"),), virtio=way.virtio, poll=way.poll
    )
    with closing(start(program, core, options)) as machine:
        began = perf_counter()
        machine.run_free(60)
        took = perf_counter() - began
        if (machine.stop, machine.vmm.exit_status) != (Stop.EXIT, 0):
            raise RuntimeError(f"{way.how}, {core}: it ended with {machine.stop}")
        return machine.vmm.trace.exits, took


def _on_qemu() -> Result:
    took = []
    for pings in (FEW, MANY_THERE):
        report = peers.run(
            peers.PEERS["qemu"](), WAYS[0].program(pings), ram=16 * MIB, disk=None, input=b"",
            seconds=60, network=True,
        )  # fmt: skip
        if not report.available or report.stop is not Stop.EXIT:
            return Skipped("net", report.reason or f"QEMU ended with {report.stop}")
        took.append(report.seconds)
    rate = 2 * (MANY_THERE - FEW) / max(took[1] - took[0], 0.02)
    what = "packets a second: NE2000, QEMU (TCG), -netdev user"
    return Figure("net", what, "/s", Spread.of([rate]))
