"""The tests are skipped, with the reason, on hosts where /dev/kvm cannot be used."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kvm_lab import Guest, MakeGuest, start

from cores.engines.kvm import KvmEngine


@pytest.fixture
def guest() -> Iterator[MakeGuest]:
    """Makes guests, and closes them."""
    if (reason := KvmEngine.probe()) is not None:
        pytest.skip(reason)
    made: list[Guest] = []

    def make(source: str) -> Guest:
        made.append(start(source))
        return made[-1]

    yield make
    for one in made:
        one.close()
