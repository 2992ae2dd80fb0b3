"""Linux through ctypes: ptrace(2), waitpid(2) and the constants for the vCPU process.

The only file of this engine that may use ctypes. It has no knowledge of guests.

There are two kinds of calls. Those of a ``PyDLL`` keep Python's lock: they return within microseconds,
and releasing and acquiring the lock costs more than they do. Those of a ``CDLL`` release it: waits that
may last.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import struct
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from cores.engines.ptrace import compound_call
from cores.engines.ptrace.compound_call import Call

# ptrace(2), linux/ptrace.h, asm/ptrace-abi.h
PTRACE_PEEKDATA = 2
PTRACE_POKEDATA = 5
PTRACE_POKEUSER = 6
PTRACE_CONT = 7
PTRACE_SINGLESTEP = 9
PTRACE_GETREGS = 12
PTRACE_SETREGS = 13
PTRACE_GETFPREGS = 14
PTRACE_SETFPREGS = 15
PTRACE_SYSEMU = 31
PTRACE_SYSEMU_SINGLESTEP = 32
PTRACE_GETSIGINFO = 0x4202
PTRACE_GETREGSET = 0x4204
PTRACE_SETREGSET = 0x4205
PTRACE_SEIZE = 0x4206
PTRACE_INTERRUPT = 0x4207
PTRACE_O_TRACESYSGOOD = 1
PTRACE_O_EXITKILL = 1 << 20
PTRACE_EVENT_STOP = 128
NT_X86_XSTATE = 0x202
WALL = 0x40000000

# system calls made inside the vCPU process, asm/unistd_64.h
SYS_MMAP = 9
SYS_MUNMAP = 11
SYS_RT_SIGACTION = 13
SYS_ALARM = 37
SYS_SETITIMER = 38
SYS_CAPSET = 126
SYS_MODIFY_LDT = 154
SYS_PRCTL = 157
SYS_SECCOMP = 317
SYS_CLOSE_RANGE = 436

PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4
MAP_SHARED, MAP_PRIVATE, MAP_FIXED, MAP_POPULATE = 1, 2, 0x10, 0x8000
ITIMER_VIRTUAL = 1
PR_SET_PDEATHSIG = 1
PR_SET_TSC, PR_TSC_SIGSEGV = 26, 2
PR_SET_NO_NEW_PRIVS = 38
PR_CAPBSET_DROP = 24
CAPABILITY_VERSION_3 = 0x20080522
MOST_CAPABILITIES = 64
SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_SPEC_ALLOW = 4
MFD_EXEC = 0x10

# siginfo_t.si_code, asm-generic/siginfo.h
SI_KERNEL = 0x80
SEGV_MAPERR, SEGV_ACCERR, SEGV_PKUERR = 1, 2, 4
BUS_ADRALN, BUS_ADRERR = 1, 2
FPE_INTDIV = 1
TRAP_BRKPT, TRAP_TRACE, TRAP_HWBKPT = 1, 2, 4
SIGSYS_BY_FILTER = 1

USER_REGS = struct.Struct("<27Q")
"""struct user_regs_struct (sys/user.h), 216 bytes."""
USER_REG_NAMES = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi",
    "rdi", "orig_rax", "rip", "cs", "rflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs",
)  # fmt: skip
"""Its fields in order."""
ORIG_RAX, RIP, CS, FLAGS, RSP = 15, 16, 17, 18, 19
"""Places in it."""

DEBUG_REGISTERS = 848
"""offsetof(struct user, u_debugreg), for PTRACE_POKEUSER."""

STOPPED_SYSCALL = (signal.SIGTRAP | 0x80) << 8 | 0x7F
"""Wait status of a system call that PTRACE_SYSEMU stopped (PTRACE_O_TRACESYSGOOD)."""

FXSAVE_SIZE = 512
"""sizeof(struct user_fpregs_struct): an FXSAVE64 image (SDM vol. 1, 10.5.1)."""

_XSTATE_ROOM = 16384  # with AVX-512 and AMX about 11 KiB
_SIGINFO = struct.Struct("<iii4xQ")  # si_signo, si_errno, si_code, si_addr
_SIGINFO_SIZE = 128


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


_held = ctypes.PyDLL(None, use_errno=True)
_free = ctypes.CDLL(None, use_errno=True)

_ptrace = _held.ptrace
_ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_ulong, ctypes.c_ulong)
_ptrace.restype = ctypes.c_long

_waits = (_held.waitpid, _free.waitpid)
for _wait in _waits:
    _wait.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
    _wait.restype = ctypes.c_int
_Wait: TypeAlias = Callable[[int, int, int], int]
"""waitpid(2), with Python's lock kept or released: process, address of the wait status, options."""
_wait_held: _Wait = _waits[0]
_wait_free: _Wait = _waits[1]

