"""The fixture of the native trap engine's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ptrace_lab import Guest

from cores.engines.ptrace.engine import PtraceEngine


@pytest.fixture
def guest() -> Iterator[Guest]:
    reason = PtraceEngine.probe()
    if reason:
        pytest.skip(reason)
    guest = Guest()
    yield guest
    guest.close()
