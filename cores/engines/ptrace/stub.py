"""The stub: the program that a vCPU process starts as. It makes two system calls and pauses; later the
VMM makes system calls in the process through its ``syscall`` instruction.

It is given as bytes, so that the engine needs neither compiler nor assembler. When the VMM has seized
the process, only the stub's region stays; everything else that a Linux process has (stack, vdso,
descriptors) is removed, and a seccomp filter allows only the VMM's own mmap and munmap.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Sequence

from cores.engines.ptrace import linux

PAGE = 4096

CODE = 0x6000_0000_0000 + PAGE * secrets.randbelow(1 << 32)
"""Address of the stub's code page. It is drawn anew in each run, so that no guest uses it by accident,
and far below the host's stack and vdso, so that these cannot overlap it when the process starts."""

DATA = CODE + PAGE
FRAME_SIZE = 4 * PAGE  # holds a signal frame with the largest extended state
REGION = range(CODE, DATA + PAGE + FRAME_SIZE)
"""All addresses of the stub. The VMM refuses to map a guest's pages there (``reaches``)."""

DESCRIPTOR = DATA + PAGE - 64
"""Room in the data page for struct user_desc, the argument of modify_ldt(2)."""
DESCRIPTOR_SIZE, WRITE_DESCRIPTOR = 16, 0x11

FRAME_TOP = REGION.stop - 64
"""A stack for the kernel to write a signal frame to; see ``VcpuProcess.last_trap``."""

RAM_FD, TWIN_FD = 0, 1
"""The only descriptors left open: guest RAM, and its twin for patched code."""

_BOOT = bytes.fromhex(
    "b8 25 00 00 00"  # mov eax, 37          alarm: should the VMM die before it holds this process,
    "bf 3c 00 00 00"  # mov edi, 60          a minute ends it; on a busy computer five seconds were few
    "0f 05"  #          syscall
    "b8 9d 00 00 00"  # mov eax, 157         prctl(PR_SET_PDEATHSIG, SIGKILL)
    "bf 01 00 00 00"  # mov edi, 1
    "be 09 00 00 00"  # mov esi, 9
    "0f 05"  #          syscall
    "b8 22 00 00 00"  # mov eax, 34          pause, until held
    "0f 05"  #          syscall
    "eb f7"  #          jmp -9
)
_GATE = bytes.fromhex(
    "0f 05"  #          syscall              driven by the VMM: registers set, then PTRACE_CONT
    "cc"  #             int3                 and back
    "cc"  #             int3                 the handler of signals that are let through on purpose
)

GATE = CODE + len(_BOOT)
"""RIP of the one `syscall` instruction that seccomp allows."""
GATE_DONE = GATE + 3
"""RIP after the int3 that ends an injected system call."""
HANDLER = GATE + 3
"""RIP of the signal handler; never executed, it only makes the kernel write a frame."""

SA_SIGINFO, SA_RESTORER, SA_NODEFER = 4, 0x04000000, 0x40000000

# BPF, linux/bpf_common.h and linux/seccomp.h
_LOAD, _EQUAL, _SET, _RETURN = 0x20, 0x15, 0x45, 0x06  # LD|W|ABS, JMP|JEQ|K, JMP|JSET|K, RET|K
_ALLOW, _TRAP = 0x7FFF0000, 0x00030000
_AUDIT_ARCH_X86_64 = 0xC000003E
_MMAP_FLAGS = linux.MAP_SHARED | linux.MAP_PRIVATE | linux.MAP_FIXED | linux.MAP_POPULATE
_NUMBER, _ARCH, _POINTER, _ARGUMENTS = 0, 4, 8, 16  # offsets in struct seccomp_data


