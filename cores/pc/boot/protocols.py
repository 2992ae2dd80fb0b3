"""Boot protocols: the initial state of RAM and CPU for each program format.

A protocol loads the program into zeroed RAM and sets the CPU's first state. Each is a function in a
file of this package, and an entry in ``PROTOCOLS``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from cores.errors import InputError
from cores.pc.boot import linux_program, long_mode, multiboot, real_mode, solo5
from cores.pc.devices.base import Device
from cores.pc.devices.ne2000 import Ne2000
from cores.pc.devices.slot import Slot
from cores.pc.devices.solo5_hypercalls import Hypercalls
from cores.pc.devices.storage.disk import Disk
from cores.pc.devices.system_call_log import SystemCallLog
from cores.pc.devices.virtio.bus import VirtioBus
from cores.pc.network.link import Link
from cores.pc.physical_memory import PhysicalMemory
from cores.programs.program import Program
from cores.x86.virtual_cpu import VirtualCpu


class Boot(Protocol):
    """The signature of a boot protocol. disk_sectors: of the data disk, 0 without one. links: the
    networks, disks: all disks, for a protocol that tells the guest of them."""

    def __call__(
        self, program: Program, memory: PhysicalMemory, cpu: VirtualCpu, *, disk_sectors: int = 0,
        links: Sequence[Link] = (), disks: Sequence[Disk] = (),
    ) -> None: ...  # fmt: skip


PROTOCOLS: dict[str, Boot] = {
    "asm": long_mode.boot,
    "elf": long_mode.boot,
    "flat": long_mode.boot,
    "multiboot": multiboot.boot,
    "linux": linux_program.boot,
    "solo5": solo5.boot,
    "disk": real_mode.boot_disk,
    "rom": real_mode.boot_rom,
}
"""The protocol of each ``Program.format``."""

RESTRICTED = frozenset({"solo5"})
"""Formats that begin with page tables that do not give every right to all of RAM."""

_OTHER_MACHINES = {"m68k": "a Motorola 68000 program"}
"""Formats of programs for other machines (cores/runs/platform.py)."""


def protocol_of(program: Program) -> Boot:
    """The protocol by which a PC boots ``program``. Raises InputError for another machine's program."""
    if program.format in PROTOCOLS:
        return PROTOCOLS[program.format]
    raise InputError(f"{_OTHER_MACHINES[program.format]}: a PC cannot boot it", program.path)


def devices_of(
    program: Program, *, cards: int = 0, virtio: tuple[str, ...] = ()
) -> Sequence[Callable[[Slot], Device]]:
    """The makers of the devices that only a machine with such a program has, or that were asked for.
    cards: the number of networks. virtio: names of virtio devices. Raises InputError where the PC has
    no place for one of them."""
    if program.format == "solo5":
        if virtio:
            raise InputError("a Solo5 unikernel asks the VMM for all: no virtio devices", program.path)
        return (partial(Hypercalls.for_manifest, program.modules[0].data, program.path),)
    if cards > 1 and "net" not in virtio:
        raise InputError(
            f"{cards} networks, and one card: the PC has one NE2000; with --virtio net each has a card"
        )
    own = (SystemCallLog.plug,) if program.format == "linux" else ()
    card = (Ne2000.plug,) if cards and "net" not in virtio else ()
    bus = (partial(VirtioBus.plug_with, virtio),) if virtio else ()
    return (*own, *card, *bus)
