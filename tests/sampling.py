"""A sample of many alike tests for the daily run: the others are marked ``full``."""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

import pytest
from _pytest.mark import ParameterSet


def sampled(values: Iterable[object], share: int) -> list[ParameterSet]:
    """Parameters of a test: about one in ``share`` runs daily, by a checksum of its name, so that the
    sample stays the same as others are added."""
    return [
        pytest.param(*p.values, marks=[*p.marks, *([] if _daily(p, share) else [pytest.mark.full])], id=p.id)
        for p in (v if isinstance(v, ParameterSet) else pytest.param(v) for v in values)
    ]


def all_but(values: Iterable[object], *slow: object) -> list[ParameterSet]:
    """Parameters of a test: all run daily but the slow ones."""
    return [pytest.param(v, marks=[pytest.mark.full] if v in slow else []) for v in values]


def _daily(parameters: ParameterSet, share: int) -> bool:
    return crc32(repr(parameters.values).encode()) % share == 0