def seccomp_program() -> list[tuple[int, int, int, int]]:
    """The filter, as (code, jump if true, jump if false, k). It allows munmap, mmap of guest RAM at a
    fixed address, and modify_ldt of the descriptor at ``DESCRIPTOR``, all from the instruction at
    ``GATE``, and refuses everything else with SIGSYS."""
    after = GATE + 2  # seccomp sees RIP behind the syscall instruction
    low = _ARGUMENTS  # the arguments are 64 bits; only the lower halves of these are checked
    checks: list[tuple[int, int, str]] = [
        (_ARCH, _AUDIT_ARCH_X86_64, "equal"),
        (_POINTER, after & 0xFFFFFFFF, "equal"),
        (_POINTER + 4, after >> 32, "equal"),
        (_NUMBER, linux.SYS_MUNMAP, "allow"),
        (_NUMBER, linux.SYS_MODIFY_LDT, "unless"),  # the next four are for modify_ldt alone
        (low, WRITE_DESCRIPTOR, "equal"),
        (low + 8, DESCRIPTOR & 0xFFFFFFFF, "equal"),
        (low + 12, DESCRIPTOR >> 32, "equal"),
        (low + 16, DESCRIPTOR_SIZE, "allow"),
        (_NUMBER, linux.SYS_MMAP, "equal"),
        (low + 8 * 2, 0xFFFFFFF8, "clear"),  # prot
        (low + 8 * 3, 0xFFFFFFFF & ~_MMAP_FLAGS, "clear"),
        (low + 8 * 3, linux.MAP_FIXED, "set"),
        (low + 8 * 4, 0xFFFFFFFE, "clear"),  # fd: 0 or 1
    ]
    refuse = 2 * len(checks) + 1  # index of the last but one statement is the permission
    program = []
    for offset, value, kind in checks:
        program.append((_LOAD, 0, 0, offset))
        onward = refuse - len(program) - 1
        if kind == "equal":
            program.append((_EQUAL, 0, onward, value))
        elif kind == "clear":
            program.append((_SET, onward, 0, value))
        elif kind == "set":  # one bit: JSET asks for any of several
            program.append((_SET, 0, onward, value))
        elif kind == "unless":
            program.append((_EQUAL, 0, 2 * _FOR_ONE, value))
        else:
            program.append((_EQUAL, onward - 1, 0, value))
    return [*program, (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _TRAP)]


_FOR_ONE = 4
"""Checks that a number other than modify_ldt's skips."""

HEARTBEAT = 100_000
"""Microseconds of the guest's CPU time after which SIGVTALRM stops it, so that no wait is unlimited."""


def _data() -> tuple[bytes, int, int, int, int]:
    """The data page: (bytes, addresses of struct sock_fprog, struct sigaction, struct itimerval, and
    struct __user_cap_header_struct, behind which __user_cap_data_struct[2] names no capability)."""
    statements = b"".join(struct.pack("<HBBI", *s) for s in seccomp_program())
    fprog = struct.pack("<H6xQ", len(statements) // 8, DATA)
    action = struct.pack("<QQQQ", HANDLER, SA_SIGINFO | SA_RESTORER | SA_NODEFER, HANDLER, 0)
    timer = struct.pack("<QQQQ", 0, HEARTBEAT, 0, HEARTBEAT)
    filter_at = DATA + len(statements)
    action_at = filter_at + len(fprog)
    timer_at = action_at + len(action)
    capabilities = struct.pack("<Ii", linux.CAPABILITY_VERSION_3, 0) + bytes(24)
    parts = statements, fprog, action, timer, capabilities
    return b"".join(parts), filter_at, action_at, timer_at, timer_at + len(timer)


_DATA, FILTER, ACTION, TIMER, CAPABILITIES = _data()
"""FILTER, ACTION, TIMER, CAPABILITIES: addresses in the stub of the arguments of seccomp(2),
rt_sigaction(2), setitimer(2) and capset(2)."""


def _program_header(kind: int, flags: int, offset: int, address: int, size: int, room: int) -> bytes:
    return struct.pack("<IIQQQQQQ", kind, flags, offset, address, address, size, room, PAGE)


def elf() -> bytes:
    """The stub as a static ELF64 executable.

    Its code segment is executable and not readable: where the CPU has protection keys, a guest cannot
    read it. Elsewhere a guest may read that page, which holds no secret.
    """
    executable, read_write = 1, 6
    load, stack = 1, 0x6474E551  # PT_LOAD, PT_GNU_STACK: no executable memory by default
    headers: Sequence[bytes] = (
        _program_header(load, executable, PAGE, CODE, PAGE, PAGE),
        _program_header(load, read_write, 2 * PAGE, DATA, len(_DATA), PAGE + FRAME_SIZE),
        _program_header(stack, read_write, 0, 0, 0, 0),
    )
    identity = b"\x7fELF\x02\x01\x01" + bytes(9)  # 64 bits, little endian, version 1
    header = identity + struct.pack(
        "<HHIQQQIHHHHHH", 2, 62, 1, CODE, 64, 0, 0, 64, 56, len(headers), 64, 0, 0
    )  # fmt: skip
    image = bytearray((header + b"".join(headers)).ljust(PAGE, b"\0"))
    image += (_BOOT + _GATE).ljust(PAGE, b"\xcc")
    return bytes(image + _DATA)
