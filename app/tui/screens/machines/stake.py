"""What would be lost with a session."""

from __future__ import annotations

from app.session_thread import Worker, alive
from cores.plural import counted


def stake_of(worker: Worker | None) -> str:
    """What would be lost with a session, as a sentence; "" where nothing has run since it was saved."""
    s = None if worker is None else worker.snapshot
    if worker is None or s is None or worker.saved == worker.place:
        return ""
    done = max((machine.instructions or 0 for machine in s.machines), default=0)
    state = "Running" if s.running else "Paused" if alive(s) else "Ended"
    if s.mode == "free":
        return f"{state} after a free run."
    run = done or s.running
    return f"{state} after {counted(done, 'instruction')}." if run else ""
