"""One vCPU host process: a Linux process whose only resource is guest RAM.

    started   posix_spawn of the stub (stub.py), seized by ptrace so that it dies with its tracer
    stripped  stack, vdso and descriptors removed, resources limited, rdtsc made to fault where that is
              cheap, and last of all a seccomp filter
    entered   guest registers in; PTRACE_SYSEMU or SYSEMU_SINGLESTEP; stop; guest registers out.
              SYSEMU stops each system call *before* the kernel executes it
    killed    on close, at the interpreter's exit, and by the kernel when the tracer dies

Between two entries the VMM itself makes system calls in the process, to map and unmap guest RAM, with
the stub's registers and never with the guest's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import struct
import threading
import weakref

from cores.engines.ptrace import cpu_affinity, linux, stub
from cores.engines.ptrace.compound_call import PUT, REGISTERS, REQUEST, WANT_SIGNAL

from ...errors import UnavailableError

STOPPED_STEP = (signal.SIGTRAP << 8) | 0x7F
"""Wait status after a single step (and after any other SIGTRAP)."""
KICK = signal.SIGUSR1
"""The signal that interrupts a running guest. Not a real-time one: those queue, and one is enough."""

USER_CS, USER_SS = 0x33, 0x2B
TASK_END = 0x7FFF_FFFF_F000
"""End of what a process can map with 48-bit addresses (TASK_SIZE_MAX)."""

SYSCALL_NONE = 0xFFFF_FFFF_FFFF_FFFF
"""orig_rax of a process that is in no system call, so that the kernel does not restart one."""

LIMITS = (resource.RLIMIT_CORE, resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE)
"""Resource limits set to zero: the process dumps no core, starts no process, and extends no file."""

_RIP = 16  # place in USER_REGS
_RAX_WORD, _RIP_WORD = REGISTERS + 10, REGISTERS + _RIP  # places in ``Tracee.words``
_ERROR_CODE, _TRAP_NUMBER, _CR2 = 200, 208, 224  # in a signal frame, from rsp (struct sigcontext_64)
_XFEATURES = 512  # XSTATE_BV, SDM vol. 1, 13.4.2
_X87_AND_SSE, _PKRU = 3, 1 << 9
_OF_A_FILE = 1 << 61
"""In an entry of /proc/PID/pagemap: the page is the file's, or shared. The two bits above: it is in
memory, or swapped out."""


_buffer = bytearray(256 << 10)
"""What ``copy_to`` has in hand: small enough for the CPU's second cache."""


