"""Sampling of similar tests for the daily run: the others are marked ``full``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath
from zlib import crc32

import pytest
from _pytest.mark import ParameterSet


def sampled(values: Iterable[object], share: int) -> list[ParameterSet]:
    """Parameters of a test: about one in ``share`` runs daily, by a checksum of its name, so that the
    sample stays the same as others are added."""
    found = []
    for value in values:
        given = value if isinstance(value, ParameterSet) else pytest.param(value)
        daily = crc32(_name(given.values[0]).encode()) % share == 0
        marks = [*given.marks, *([] if daily else [pytest.mark.full])]
        found.append(pytest.param(*given.values, marks=marks, id=given.id))
    return found


def all_but(values: Iterable[object], *slow: object) -> list[ParameterSet]:
    """Parameters of a test: all but the slow ones run daily."""
    return [pytest.param(value, marks=[pytest.mark.full] if value in slow else []) for value in values]


def _name(value: object) -> str:
    return value.name if isinstance(value, PurePath) else str(value)
