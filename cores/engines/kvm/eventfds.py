"""Whether this host's KVM lets kicks and interrupts pass by eventfds, without an exit to user space.

An *ioeventfd* counts the guest's stores to an address: the virtio doorbells (cores/vmm/doorbells.py).
An *irqfd* interrupts the guest, by a local APIC in the kernel (kernel_apic.py).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from functools import cache
from struct import pack

from cores.engines.base import Halted, MmioRead, PortWrite
from cores.engines.kvm.trial import ENTRY, SCRATCH, SIGNAL_VECTOR, Trial, attempt
from cores.pc.physical_memory import HOLE
from cores.pc.platform import PDPT
from cores.x86.registers import ApicBase

IRQFD = "interrupts by eventfd (irqfd)"
"""`doctor` lists this ability; no guest runs otherwise for want of it."""
_BELL, _VALUE = HOLE.start, 3
# mov dword ptr [_BELL], _VALUE; hlt
_RING = b"\xc7\x04\x25" + pack("<II", _BELL, _VALUE) + b"\xf4"


@contextlib.contextmanager
def _eventfd() -> Iterator[int]:
    fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _rings(trial: Trial) -> bool:
    """Does the guest go on after its store, and has the eventfd counted it?"""
    with _eventfd() as fd:
        if not trial.engine.doorbell(_BELL, _VALUE, fd, on=True):
            return False
        if not isinstance(trial.run(), Halted) or trial.cpu.rip != ENTRY + len(_RING):
            return False
        return os.eventfd_read(fd) == 1


@cache
def doorbells() -> bool:
    """Does a store to a doorbell reach the host without an exit?"""
    return attempt(_RING, _rings)


class _Raised:
    """A line that has been raised before the guest is entered (``EventfdLine``). taken: what became of
    it, None where nothing did."""

    def __init__(self, eventfd: int) -> None:
        self.eventfd = eventfd
        self.taken: bool | None = None

    def vector(self) -> int | None:
        return SIGNAL_VECTOR

    def open(self) -> None:
        os.eventfd_write(self.eventfd, 1)

    def close(self) -> bool:
        return True

    def raised(self, *, taken: bool) -> None:
        self.taken = taken


def _interrupts(trial: Trial) -> bool:
    """Is the guest interrupted in its loop, then not with IF clear, and do its accesses to the local
    APIC's page exit as before?"""
    engine, cpu = trial.engine, trial.cpu
    with _eventfd() as fd:
        line = _Raised(fd)
        if not engine.irqfd(line) or not isinstance(trial.run(), PortWrite) or line.taken is not True:
            return False
        engine.settle(cpu)
        cpu.rip = ENTRY + _CLOSED
        trial.memory.write(PDPT + 3 * 8, pack("<Q", SCRATCH | 3))
        page = ApicBase.ADDRESS >> 21
        trial.memory.write(SCRATCH + page % 512 * 8, pack("<Q", ApicBase.ADDRESS | 0x93))
        exit = trial.run()
        engine.irqfd(None)
        return exit == MmioRead(_VERSION, 4) and line.taken is False


# sti; jmp $; cli; mov eax, [the local APIC's version]
_LOOP = b"\xfb\xeb\xfe"
_CLOSED = len(_LOOP)
_VERSION = ApicBase.ADDRESS + 0x30


@cache
def irqfd() -> bool:
    """Does an interrupt by an eventfd reach the guest without an exit, and leave its local APIC be?"""
    return attempt(_LOOP + b"\xfa\xa1" + pack("<Q", _VERSION), _interrupts, irqfd=True)