sched_getcpu = _held.sched_getcpu
"""The CPU that this thread runs on; costs a tenth of a microsecond."""
sched_getcpu.argtypes = ()
sched_getcpu.restype = ctypes.c_int


def ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> None:
    """One ptrace request. Raises OSError; ProcessLookupError when the process is no longer held."""
    if _ptrace(request, pid, address, data) == -1:
        code = ctypes.get_errno()
        raise OSError(code, f"ptrace request {request}: {os.strerror(code)}")


class Tracee:
    """One process held by ptrace; only the thread that seized it may use this object.

    registers: struct user_regs_struct, as the last stop was read or the next ``put`` writes it.
    words: the block of the compound call, with these registers in it (compound_call.py).
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        block = bytearray(8 * compound_call.WORDS)
        self.at = _address(block)
        self.words = memoryview(block).cast("Q")
        self.registers = memoryview(block)[8 * compound_call.REGISTERS : 8 * compound_call.SIGNAL]
        self._siginfo = memoryview(block)[8 * compound_call.SIGNAL :]
        self._registers = self.at + 8 * compound_call.REGISTERS
        self._siginfo_at = self.at + 8 * compound_call.SIGNAL
        self._status = ctypes.c_int()
        self._status_at = ctypes.addressof(self._status)
        self.words[compound_call.PID] = pid
        self.call_briefly: Call = partial(self._one_by_one, _wait_held)
        self.call: Call = partial(self._one_by_one, _wait_free)
        if (calls := compound_call.calls()) is not None:
            self.call_briefly, self.call = calls

    def seize(self) -> None:
        """Seize and stop the process; it is killed when this thread ends. Raises OSError."""
        ptrace(PTRACE_SEIZE, self.pid, 0, PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD)
        ptrace(PTRACE_INTERRUPT, self.pid)

    def enter(
        self, request: int, *, put: bool, briefly: bool = False
    ) -> tuple[int, tuple[int, ...], int, int]:
        """Resume it by ``request`` (PTRACE_SYSEMU, SYSEMU_SINGLESTEP or CONT), and wait for its stop:
        wait status, registers, si_code and si_addr (0, 0 where no signal stopped it). put: write
        ``registers`` first. briefly: keep Python's lock."""
        words = self.words
        words[compound_call.REQUEST] = request
        words[compound_call.PUT] = put
        words[compound_call.WANT_SIGNAL] = True
        status = (self.call_briefly if briefly else self.call)(self.at)
        if status < 0:
            status = self.wait_again(-status, _wait_held if briefly else _wait_free)
        _, _, code, address = _SIGINFO.unpack_from(self._siginfo)
        return status, USER_REGS.unpack(self.registers), code, address

    def enter_briefly(self, request: int, *, put: bool) -> tuple[int, tuple[int, ...]]:
        """``enter``, briefly and without reading the signal (0.4 us less): wait status and registers.
        ``signal_info`` reads it."""
        words = self.words
        words[compound_call.REQUEST] = request
        words[compound_call.PUT] = put
        words[compound_call.WANT_SIGNAL] = False
        status = self.call_briefly(self.at)
        if status < 0:
            status = self.wait_again(-status, _wait_held)
        return status, USER_REGS.unpack(self.registers)

    def stopped(self) -> tuple[tuple[int, ...], int, int]:
        """Registers, si_code and si_addr of a stop whose signal the compound call has not read."""
        return USER_REGS.unpack(self.registers), *self.signal_info()

    def wait_again(self, error: int, wait: _Wait = _wait_free) -> int:
        """After an ``error`` of the compound call: wait for the stop, and read registers and signal.
        Gives the wait status. Raises OSError where it was not a signal for this process."""
        if error != errno.EINTR:
            raise OSError(error, os.strerror(error))
        status = self._wait(wait)
        if status & 0xFF == 0x7F:
            self.get()
            self.signal_info()
        return status

    def _one_by_one(self, wait: _Wait, at: int) -> int:
        """What the compound call does, by a call of Python's for each."""
        words, pid = self.words, self.pid
        request = words[compound_call.REQUEST]
        if words[compound_call.PUT] and _ptrace(PTRACE_SETREGS, pid, 0, self._registers) == -1:
            return -ctypes.get_errno()
        if _ptrace(request, pid, 0, 0) == -1 or wait(pid, self._status_at, WALL) == -1:
            return -ctypes.get_errno()
        _ptrace(PTRACE_GETREGS, pid, 0, self._registers)
        if words[compound_call.WANT_SIGNAL]:
            self.signal_info()
        return self._status.value

    def resume(self, request: int, signal: int = 0) -> None:
        """Resume it: ``request`` is PTRACE_CONT, SYSEMU, SINGLESTEP or SYSEMU_SINGLESTEP."""
        if _ptrace(request, self.pid, 0, signal) == -1:
            self._gone()

    def wait_briefly(self) -> int:
        """Wait for the next wait status, keeping Python's lock."""
        return self._wait(_wait_held)

    def wait(self) -> int:
        """Wait for the next wait status, with Python's lock released."""
        return self._wait(_wait_free)

    def look(self) -> tuple[int, ...]:
        """What ``get`` reads, without a change of ``registers``."""
        seen = bytearray(USER_REGS.size)
        ptrace(PTRACE_GETREGS, self.pid, 0, _address(seen))
        return USER_REGS.unpack(seen)

    def get(self) -> tuple[int, ...]:
        """Read all registers, in the order of ``USER_REGS``."""
        if _ptrace(PTRACE_GETREGS, self.pid, 0, self._registers) == -1:
            self._gone()
        return USER_REGS.unpack(self.registers)

    def put(self) -> None:
        """Write ``registers`` into the process."""
        if _ptrace(PTRACE_SETREGS, self.pid, 0, self._registers) == -1:
            self._gone()

    def signal_info(self) -> tuple[int, int]:
        """(si_code, si_addr) of the signal that stopped it; (0, 0) where there is none."""
        if _ptrace(PTRACE_GETSIGINFO, self.pid, 0, self._siginfo_at) == -1:
            self._siginfo[:] = bytes(_SIGINFO_SIZE)
        _, _, code, address = _SIGINFO.unpack_from(self._siginfo)
        return code, address

    def peek(self, address: int, length: int) -> bytes:
        """Memory of the process, protected or not; shorter where a page is missing."""
        start = address & ~7  # an aligned word never lies across two pages
        found = bytearray()
        for at in range(start, address + length, 8):
            ctypes.set_errno(0)
            word = _ptrace(PTRACE_PEEKDATA, self.pid, at, 0)  # glibc returns the word itself
            if word == -1 and ctypes.get_errno():
                break
            found += (word & 0xFFFF_FFFF_FFFF_FFFF).to_bytes(8, "little")
        return bytes(found[address - start : address - start + length])

    def peek_pair(self, address: int) -> int:
        """Two bytes of its memory as a number, all ones where a page is missing. 0.7 us."""
        if address & 7 == 7:
            return int.from_bytes(self.peek(address, 2).ljust(2, b"\xff"), "little")
        word: int = _ptrace(PTRACE_PEEKDATA, self.pid, address & ~7, 0)
        return word >> 8 * (address & 7) & 0xFFFF

    def poke(self, address: int, data: bytes) -> None:
        """Write whole words to its memory, protected or not. Raises OSError where there is none."""
        for at in range(0, len(data), 8):
            word = int.from_bytes(data[at : at + 8], "little")
            ptrace(PTRACE_POKEDATA, self.pid, address + at, word)

    def clear_bit(self, address: int, bit: int) -> None:
        """Clear a bit of one byte of its writable memory. Raises OSError where there is none."""
        word = int.from_bytes(self.peek(address & ~7, 8), "little")
        word &= ~(1 << 8 * (address & 7) + bit)
        ptrace(PTRACE_POKEDATA, self.pid, address & ~7, word)

    def set_debug_register(self, number: int, value: int) -> None:
        """DR0-DR7. Raises OSError where the kernel has no hardware breakpoints."""
        ptrace(PTRACE_POKEUSER, self.pid, DEBUG_REGISTERS + 8 * number, value)

    def get_fxsave(self) -> bytearray:
        """x87 and SSE state, 512 bytes."""
        image = bytearray(FXSAVE_SIZE)
        ptrace(PTRACE_GETFPREGS, self.pid, 0, _address(image))
        return image

    def get_xstate(self) -> bytearray:
        """All extended state as XSAVE lays it out (SDM vol. 1, 13.4)."""
        area = bytearray(_XSTATE_ROOM)
        iovec = _Iovec(_address(area), len(area))
        ptrace(PTRACE_GETREGSET, self.pid, NT_X86_XSTATE, ctypes.addressof(iovec))
        del area[iovec.length :]
        return area

    def set_xstate(self, area: bytearray) -> None:
        """Set the extended state; ``area`` must have the length that ``get_xstate`` returns."""
        iovec = _Iovec(_address(area), len(area))
        ptrace(PTRACE_SETREGSET, self.pid, NT_X86_XSTATE, ctypes.addressof(iovec))

    def _wait(self, wait: _Wait) -> int:
        while wait(self.pid, self._status_at, WALL) == -1:
            if ctypes.get_errno() != errno.EINTR:
                self._gone()
        return self._status.value

    def _gone(self) -> None:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def duplicate_above(fd: int, lowest: int) -> int:
    """A close-on-exec copy of a descriptor, numbered above ``lowest``."""
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest + 1)


def _address(buffer: bytearray) -> int:
    """The address of a bytearray's bytes; valid while its length does not change."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))
