"""Straight-line programs from Hypothesis: the interpreter and the trap cores agree at every step."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from cores.programs.assembler import keystone as assembler
from tests.fuzz.campaign import cores_here, run
from tests.fuzz.straightline import floating_programs, programs

pytestmark = pytest.mark.skipif(not assembler.installed(), reason="Keystone is not installed")

few = settings(
    max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
many = settings(few, max_examples=300)


@few
@given(programs(30))
def test_integer_programs(source: str) -> None:
    """Arithmetic, multiplies, divides, shifts, bit scans, strings: equal flags and registers."""
    assert run(source, cores_here()) is None


@few
@given(floating_programs(30))
def test_floating_programs(source: str) -> None:
    """SSE, MMX and x87: equal registers, MXCSR and status words."""
    assert run(source, cores_here()) is None


@pytest.mark.full
@pytest.mark.timeout(600)
@many
@given(programs(60))
def test_many_integer_programs(source: str) -> None:
    """Integer programs agree in a long run."""
    assert run(source, cores_here()) is None


@pytest.mark.full
@pytest.mark.timeout(600)
@many
@given(floating_programs(60))
def test_many_floating_programs(source: str) -> None:
    """SSE, MMX and x87 programs agree in a long run."""
    assert run(source, cores_here()) is None
