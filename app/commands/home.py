"""``ringscope`` alone: the first page of the interface."""

from __future__ import annotations

import gc


def run() -> int:
    gc.disable()  # until the first picture: it would look 40 ms for garbage in what is imported
    from app.tui.app import run_interface
    from cores.lockstep.options import Options

    return run_interface(None, Options())
