"""The mechanisms by themselves, without any of Ringscope around them: what it is measured against.

May use ctypes, as the engines' low-level files do. The C loops are compiled where a compiler is
found, and run on the very process and vCPU that the Python loops run on.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from statistics import median
from time import perf_counter

C_LOOPS = r"""
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <sys/user.h>
#include <sys/ioctl.h>

void ptrace_exits(int pid, long count)
{
    struct user_regs_struct registers;
    int status;
    while (count--) {
        ptrace(31 /* PTRACE_SYSEMU */, pid, 0, 0);
        waitpid(pid, &status, 0x40000000 /* __WALL */);
        ptrace(PTRACE_GETREGS, pid, 0, &registers);
        registers.rip += 2;
        ptrace(PTRACE_SETREGS, pid, 0, &registers);
    }
}

void kvm_exits(int vcpu, long count)
{
    while (count--)
        ioctl(vcpu, 0xAE80 /* KVM_RUN */, 0);
}
"""

BATCH = 16
"""Turns timed together. The median of such batches is what a turn costs: other processes of the host
take the CPU for milliseconds, which is most of some batches and nothing of the others; in a mean over
thousands of turns it doubled the figure on a busy computer."""

CODE_AT = 0x10000000
OUT_FOR_EVER = bytes.fromhex("e6e9 ebfc")
"""`1: out 0xe9, al; jmp 1b`."""
NOPS_FOR_EVER = bytes.fromhex("909090 ebfb")
"""`1: nop; nop; nop; jmp 1b`."""


@cache
def c_loops() -> ctypes.CDLL | None:
    """``C_LOOPS``, compiled; None where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as directory:
        source, library = os.path.join(directory, "loops.c"), os.path.join(directory, "loops.so")
        with open(source, "w") as file:
            file.write(C_LOOPS)
        built = subprocess.run(
            [compiler, "-O2", "-shared", "-fPIC", "-o", library, source],
            stdin=subprocess.DEVNULL, capture_output=True, check=False,
        )  # fmt: skip
        return ctypes.CDLL(library) if built.returncode == 0 else None


def turn_cost(loop: Callable[[int], object], count: int) -> float:
    """Microseconds a turn of ``loop``, which makes as many turns as it is told."""
    batch = min(BATCH, count)
    times = []
    for _ in range(count // batch):
        began = perf_counter()
        loop(batch)
        times.append((perf_counter() - began) / batch * 1e6)
    return median(times)


class PtraceExits:
    """A process held by ptrace that does nothing but trap: `out` at ring 3, again and again; or, for
    ``steps``, nothing at all."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._registers = (ctypes.c_ulong * 27)()
        library = ctypes.CDLL(None)
        self._ptrace = library.ptrace
        self._ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_ulong, ctypes.c_void_p)
        self._waitpid = library.waitpid
        self._waitpid.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int)

    def python(self, count: int) -> float:
        """Microseconds a round: SYSEMU, waitpid, GETREGS, RIP += 2, SETREGS."""
        return turn_cost(self._loop, count)

    def _loop(self, count: int) -> None:
        ptrace, waitpid, pid, registers = self._ptrace, self._waitpid, self._pid, self._registers
        status = ctypes.c_int()
        status_at, registers_at = ctypes.addressof(status), ctypes.addressof(registers)
        for _ in range(count):
            ptrace(31, pid, 0, 0)
            waitpid(pid, status_at, 0x40000000)
            ptrace(12, pid, 0, registers_at)
            registers[16] += 2
            ptrace(13, pid, 0, registers_at)

    def steps(self, count: int) -> float:
        """Microseconds a step, in Python: SINGLESTEP, waitpid, GETREGS."""
        return turn_cost(self._step, count)

    def _step(self, count: int) -> None:
        ptrace, waitpid, pid, registers = self._ptrace, self._waitpid, self._pid, self._registers
        status = ctypes.c_int()
        status_at, registers_at = ctypes.addressof(status), ctypes.addressof(registers)
        for _ in range(count):
            ptrace(9, pid, 0, 0)
            waitpid(pid, status_at, 0x40000000)
            ptrace(12, pid, 0, registers_at)

    @property
    def place(self) -> int:
        """RIP - ``CODE_AT`` at the last stop."""
        return self._registers[16] - CODE_AT

    def c(self, count: int) -> float:
        """``python`` in C."""
        loops = c_loops()
        assert loops is not None
        return turn_cost(lambda turns: loops.ptrace_exits(self._pid, ctypes.c_long(turns)), count)


@contextmanager
def ptrace_exits(code: bytes = OUT_FOR_EVER) -> Iterator[PtraceExits]:
    """A process that executes ``code``. Raises UnavailableError where ptrace is refused."""
    from cores.engines.ptrace import linux, stub
    from cores.engines.ptrace.host_support import tsc_traps_cheaply
    from cores.engines.ptrace.process import SYSCALL_NONE, USER_CS, USER_SS, VcpuProcess
    from cores.pc.ram import PAGE, Ram

    ram, twin = Ram(PAGE), Ram(PAGE)
    ram.view[: len(code)] = code
    process = None
    try:
        process = VcpuProcess(ram.fd, twin.fd, tsc_traps=tsc_traps_cheaply())
        rights, how = (
            linux.PROT_READ | linux.PROT_EXEC,
            linux.MAP_SHARED | linux.MAP_FIXED,
        )
        process.syscall(linux.SYS_MMAP, CODE_AT, PAGE, rights, how, stub.RAM_FD, 0)
        linux.USER_REGS.pack_into(
            process.tracee.registers, 0,
            *[0] * 15, SYSCALL_NONE, CODE_AT, USER_CS, 0x202, 0, USER_SS, *[0] * 6,
        )  # fmt: skip
        process.tracee.put()
        yield PtraceExits(process.pid)
    finally:
        if process is not None:
            process.kill()
        ram.close()
        twin.close()


def kvm_exits(vcpu: int, count: int) -> float:
    """Microseconds a KVM_RUN of a guest that does nothing but `out`, in Python."""
    import fcntl  # Linux alone has what follows

    def loop(turns: int) -> None:
        for _ in range(turns):
            fcntl.ioctl(vcpu, 0xAE80)

    return turn_cost(loop, count)


def kvm_exits_in_c(vcpu: int, count: int) -> float:
    """The same in C."""
    loops = c_loops()
    assert loops is not None
    return turn_cost(lambda turns: loops.kvm_exits(vcpu, ctypes.c_long(turns)), count)


def spin(turns: int) -> float:
    """Seconds of `mov ecx, turns; 1: dec ecx; jnz 1b; ret`, called as a function in this process."""
    code = b"\xb9" + turns.to_bytes(4, "little") + bytes.fromhex("ffc9 75fc c3")
    with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as page:
        page.write(code)
        anchor = ctypes.c_char.from_buffer(page)
        call = ctypes.CFUNCTYPE(None)(ctypes.addressof(anchor))
        began = perf_counter()
        call()
        seconds = perf_counter() - began
        del call, anchor  # they would keep the page from closing
    return seconds
