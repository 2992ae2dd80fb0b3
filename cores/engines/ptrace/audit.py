"""Isolation audit of a vCPU process, by what the kernel reports of it.

Popek and Goldberg's resource control is enforced by ptrace, seccomp and an empty address space; the
audit checks that these are in force, and that the process has no memory or descriptor but guest RAM. It
reads /proc (proc_pid_maps(5), proc_pid_status(5), proc_pid_fd(5)); an audit takes 0.06 ms.
"""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterator

from . import stub
from .process import LIMITS

_NONE = f"{0:016x}"
_WALLS = {
    "Seccomp": ("2", "its filter of system calls is gone"),
    "NoNewPrivs": ("1", "it may gain privileges"),
    "Threads": ("1", "it has more threads than one"),
    "CapInh": (_NONE, "it has capabilities to hand on"),
    "CapPrm": (_NONE, "it has capabilities"),
    "CapEff": (_NONE, "it uses capabilities"),
    "CapAmb": (_NONE, "it has ambient capabilities"),
}
"""Field of /proc/PID/status -> (the required value, the finding when it differs)."""


def escapes(pid: int, ram_fd: int, twin_fd: int) -> Iterator[str]:
    """The findings of an audit, in words; none if the process is isolated.

    Must be called by its tracer. Raises OSError when the process is gone."""
    yield from _fallen_walls(pid)
    if any(resource.prlimit(pid, limit) != (0, 0) for limit in LIMITS):
        yield "its limits have been raised"
    own = {_identity(os.fstat(fd)) for fd in (ram_fd, twin_fd)}
    yield from _foreign_mappings(pid, own)
    yield from _foreign_descriptors(pid, own)


def _identity(file: os.stat_result) -> tuple[int, int]:
    return file.st_dev, file.st_ino


def _foreign_mappings(pid: int, own: set[tuple[int, int]]) -> Iterator[str]:
    with open(f"/proc/{pid}/maps") as maps:
        for line in maps:
            addresses, _, _, device, inode, *name = line.split(maxsplit=5)
            start, end = (int(part, 16) for part in addresses.split("-"))
            major, minor = (int(part, 16) for part in device.split(":"))
            mine = start >= stub.REGION.start and end <= stub.REGION.stop
            if mine or (os.makedev(major, minor), int(inode)) in own or name == ["[vsyscall]\n"]:
                continue  # the vsyscall page cannot be unmapped; calls into it are refused
            what = name[0].strip() if name else "foreign memory"
            yield f"{what} is mapped at {start:x}"


def _foreign_descriptors(pid: int, own: set[tuple[int, int]]) -> Iterator[str]:
    for number in os.listdir(f"/proc/{pid}/fd"):
        if _identity(os.stat(f"/proc/{pid}/fd/{number}")) not in own:
            yield f"descriptor {number} is open: {os.readlink(f'/proc/{pid}/fd/{number}')}"


def _fallen_walls(pid: int) -> Iterator[str]:
    with open(f"/proc/{pid}/status") as status:
        fields = dict(line.rstrip("\n").split(":\t", 1) for line in status if ":\t" in line)
    if fields["State"][0] in "ZX":
        raise ProcessLookupError("the vCPU process has ended")
    if fields["TracerPid"] != str(threading.get_native_id()):
        yield "the VMM does not hold it any more"
    for name, (wanted, words) in _WALLS.items():
        if fields.get(name) != wanted:
            yield words
