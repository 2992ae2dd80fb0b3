"""Reasons that the native trap engine gives on hosts where it cannot run, and where it must run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cores.engines.ptrace.engine import PtraceEngine

ROOT = Path(__file__).parents[4]
PROBE = f"""
import ctypes, os, struct, sys
sys.path.insert(0, {str(ROOT)!r})
from cores.engines.ptrace.engine import PtraceEngine
def refuse(number, error):
    libc = ctypes.CDLL(None, use_errno=True)
    filter = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (6, 0, 0, 0x50000 | error), (6, 0, 0, 0x7FFF0000)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *s) for s in filter))
    program = ctypes.create_string_buffer(struct.pack("<H6xQ", 4, ctypes.addressof(code)))
    assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.byref(program)) == 0
"""


def probe_after(preparation: str) -> str:
    """The probe's answer in a process of its own that has first run this code."""
    script = PROBE + preparation + "\nsys.stderr.write(str(PtraceEngine.probe()))"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stderr


@pytest.mark.skipif(sys.platform != "linux", reason="the filter is Linux's")
@pytest.mark.parametrize(("error", "words"), [(1, "not permitted"), (38, "not implemented")])
def test_forbidden_ptrace_is_said_in_one_sentence(error: int, words: str) -> None:
    """A seccomp filter on ptrace (a container's) gives a sentence with cause and remedy."""
    answer = probe_after(f"refuse(101, {error})")
    assert "ptrace" in answer
    assert words in answer
    assert len(answer.splitlines()) == 1


def test_a_missing_system_call_is_said_too() -> None:
    """A kernel without pidfd_open gives a sentence, too."""
    assert "cannot be started (Function not implemented)" in probe_after("refuse(434, 38)")


@pytest.mark.skipif(PtraceEngine.probe() is not None, reason=f"trap:native: {PtraceEngine.probe()}")
@pytest.mark.parametrize(
    "preparation",
    [
        "",
        "os.close(0); os.close(1)",
        "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())",
        "import signal; signal.signal(signal.SIGCHLD, signal.SIG_DFL); os.environ.clear()",
        "import threading; threading.stack_size(1 << 20)",
    ],
)
def test_it_runs_whatever_the_parent_looks_like(preparation: str) -> None:
    """Closed standard descriptors, blocked signals and an empty environment do not prevent it from
    running."""
    assert probe_after(preparation) == "None"


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become a user"
)
@pytest.mark.skipif(PtraceEngine.probe() is not None, reason=f"trap:native: {PtraceEngine.probe()}")
def test_an_ordinary_user_may_run_it() -> None:
    """It needs no privilege, and maps nothing that an ordinary user could not."""
    assert probe_after("os.setgroups([]); os.setgid(65534); os.setuid(65534)") == "None"
