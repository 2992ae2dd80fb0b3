"""When to type the next key: by the CPU time of the peer, as the guest sees time."""

from __future__ import annotations

import os
from pathlib import Path

from .base import POLL, read


class Pace:
    """The time of a process by the CPU that it has used: on a busy computer a guest may have executed
    nothing in a pause by the clock, and what is typed then is lost."""

    def __init__(self, pid: int) -> None:
        self._stat = Path(f"/proc/{pid}/stat")
        self._last = self._used()

    def _used(self) -> float | None:
        """Seconds (proc_pid_stat(5): utime and stime); None where the host does not tell."""
        fields = read(self._stat).rpartition(b") ")[2].split()
        if len(fields) < 13:
            return None
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def due(self, *, halted: bool = False) -> bool:
        """Whether it has used ``POLL`` seconds since this was last true, or its guest waits; always
        where the host does not tell."""
        used = self._used()
        if halted or used is None or self._last is None or used - self._last >= POLL:
            self._last = used
            return True
        return False
