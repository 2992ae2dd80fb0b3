"""Skips the 68000's tests without Unicorn."""

from __future__ import annotations

import pytest

from cores.engines import registry


@pytest.fixture(autouse=True)
def _interpreter() -> None:
    here = registry.availability("interpreter")
    if not here.available:
        pytest.skip(f"the interpreter cannot run here: {here.reason}")
