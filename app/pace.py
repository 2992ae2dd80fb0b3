"""The pace of Python itself, which the interface changes: how threads take turns, and the collector."""

from __future__ import annotations

import gc
import sys

_TURN = 0.0005
"""Seconds after which a busy thread must let the other go on. Python's own 5 ms make keys lag while
the worker steps in lockstep, and make it wait as long after each call of the host while the interface
is imported."""


def take_turns() -> None:
    """Have the interface's thread and the worker's take short turns."""
    sys.setswitchinterval(_TURN)


def start_quickly() -> None:
    """The same, and look for no garbage until the first picture, when the app enables that again: it
    would take 40 ms in what is imported."""
    take_turns()
    gc.disable()
