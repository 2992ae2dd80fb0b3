"""The fuzz targets on a small scale, without atheris."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.fuzz import coverage
from tests.fuzz.targets import TARGETS, Target

RUNS = 60


@pytest.mark.parametrize("name", TARGETS)
def test_good_and_changed_bytes(name: str) -> None:
    """Each target takes its good inputs and changed ones without an unexpected error."""
    target, generator = TARGETS[name], Random(name)
    seeds = target.seeds()
    assert seeds
    for data in seeds:
        target.run(data)
    for _ in range(RUNS):
        target.run(coverage.changed(generator, generator.choice([*seeds, b""])))


def test_what_raises_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The input of a failing target is saved, and raises again when replayed."""

    def fragile(data: bytes) -> None:
        if b"\xff" in data:
            raise ValueError("a bug")

    monkeypatch.setitem(TARGETS, "elf", Target(fragile, lambda: [bytes(range(256))]))
    monkeypatch.setattr(coverage, "CRASHES", tmp_path)
    assert coverage.without_coverage("elf", 5, seed=1) == 1
    (saved,) = tmp_path.iterdir()
    with pytest.raises(ValueError, match="a bug"):
        coverage.main(["elf", "--replay", str(saved)])
