"""``ringscope`` alone: the first page of the interface."""

from __future__ import annotations

from app import pace


def run() -> int:
    pace.start_quickly()
    from app.tui.app import run_interface
    from cores.lockstep.options import Options

    return run_interface(None, Options())
