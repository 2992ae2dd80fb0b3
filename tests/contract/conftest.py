"""The fixtures of the contract suite: one guest on each engine that runs here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from contract_guest import ENGINES, Guest, open_guest


def _opened(name: str) -> Iterator[Guest]:
    guest = open_guest(name)
    yield guest
    guest.engine.close()
    guest.memory.ram.close()


@pytest.fixture(params=ENGINES)
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    """A guest on every engine."""
    yield from _opened(request.param)


@pytest.fixture(params=ENGINES)
def stepping(request: pytest.FixtureRequest) -> Iterator[Guest]:
    """A guest on every engine that steps exactly."""
    for guest in _opened(request.param):
        if not guest.engine.traits.exact:
            pytest.skip(f"{request.param} does not step exactly here")
        yield guest


@pytest.fixture(params=[name for name in ENGINES if name != "kvm"])
def faulting(request: pytest.FixtureRequest) -> Iterator[Guest]:
    """A guest on every engine that leaves exception delivery to the VMM."""
    yield from _opened(request.param)


@pytest.fixture(params=["trap:portable", "trap:native"])
def deprivileged(request: pytest.FixtureRequest) -> Iterator[Guest]:
    """A guest on every engine that runs it at ring 3."""
    yield from _opened(request.param)
