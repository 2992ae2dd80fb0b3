"""Limits of a process that works for someone else, set by itself before it begins (setrlimit(2)).

Processes that it starts have them too, each for itself. On Windows there are none of these.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import threading

MIB = 1 << 20
MOST_FILES = 256


def limit(memory: int, cpu: int) -> None:
    """memory: bytes of address space; cpu: seconds."""
    if sys.platform == "win32":
        return
    import resource

    wanted = {
        resource.RLIMIT_AS: memory, resource.RLIMIT_CPU: cpu, resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: MOST_FILES,
    }  # fmt: skip
    for kind, value in wanted.items():
        _, hard = resource.getrlimit(kind)
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (most, most))


def end_with(lifeline: int, folder: str | None = None) -> None:
    """End this process when the other end of a pipe is closed, as it is when the process that holds it
    ends, in whichever way. folder: is removed then."""

    def watch() -> None:
        with contextlib.suppress(OSError):
            os.read(lifeline, 1)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