class VcpuProcess:
    """A stripped process with guest RAM as its only descriptor, stopped and ready for entry.

    tsc_traps: RDTSC and RDTSCP fault in it (PR_SET_TSC).

    Raises UnavailableError when the host refuses, with the reason as a sentence.
    """

    def __init__(self, ram_fd: int, twin_fd: int, *, tsc_traps: bool) -> None:
        self.pid, self._pidfd = _spawn(ram_fd, twin_fd)
        self._finalizer = weakref.finalize(self, _end, self.pid, self._pidfd, os.getpid())
        self._lock = threading.Lock()  # so that kick never meets a closed or recycled pidfd
        self.tracee = linux.Tracee(self.pid)
        self.near = -1  # the CPU to which it is bound; -1: none
        self._cpus = cpu_affinity.cpus()
        try:
            self._hold()
            self._strip(tsc_traps=tsc_traps)
        except BaseException:
            self.kill()
            raise

    def syscall(self, number: int, *arguments: int) -> int:
        """Make one system call in the process; returns its result, negative errno on failure.

        Overwrites all registers: the guest's must be loaded anew. Raises OSError when the process is
        gone.
        """
        a = (*arguments, 0, 0, 0, 0, 0, 0)
        tracee = self.tracee
        linux.USER_REGS.pack_into(
            tracee.registers, 0,
            0, 0, 0, 0, 0, 0, 0, a[3], a[5], a[4], number, 0, a[2], a[1], a[0],
            SYSCALL_NONE, stub.GATE, USER_CS, 0x202, stub.FRAME_TOP, USER_SS, 0, 0, 0, 0, 0, 0,
        )  # fmt: skip
        words = tracee.words
        words[REQUEST], words[PUT], words[WANT_SIGNAL] = linux.PTRACE_CONT, True, False
        while True:
            status = tracee.call_briefly(tracee.at)
            if status < 0:
                status = tracee.wait_again(-status)
            if status & 0xFF != 0x7F:
                raise ProcessLookupError(describe_end(status))
            if status == STOPPED_STEP and words[_RIP_WORD] == stub.GATE_DONE:
                break  # anything else is a kick, or a signal from outside
            words[PUT] = False
        result = words[_RAX_WORD]
        return result - (1 << 64) if result >> 63 else result

    def set_descriptor(self, number: int, base: int, limit: int, flags: int) -> int:
        """Enter a segment into the local descriptor table (modify_ldt(2)): 0, or negative errno.
        limit: 20 bits. flags: the bits of struct user_desc behind it (asm/ldt.h). Overwrites all
        registers, as ``syscall`` does."""
        self.tracee.poke(stub.DESCRIPTOR, struct.pack("<4I", number, base, limit, flags))
        result = self.syscall(
            linux.SYS_MODIFY_LDT, stub.WRITE_DESCRIPTOR, stub.DESCRIPTOR, stub.DESCRIPTOR_SIZE
        )
        return (result & 0xFFFFFFFF ^ 1 << 31) - (1 << 31)  # the kernel gives an int

    def last_trap(self) -> tuple[int, int, int]:
        """(error code, vector, CR2) of the exception that has just stopped it.

        ptrace does not report these, but the kernel writes them into the frame of a signal handler. So
        the signal is delivered, with RSP at a page of the stub, and the process stopped before the
        handler's first instruction. Afterwards registers must be loaded anew; extended state, which the
        kernel resets for a handler, is restored here. About 20 us.
        """
        tracee = self.tracee
        xstate = tracee.get_xstate()
        registers = list(tracee.get())
        registers[15:21] = SYSCALL_NONE, stub.GATE, USER_CS, 0x202, stub.FRAME_TOP, USER_SS
        linux.USER_REGS.pack_into(tracee.registers, 0, *registers)
        tracee.put()
        tracee.resume(linux.PTRACE_SINGLESTEP, signal.SIGSEGV)
        status = tracee.wait_briefly()
        stopped = tracee.get() if status == STOPPED_STEP else ()
        if not stopped or stopped[_RIP] != stub.HANDLER:
            raise OSError(f"no signal frame: wait status {status:#x}")
        frame = tracee.peek(stopped[19] + _ERROR_CODE, _CR2 - _ERROR_CODE + 8)
        tracee.set_xstate(xstate)
        words = [int.from_bytes(frame[at : at + 8], "little") for at in (0, 8, _CR2 - _ERROR_CODE)]
        return words[0], words[1], words[2]

    def knows_copies(self) -> bool:
        """Does the kernel tell of private copies, to ``copied``?"""
        return os.access(f"/proc/{self.pid}/pagemap", os.R_OK)

    def copied(self, address: int, pages: int) -> list[int]:
        """The numbers of the pages from ``address`` on, of a private mapping of a file, of which the
        process has a copy of its own (proc_pid_pagemap(5)). Raises OSError when it is gone."""
        with open(f"/proc/{self.pid}/pagemap", "rb", buffering=0) as file:
            entries = struct.unpack(f"<{pages}Q", os.pread(file.fileno(), 8 * pages, address >> 9))
        return [n for n, entry in enumerate(entries) if entry >> 62 and not entry & _OF_A_FILE]

    def copy_to(self, fd: int, offset: int, address: int, length: int) -> None:
        """Copy its memory into a file. Raises OSError when it is gone.

        By a buffer: into a mapping of the file the kernel copies page by page, with a fault at each,
        and takes twice the time."""
        with open(f"/proc/{self.pid}/mem", "rb", buffering=0) as file:
            for done in range(0, length, len(_buffer)):
                block = memoryview(_buffer)[: length - done]
                if os.preadv(file.fileno(), [block], address + done) != len(block):
                    raise OSError("memory of the vCPU process is missing")
                if os.pwrite(fd, block, offset + done) != len(block):
                    raise OSError("the host has no room for the guest's RAM")

    def read_fpu(self) -> bytearray:
        """The FXSAVE image of the CPU's state."""
        return self.tracee.get_fxsave()

    def write_fpu(self, image: bytes) -> None:
        """Load an FXSAVE image; AVX and later state gets its initial value."""
        area = self.tracee.get_xstate()
        features = int.from_bytes(area[_XFEATURES : _XFEATURES + 8], "little")
        area[: linux.FXSAVE_SIZE - 48] = image[: linux.FXSAVE_SIZE - 48]  # the rest is the kernel's
        area[26:28] = bytes(2)  # MXCSR bits that no CPU has would be refused
        kept = _X87_AND_SSE | features & _PKRU  # PKRU guards the stub
        area[_XFEATURES : _XFEATURES + 8] = kept.to_bytes(8, "little")
        self.tracee.set_xstate(area)

    def stay_near(self) -> None:
        """Bind the process and this thread to the thread's present CPU. While one of the two runs, the
        other waits; on two CPUs each stop would wake a sleeping CPU."""
        here = linux.sched_getcpu()
        if here != self.near:
            self._bind({here})
            self.near = here
            cpu_affinity.hold(here)

    def roam(self) -> None:
        """Let the scheduler place the process and this thread."""
        if self.near >= 0:
            self._bind(self._cpus)
            self.near = -1
            cpu_affinity.release()

    def _bind(self, cpus: set[int]) -> None:
        with contextlib.suppress(OSError):  # a matter of speed only
            os.sched_setaffinity(self.pid, cpus)

    def kick(self) -> None:
        """Stop it if it runs, or as soon as it does. May be called from any thread."""
        with self._lock, contextlib.suppress(ProcessLookupError):
            if self._finalizer.alive:
                signal.pidfd_send_signal(self._pidfd, KICK)

    def kill(self) -> None:
        """Kill and reap it. May be called from any thread; a second call has no effect."""
        with self._lock:
            self._finalizer()

    def _hold(self) -> None:
        try:
            self.tracee.seize()
            status = self.tracee.wait_briefly()
        except OSError as error:
            raise UnavailableError(_refusal(error)) from error
        if status >> 16 != linux.PTRACE_EVENT_STOP:
            raise UnavailableError(f"the vCPU process did not stop: wait status {status:#x}")

    def _strip(self, *, tsc_traps: bool) -> None:
        """Remove everything that is not the guest's; the filter comes last."""
        # lesson: no-memory-but-its-own
        # Everything below the stub and above it is unmapped; every descriptor except the guest's two
        # memories is closed. Nothing is left to read or to write.
        self._demand("munmap", linux.SYS_MUNMAP, 0, stub.REGION.start)
        self._demand("munmap", linux.SYS_MUNMAP, stub.REGION.stop, TASK_END - stub.REGION.stop)
        self._demand("close_range", linux.SYS_CLOSE_RANGE, stub.TWIN_FD + 1, 0xFFFFFFFF, 0)

        self._demand("alarm", linux.SYS_ALARM, 0)
        self._demand("setitimer", linux.SYS_SETITIMER, linux.ITIMER_VIRTUAL, stub.TIMER, 0)
        self._demand("prctl", linux.SYS_PRCTL, linux.PR_SET_PDEATHSIG, signal.SIGKILL)
        if tsc_traps:
            self._demand("prctl", linux.SYS_PRCTL, linux.PR_SET_TSC, linux.PR_TSC_SIGSEGV)
        self._demand(
            "rt_sigaction", linux.SYS_RT_SIGACTION, signal.SIGSEGV, stub.ACTION, 0, 8
        )  # fmt: skip
        # CPUID is not made to fault (ARCH_SET_CPUID): the VMM detects it by itself, and Linux would
        # write an MSR at each switch between the two processes, so that in a virtual machine an exit
        # takes 42 us instead of 20.
        for limit in LIMITS:
            _forbid(self.pid, limit)
        self._drop_capabilities()
        # lesson: the-filter
        # Last of all a filter in the kernel: if ptrace ever fails, it refuses the guest's system calls.
        self._demand("prctl", linux.SYS_PRCTL, linux.PR_SET_NO_NEW_PRIVS, 1)
        self._demand(
            "seccomp", linux.SYS_SECCOMP, linux.SECCOMP_SET_MODE_FILTER,
            linux.SECCOMP_FILTER_FLAG_SPEC_ALLOW, stub.FILTER,
        )  # fmt: skip

    def _drop_capabilities(self) -> None:
        """Drop the capabilities of a process that root has started: the bounding set first, as only
        CAP_SETPCAP may empty it, then the process's own sets. The ambient set is a subset of the
        permitted one, so it is then empty, too (capabilities(7))."""
        for capability in range(linux.MOST_CAPABILITIES):
            if self.syscall(linux.SYS_PRCTL, linux.PR_CAPBSET_DROP, capability) < 0:
                break  # EPERM: it never had CAP_SETPCAP; EINVAL: the kernel has no more
        self._demand("capset", linux.SYS_CAPSET, stub.CAPABILITIES, stub.CAPABILITIES + 8)

    def _demand(self, name: str, number: int, *arguments: int) -> None:
        try:
            result = self.syscall(number, *arguments)
        except OSError as error:
            raise UnavailableError(f"{name} in the vCPU process: {error}") from error
        if result < 0:
            raise UnavailableError(
                f"this kernel refused {name} in the vCPU process ({os.strerror(-result)}); "
                "Linux 5.9 or newer is needed"
            )


