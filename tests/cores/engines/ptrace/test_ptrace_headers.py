"""The ptrace engine's constants and layouts against this machine's C headers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from cores.engines.ptrace import linux, process, stub

NAMES = """
PTRACE_PEEKDATA PTRACE_POKEDATA PTRACE_POKEUSER PTRACE_CONT PTRACE_SINGLESTEP PTRACE_GETREGS
PTRACE_SETREGS PTRACE_GETFPREGS PTRACE_SETFPREGS PTRACE_SYSEMU PTRACE_SYSEMU_SINGLESTEP
PTRACE_GETSIGINFO PTRACE_GETREGSET PTRACE_SETREGSET PTRACE_SEIZE PTRACE_INTERRUPT PTRACE_O_TRACESYSGOOD
PTRACE_O_EXITKILL PTRACE_EVENT_STOP NT_X86_XSTATE SYS_mmap SYS_munmap SYS_rt_sigaction SYS_alarm
SYS_prctl SYS_seccomp SYS_close_range PROT_READ PROT_WRITE PROT_EXEC MAP_SHARED MAP_FIXED MAP_POPULATE
PR_SET_PDEATHSIG PR_SET_TSC PR_TSC_SIGSEGV PR_SET_NO_NEW_PRIVS PR_CAPBSET_DROP SYS_capset
SECCOMP_SET_MODE_FILTER SECCOMP_FILTER_FLAG_SPEC_ALLOW SI_KERNEL SEGV_MAPERR SEGV_ACCERR
SEGV_PKUERR BUS_ADRALN BUS_ADRERR FPE_INTDIV TRAP_BRKPT TRAP_TRACE TRAP_HWBKPT
"""
"""Constants of linux.py, under their C names."""

EXPRESSIONS = {
    "sizeof(struct user_regs_struct)": linux.USER_REGS.size,
    "sizeof(struct user_fpregs_struct)": linux.FXSAVE_SIZE,
    "offsetof(struct user, u_debugreg)": linux.DEBUG_REGISTERS,
    "offsetof(struct user_regs_struct, rax)": 8 * 10,
    "offsetof(struct user_regs_struct, orig_rax)": 8 * 15,
    "offsetof(struct user_regs_struct, rip)": 8 * 16,
    "offsetof(struct user_regs_struct, eflags)": 8 * 18,
    "offsetof(struct user_regs_struct, fs_base)": 8 * 21,
    "offsetof(struct user_regs_struct, gs)": 8 * 26,
    "offsetof(siginfo_t, si_code)": 8,
    "offsetof(siginfo_t, si_addr)": 16,
    "offsetof(siginfo_t, si_call_addr)": 16,
    "__WALL": linux.WALL,
    "SIGUSR1": int(process.KICK),
    "SECCOMP_RET_ALLOW": 0x7FFF0000,
    "SECCOMP_RET_TRAP": 0x00030000,
    "AUDIT_ARCH_X86_64": 0xC000003E,
    "BPF_LD | BPF_W | BPF_ABS": 0x20,
    "BPF_JMP | BPF_JEQ | BPF_K": 0x15,
    "BPF_JMP | BPF_JSET | BPF_K": 0x45,
    "BPF_RET | BPF_K": 0x06,
    "sizeof(struct sock_filter)": 8,
    "offsetof(struct sock_fprog, filter)": 8,
    "offsetof(struct seccomp_data, instruction_pointer)": 8,
    "offsetof(struct seccomp_data, args)": 16,
    "SA_NODEFER": stub.SA_NODEFER,
    "SA_SIGINFO": stub.SA_SIGINFO,
    "_LINUX_CAPABILITY_VERSION_3": linux.CAPABILITY_VERSION_3,
    "sizeof(struct __user_cap_header_struct)": 8,
    "sizeof(struct __user_cap_data_struct) * _LINUX_CAPABILITY_U32S_3": 24,
    "FRAME(REG_ERR)": 200,
    "FRAME(REG_TRAPNO)": 208,
    "FRAME(REG_CR2)": 224,
}

HEADERS = """#define _GNU_SOURCE
#include <stddef.h>
#include <stdio.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <elf.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <ucontext.h>
/* struct rt_sigframe: a return address, then the context that a handler is given */
#define FRAME(r) (8 + offsetof(ucontext_t, uc_mcontext.gregs) + 8 * r)
int main(void) {
"""


def test_constants_and_layouts_agree_with_the_headers(tmp_path: Path) -> None:
    """Each constant of the engine has the value that a C compiler gives it."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here")
    expected = {name: int(getattr(linux, name.upper())) for name in NAMES.split()} | EXPRESSIONS
    lines = [f'printf("%llu\\n", (unsigned long long)({name}));' for name in expected]
    source = tmp_path / "check.c"
    source.write_text(HEADERS + "\n".join(lines) + "\nreturn 0; }\n")
    built = subprocess.run(
        [compiler, "-w", "-o", tmp_path / "check", source], capture_output=True, text=True
    )
    if built.returncode and "No such file" in built.stderr:
        pytest.skip(f"headers are missing: {built.stderr.splitlines()[0]}")
    assert built.returncode == 0, built.stderr
    found = subprocess.run([tmp_path / "check"], capture_output=True, text=True, check=True).stdout
    assert dict(zip(expected, map(int, found.split()), strict=True)) == expected
