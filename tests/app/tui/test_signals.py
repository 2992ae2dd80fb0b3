"""Signals that arrive while the interface starts or ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are of POSIX")

ROOT = Path(__file__).parents[3]
AFTER_THE_LOOP = """
import asyncio, os, signal
from app.tui.signals import obey_endings

async def app():
    obey_endings(None)

assert os.isatty(0)
asyncio.run(app())
os.kill(os.getpid(), signal.{})
print("went on")
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_one_after_the_end(name: str) -> None:
    """A signal between the interface's end and the process's end ends the process without output."""
    ours, terminal = os.openpty()
    try:
        end = subprocess.run(
            [sys.executable, "-c", AFTER_THE_LOOP.format(name)],
            cwd=ROOT, stdin=terminal, capture_output=True, text=True, check=False, timeout=240,
        )  # fmt: skip
    finally:
        os.close(ours)
        os.close(terminal)
    assert (end.returncode, end.stdout, end.stderr) == (-getattr(signal, name), "", "")