def describe_end(status: int) -> str:
    """A sentence for the wait status of a process that has ended."""
    if os.WIFSIGNALED(status):
        return f"the vCPU process was killed (signal {os.WTERMSIG(status)})"
    return f"the vCPU process ended (status {os.waitstatus_to_exitcode(status)})"


def _refusal(error: OSError) -> str:
    """The reason why the host refuses ptrace, with the remedy."""
    scope = ""
    with contextlib.suppress(OSError), open("/proc/sys/kernel/yama/ptrace_scope") as file:
        scope = file.read().strip()
    if error.errno == errno.EPERM and scope in ("2", "3"):
        cure = "an administrator can set it to 1" if scope == "2" else "it stays so until a reboot"
        return f"this host forbids ptrace (kernel.yama.ptrace_scope is {scope}): {cure}"
    return (
        f"this host does not let a process hold another by ptrace ({os.strerror(error.errno or 0)}): "
        "in a container, allow the ptrace system call (docker: --cap-add SYS_PTRACE)"
    )


def _forbid(pid: int, limit: int) -> None:
    try:
        resource.prlimit(pid, limit, (0, 0))
    except OSError as error:
        raise UnavailableError(f"the vCPU process cannot be limited ({error.strerror})") from error


def _spawn(ram_fd: int, twin_fd: int) -> tuple[int, int]:
    """Start the stub from memory: (pid, pidfd). It has a process group of its own, so that Ctrl-C does
    not reach it."""
    held: list[int] = []
    try:
        image = _executable_memfd()
        held.append(image)
        os.write(image, stub.elf())
        for fd in (image, ram_fd, twin_fd):  # above the numbers of the two that it will have
            held.append(linux.duplicate_above(fd, stub.TWIN_FD))
        _, program, ram, twin = held
        pid = os.posix_spawn(
            f"/proc/self/fd/{program}", ["ringscope-vcpu"], {},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, ram, stub.RAM_FD), (os.POSIX_SPAWN_DUP2, twin, stub.TWIN_FD),
            ],
            setpgroup=0, setsigmask=(), setsigdef=signal.valid_signals(),
        )  # fmt: skip
        try:
            return pid, os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
    except OSError as error:
        raise UnavailableError(f"the vCPU process cannot be started ({error.strerror})") from error
    finally:
        for fd in held:
            os.close(fd)


def _executable_memfd() -> int:
    try:
        return os.memfd_create("ringscope-vcpu", os.MFD_CLOEXEC | linux.MFD_EXEC)
    except OSError:  # before Linux 6.3 there is no such flag, and every memfd is executable
        return os.memfd_create("ringscope-vcpu", os.MFD_CLOEXEC)


def _end(pid: int, pidfd: int, owner: int) -> None:
    """Kill and reap; SIGKILL ends a process in any ptrace stop."""
    if os.getpid() == owner:  # not in a fork of ours
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)  # fails if it has been reaped already
            while os.WIFSTOPPED(os.waitpid(pid, linux.WALL)[1]):
                pass
    os.close(pidfd)
