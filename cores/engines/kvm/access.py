"""Access check for /dev/kvm: the reason why this process cannot use it, and the remedy, per errno."""

from __future__ import annotations

import errno
import os
import platform
import sys

from . import api

_NEEDED = (
    (api.CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"),
    (api.CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"),
    (api.CAP_SYNC_REGS, "KVM_CAP_SYNC_REGS"),
)
_ALL_SYNCED = api.DIRTY_GENERAL | api.DIRTY_SPECIAL | api.DIRTY_EVENTS


def explain(*, trying: bool = True) -> str | None:
    """None when a vCPU can be made here, else the reason in a sentence. trying: make one. To close a VM
    takes the kernel some milliseconds, and 50 where it is emulated itself: who makes one anyway does
    not try it first."""
    if sys.platform != "linux":
        return "KVM is part of the Linux kernel, and this is another system"
    if platform.machine() != "x86_64":
        return (
            f"KVM runs guests of the host's own kind, and this CPU is {platform.machine()}, not x86-64"
        )
    try:
        kvm = api.Kvm()
    except OSError as error:
        return in_words(error)
    try:
        return _missing(kvm) or (_try(kvm) if trying else None)
    except OSError as error:
        return f"/dev/kvm is there, but does not answer as KVM does ({error.strerror})"
    finally:
        kvm.close()


def _missing(kvm: api.Kvm) -> str | None:
    if (version := kvm.version()) != api.API_VERSION:
        return f"/dev/kvm speaks API version {version}, not {api.API_VERSION}: the kernel is too old"
    for capability, name in _NEEDED:
        if not kvm.extension(capability):
            return f"this kernel's KVM has no {name}: Linux 4.17 or newer is needed"
    if kvm.extension(api.CAP_SYNC_REGS) & _ALL_SYNCED != _ALL_SYNCED:
        return "this kernel's KVM does not synchronise all registers (KVM_CAP_SYNC_REGS is not 7)"
    return None


def _try(kvm: api.Kvm) -> str | None:
    """Create a VM and a vCPU: KVM reports only then that another hypervisor holds the CPU."""
    try:
        vm = kvm.create_vm()
    except OSError as error:
        return in_words(error)
    try:
        vm.create_vcpu().close()
    except OSError as error:
        return in_words(error)
    finally:
        vm.close()
    return None


def in_words(error: OSError) -> str:
    """An errno of /dev/kvm as a sentence for the user."""
    match error.errno:
        case errno.ENOENT:
            return (
                "there is no /dev/kvm: load the module (modprobe kvm_intel or kvm_amd), enable VT-x or "
                "AMD-V in the firmware, or, in a container, pass the device in (--device /dev/kvm)"
            )
        case errno.EACCES | errno.EPERM:
            return (
                f"no permission to open {api.DEVICE}: add yourself to the kvm group "
                f"(usermod -aG kvm {_user()}) and log in again, or, in a container, allow the device"
            )
        case errno.ENODEV | errno.ENXIO:
            return (
                "/dev/kvm exists, but no module stands behind it: modprobe kvm_intel or kvm_amd, and "
                "enable VT-x or AMD-V in the firmware"
            )
        case errno.EBUSY:
            return "another hypervisor holds VT-x or AMD-V (VirtualBox, VMware?): stop its machines"
        case errno.ENOMEM:
            return "the kernel has no memory left for a virtual machine: free some, or use less --ram"
        case errno.EMFILE | errno.ENFILE:
            return "too many open files to make a virtual machine: raise the limit (ulimit -n)"
        case errno.EOPNOTSUPP | errno.EIO:
            return "KVM could not switch virtualization on: the firmware has it disabled or locked"
    return f"/dev/kvm refused: {error.strerror}"


def _user() -> str:
    return os.environ.get("USER") or "$USER"
