"""A bounded process for someone else's work, which ends with ours, in whichever way that ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import TypedDict

MOST_OUTPUT = 16 << 20
LAST_WORDS = 1.0
"""Seconds for what an ended process has said, should a process of its own hold the pipe open."""
OUT_OF_TIME = [-getattr(signal, name, 0) for name in ("SIGXCPU", "SIGKILL") if hasattr(signal, name)]
"""How the system ends a process that has used up its CPU time."""
OUT_OF_MEMORY = 90
"""Exit code of a process that has come to the end of its memory."""


class Started(TypedDict, total=False):
    """Options of subprocess.Popen."""

    pass_fds: tuple[int, ...]
    start_new_session: bool


@dataclass(frozen=True, slots=True)
class Bounds:
    """seconds: of the clock, and of CPU time. memory: bytes of address space."""

    seconds: float
    memory: int


def heard(command: Callable[[list[str]], list[str]], seconds: float) -> tuple[int | None, bytes]:
    """Run a command for at most so long: its exit code, None where it had to be ended, and what it has
    said. command: makes it, given the option for its lifeline (app/limits.py)."""
    with _lifeline() as (number, started), subprocess.Popen(
        command(number), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **started
    ) as process:  # fmt: skip
        said: list[bytes] = []
        end = monotonic() + seconds
        reader = threading.Thread(target=_read, args=(process, said), daemon=True)
        reader.start()
        try:
            reader.join(seconds)
            code = process.wait(max(0.0, end - monotonic()))
        except subprocess.TimeoutExpired:
            code = None
        finally:
            process.kill()
        reader.join(LAST_WORDS)
        return code, b"".join(said)


def _read(process: subprocess.Popen[bytes], said: list[bytes]) -> None:
    """Read what it says, up to ``MOST_OUTPUT``: one that says more waits, and runs out of time."""
    assert process.stdout is not None
    size = 0
    with contextlib.suppress(OSError, ValueError):  # closed, where something still held the other end
        while size < MOST_OUTPUT and (part := os.read(process.stdout.fileno(), 1 << 16)):
            said.append(part)
            size += len(part)


@contextlib.contextmanager
def _lifeline() -> Iterator[tuple[list[str], Started]]:
    """A pipe with which the process ends when we do, as an option of its command line and of its start;
    nothing where a process cannot be given one."""
    if os.name != "posix":
        yield [], {}
        return
    theirs, ours = os.pipe()
    try:
        yield [f"--lifeline={theirs}"], {"pass_fds": (theirs,), "start_new_session": True}
    finally:
        os.close(theirs)
        os.close(ours)


def ended_early(code: int | None, most: Bounds) -> str:
    """Why such a process has no result, in words."""
    if code is None:
        return f"stopped after {most.seconds:,.0f} seconds: it does not end"
    if code in OUT_OF_TIME:
        return f"stopped: it used more than {most.seconds:,.0f} seconds of CPU time"
    if code == OUT_OF_MEMORY:
        return f"stopped: it used more than {most.memory >> 20:,} MiB of memory"
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"stopped: the process that graded it ended early ({how})"
