"""The compound call: write a process's registers, resume it, wait for its stop, read its registers.

An exit needs these four system calls and, where it is not known what stopped the process, a fifth,
which reads the signal. Through ctypes they take 13 us where C takes 10; here they are made by 157 bytes
of machine code, called once through ctypes, in 10.7. One of the few files that may use ctypes.

Where the host executes no machine code of ours (cores/engines/machine_code.py) ``Tracee`` makes the
same calls one by one, with the same results.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from mmap import mmap

from cores.engines import machine_code

# The block that both sides share: 64-bit words, then struct user_regs_struct and siginfo_t.
PID, REQUEST, PUT, WANT_SIGNAL, STATUS, REGISTERS, SIGNAL = 0, 1, 2, 3, 4, 5, 32
WORDS = SIGNAL + 16

_CODE = bytes.fromhex(
    # rdi: the shared block; gives the wait status, or -errno
    "53"                # push rbx
    "4889fb"            # mov  rbx, rdi
    "48837b1000"        # cmp  qword [rbx + 16], 0   write the registers first?
    "7418"              # je   resume
    "bf0d000000"        # mov  edi, PTRACE_SETREGS
    "488b33"            # mov  rsi, [rbx]            the process
    "4c8d5328"          # lea  r10, [rbx + 40]
    "b865000000"        # mov  eax, 101              ptrace
    "0f05"              # syscall
    "4885c0"            # test rax, rax
    "7878"              # js   end
    "488b7b08"          # resume: mov rdi, [rbx + 8] the request
    "488b33"            # mov  rsi, [rbx]
    "31d2"              # xor  edx, edx
    "4531d2"            # xor  r10d, r10d            no signal is delivered
    "b865000000"        # mov  eax, 101
    "0f05"              # syscall
    "4885c0"            # test rax, rax
    "7860"              # js   end
    "488b3b"            # mov  rdi, [rbx]
    "488d7320"          # lea  rsi, [rbx + 32]
    "ba00000040"        # mov  edx, __WALL
    "b83d000000"        # mov  eax, 61               wait4; r10 is still 0
    "0f05"              # syscall
    "4885c0"            # test rax, rax
    "7848"              # js   end                   EINTR: a signal for this process
    "bf0c000000"        # mov  edi, PTRACE_GETREGS
    "488b33"            # mov  rsi, [rbx]
    "4c8d5328"          # lea  r10, [rbx + 40]
    "b865000000"        # mov  eax, 101              fails where the process has ended
    "0f05"              # syscall
    "48837b1800"        # cmp  qword [rbx + 24], 0   read the signal?
    "742b"              # je   done
    "bf02420000"        # mov  edi, PTRACE_GETSIGINFO
    "488b33"            # mov  rsi, [rbx]
    "4c8d9300010000"    # lea  r10, [rbx + 256]
    "b865000000"        # mov  eax, 101
    "0f05"              # syscall
    "4885c0"            # test rax, rax
    "7910"              # jns  done
    "31c0"              # xor  eax, eax              there is none: no si_code, no si_addr
    "48898308010000"    # mov  [rbx + 264], rax
    "48898310010000"    # mov  [rbx + 272], rax
    "8b4320"            # done: mov eax, [rbx + 32]  the wait status
    "5b"                # end: pop rbx
    "c3"                # ret
)  # fmt: skip

Call = Callable[[int], int]
"""Takes the address of a block, resumes as it says, and gives the wait status, or a negative errno.
After -EINTR the process runs."""


@cache
def calls() -> tuple[Call, Call] | None:
    """The call with Python's lock kept, and with it released; None where the host executes no machine
    code of ours."""
    page = machine_code.executable(_CODE)
    if page is None:
        return None
    _pages.append(page)
    address = machine_code.address(page)
    return (
        ctypes.PYFUNCTYPE(ctypes.c_long, ctypes.c_void_p)(address),
        ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_void_p)(address),
    )


_pages: list[mmap] = []
"""Kept for as long as the calls are."""
