"""A short soak (tests/soak.py): resources that are opened are closed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.full
def test_soak() -> None:
    """In random sessions for 30 s memory, descriptors, threads and processes do not grow."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak", "--seconds", "30", "--seed", "3"], cwd=ROOT, check=False,
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=55,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
