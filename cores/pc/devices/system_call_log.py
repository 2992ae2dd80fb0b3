"""The guest kernel's reports, ports 0x5F0 and 0x5F4: what it could not do for a Linux program.

No hardware is like it. The machine of a static Linux program has it (assets/linux); what is written
there becomes a note for the user.

    0x5F0   32 bits: the number of a system call that returned ENOSYS
    0x5F4   32 bits: the number of the signal by which the program ends
"""

from __future__ import annotations

from cores.pc.devices.base import Device

MISSING_CALL, SIGNAL = 0x5F0, 0x5F4
_MOST_KEPT = 16

_NAMES = {
    22: "pipe", 23: "select", 32: "dup", 33: "dup2", 34: "pause", 37: "alarm", 38: "setitimer",
    41: "socket", 42: "connect", 49: "bind", 53: "socketpair", 56: "clone", 57: "fork", 58: "vfork",
    59: "execve", 61: "wait4", 77: "ftruncate", 80: "chdir", 82: "rename", 83: "mkdir",
    87: "unlink", 98: "getrusage", 99: "sysinfo", 157: "prctl",
    217: "getdents64", 222: "timer_create", 232: "epoll_wait", 247: "waitid", 290: "eventfd2",
    291: "epoll_create1", 293: "pipe2", 332: "statx", 435: "clone3", 439: "faccessat2",
}  # fmt: skip
"""Names of calls that programs ask for and the guest kernel has not (syscall_64.tbl of Linux)."""
_PROCESSES = (56, 57, 58, 435)
"""Those that make a thread or a process."""


_SIGNALS = {
    1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 7: "SIGBUS",
    8: "SIGFPE", 9: "SIGKILL", 10: "SIGUSR1", 11: "SIGSEGV", 12: "SIGUSR2", 13: "SIGPIPE",
    14: "SIGALRM", 15: "SIGTERM",
}  # fmt: skip
"""Linux's numbers (signal(7)); the host's system may have others."""


class SystemCallLog(Device):
    """missing: numbers of the first system calls that were not there. signal: of the program's end, or
    0."""

    name = "guest kernel's log"
    ports = range(MISSING_CALL, SIGNAL + 4)
    wide = frozenset({"signal"})

    missing: tuple[int, ...]

    def __init__(self) -> None:
        self.missing = ()
        self.signal = 0

    def widths(self, port: int) -> frozenset[int]:
        return frozenset({4}) if port in (MISSING_CALL, SIGNAL) else frozenset()

    def read(self, port: int, size: int) -> int:
        return (1 << 8 * size) - 1

    def write(self, port: int, size: int, value: int) -> None:
        if port == SIGNAL:
            self.signal = value
        elif port == MISSING_CALL and value not in self.missing and len(self.missing) < _MOST_KEPT:
            self.missing = (*self.missing, value)

    def describe(self, port: int, value: int, is_write: bool) -> str:
        if not is_write or port not in (MISSING_CALL, SIGNAL):
            return self.name
        return f"missing: {_call(value)}" if port == MISSING_CALL else f"ended by {_signal(value)}"

    def notes(self) -> list[str]:
        notes = [f"the guest kernel {_lack(number)}: it returned ENOSYS" for number in self.missing]
        if self.signal:
            notes.append(f"the program was ended by {_signal(self.signal)}")
        return notes


def _lack(number: int) -> str:
    if number in _PROCESSES:
        return (
            f"runs one thread, and the program asked for another thread or process by {_call(number)}"
        )
    return f"does not have {_call(number)}"


def _call(number: int) -> str:
    name = _NAMES.get(number)
    return f"the system call {name} ({number})" if name else f"system call {number}"


def _signal(number: int) -> str:
    name = _SIGNALS.get(number)
    return f"signal {number} ({name})" if name else f"signal {number}"
