"""Whether this host's KVM lets kicks and interrupts pass by eventfds, without an exit to user space.

An *ioeventfd* counts the guest's stores to an address: the virtio doorbells (cores/vmm/doorbells.py).
An *irqfd* raises a line of interrupt controllers that are in the kernel. Ringscope's are its own, one
implementation for all cores, so that none is used; whether this KVM could is probed all the same.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from functools import cache
from struct import pack

from cores.engines.base import Halted
from cores.engines.kvm import api
from cores.engines.kvm.trial import ENTRY, Trial, attempt
from cores.pc.physical_memory import HOLE

IRQFD = "interrupts by eventfd (irqfd)"
"""`doctor` lists this ability; no guest runs otherwise for want of it."""
_BELL, _VALUE, _LINE = HOLE.start, 3, 10
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


@cache
def why_no_irqfd() -> str:
    """What this KVM lacks for interrupts by eventfds; "" where it could have them."""
    with contextlib.ExitStack() as resources:
        try:
            kvm = api.Kvm()
            resources.callback(kvm.close)
            vm = kvm.create_vm()
            resources.callback(vm.close)
            vm.create_irqchip()
        except OSError:
            return "its kernel has no interrupt controllers for a guest"
        try:
            vm.irqfd(_LINE, resources.enter_context(_eventfd()))
        except OSError:
            return "its kernel takes no eventfd for an interrupt line"
    return ""
