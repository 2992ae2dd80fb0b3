"""Probes of this host for the native trap engine; each is made once."""

from __future__ import annotations

import os
import sys
from functools import cache
from time import perf_counter

from cores.engines.ptrace import linux, stops
from cores.engines.ptrace.process import SYSCALL_NONE, USER_CS, USER_SS, VcpuProcess
from cores.errors import UnavailableError
from cores.pc.ram import PAGE, Ram

_CODE = 0x100000
_ROUND_TRIPS, _CHEAP = 24, 1.1
"""Exits timed, of which the fastest counts, and the most that they may take with RDTSC trapped in terms
of those without."""


@cache
def obstacle() -> str | None:
    """The reason why the engine cannot run on this host, as a sentence; None when it can. Starts a vCPU
    process and steps it: about 3 ms."""
    if sys.platform != "linux" or os.uname().machine != "x86_64" or sys.maxsize < 1 << 32:
        return f"it needs Linux on x86-64 (here: {sys.platform}, {os.uname().machine})"
    ram = Ram(PAGE)
    try:
        if ram.fd < 0:
            return "this host has no memfd, which RAM and a process could share"
        process = VcpuProcess(ram.fd, ram.fd, tsc_traps=False)
        try:
            return _trial(process, ram)
        finally:
            process.kill()
    except UnavailableError as error:
        return str(error)
    finally:
        ram.close()


def _trial(process: VcpuProcess, ram: Ram) -> str | None:
    """Try a single step, and a run to a hardware breakpoint, which REP instructions need."""
    tracee = process.tracee
    ram.view[:3] = b"\x90\x90\x90"
    try:
        _map_code(process)
        tracee.set_debug_register(0, _CODE + 2)
        tracee.set_debug_register(7, 1)
        ends = (linux.PTRACE_SYSEMU_SINGLESTEP, _CODE + 1), (linux.PTRACE_SYSEMU, _CODE + 2)
        for request, end in ends:
            tracee.resume(request)
            status = tracee.wait()
            if status & 0xFF != stops.STOPPED or tracee.get()[stops.RIP] != end:
                return f"stepping by ptrace does not work on this host (wait status {status:#x})"
    except OSError as error:
        return f"stepping by ptrace does not work on this host ({error})"
    return None


def _map_code(process: VcpuProcess) -> None:
    """Map the first page of RAM as code, and set RIP to it."""
    process.syscall(
        linux.SYS_MMAP, _CODE, PAGE, linux.PROT_EXEC, linux.MAP_SHARED | linux.MAP_FIXED, 0, 0
    )
    linux.USER_REGS.pack_into(
        process.tracee.registers, 0, *[0] * 15,
        SYSCALL_NONE, _CODE, USER_CS, 0x202, 0, USER_SS, 0, 0, 0, 0, 0, 0,
    )  # fmt: skip
    process.tracee.put()


@cache
def tsc_traps_cheaply() -> bool:
    """Do traps of RDTSC (PR_SET_TSC) leave the time of an exit as it is? Linux writes CR4.TSD at each
    switch between a process that has asked for them and one that has not. Where the host is a virtual
    machine whose hypervisor intercepts that write, it doubles the time of an exit. About 3 ms."""
    ram = Ram(PAGE)
    ram.view[:1] = b"\xf4"  # HLT: #GP at ring 3, with RIP unchanged
    processes = []
    try:
        for tsc_traps in (False, True):
            processes.append(VcpuProcess(ram.fd, ram.fd, tsc_traps=tsc_traps))
            _map_code(processes[-1])
        times: list[list[float]] = [[], []]
        for _ in range(_ROUND_TRIPS):
            for process, taken in zip(processes, times, strict=True):
                process.stay_near()
                began = perf_counter()
                process.tracee.resume(linux.PTRACE_SYSEMU)
                process.tracee.wait_briefly()
                taken.append(perf_counter() - began)
        without, with_traps = map(min, times)
        return with_traps < _CHEAP * without
    except (UnavailableError, OSError):
        return True  # the guest's own process will say why
    finally:
        for process in processes:
            process.roam()
            process.kill()
        ram.close()


@cache
def has_local_descriptors() -> bool:
    """Has this kernel modify_ldt(2), by which 16- and 32-bit code gets its segments? About 3 ms."""
    ram = Ram(PAGE)
    try:
        process = VcpuProcess(ram.fd, ram.fd, tsc_traps=False)
    except UnavailableError:
        return False
    try:
        return process.set_descriptor(0, 0, 0, 1 << 6) == 0
    finally:
        process.kill()
        ram.close()


def abilities() -> tuple[tuple[str, bool, str], ...]:
    """What `doctor` tells of this host: name, present, consequence."""
    present = has_local_descriptors()
    lack = "" if present else "a guest that leaves 64-bit mode stops with an error"
    return (("16- and 32-bit code (modify_ldt)", present, lack),)


@cache
def lowest_address() -> int:
    """The lowest address that is mapped for a guest. It applies to root, too: a null pointer must fault
    for every user alike."""
    try:
        with open("/proc/sys/vm/mmap_min_addr") as file:
            return max(int(file.read()), PAGE)
    except OSError:
        return 65536


@cache
def has_protection_keys() -> bool:
    """Do this CPU and kernel support execute-only pages (pkeys(7))?"""
    try:
        with open("/proc/cpuinfo") as file:
            flags = next((line for line in file if line.startswith("flags")), "")
    except OSError:
        return False
    return "ospke" in flags.split()


def cpu_of(pid: int) -> str:
    """The number of the CPU that a process ran on last, "" when it is gone (proc_pid_stat(5))."""
    fields = _stat(pid)
    return fields[36] if fields else ""


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, its own and the kernel's for it, in steps of a clock tick (utime and
    stime of proc_pid_stat(5)); 0 when it is gone."""
    fields = _stat(pid)
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on, none when the process is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []
