"""Differential fuzzing on a small scale: a few guests of each level, past failures, and the
machinery."""

from __future__ import annotations

from pathlib import Path

import pytest

from cores.engines import registry
from cores.programs.assembler import keystone as assembler
from tests.fuzz.campaign import (
    LEVELS,
    NATIVE_LEVEL,
    Failure,
    cores_here,
    make,
    run,
    run_free,
    shrink,
)
from tests.fuzz.cases import append, load
from tests.fuzz.known import TABLE
from tests.fuzz.privileged import RandomGuest

pytestmark = pytest.mark.skipif(not assembler.installed(), reason="Keystone is not installed")

CASES = load()
FEW, MANY = range(4), range(100, 220)


@pytest.mark.parametrize("seed", FEW)
@pytest.mark.parametrize("level", LEVELS)
def test_random_guests_agree(level: int, seed: int) -> None:
    """All cores are in one state after each instruction of a random guest."""
    assert run(make(level, seed).source(), cores_here()) is None


@pytest.mark.parametrize("seed", FEW)
@pytest.mark.parametrize("level", LEVELS)
def test_random_guests_end_alike(level: int, seed: int) -> None:
    """In free mode all cores end a random guest alike."""
    assert run_free(make(level, seed).source(), cores_here()) is None


@pytest.mark.full
@pytest.mark.parametrize("level", LEVELS)
def test_many_random_guests_agree(level: int) -> None:
    """Many random guests agree; `python -m tests.fuzz` runs for any time."""
    failures = {seed: run(make(level, seed).source(), cores_here()) for seed in MANY}
    assert not {seed: failure for seed, failure in failures.items() if failure}


@pytest.mark.parametrize("name", CASES)
def test_what_once_failed(name: str) -> None:
    """A guest on which cores once differed does so no more."""
    assert run(CASES[name].source(), cores_here()) is None


@pytest.mark.parametrize("seed", FEW)
def test_cores_without_unicorn_agree(seed: int) -> None:
    """Ring 3 with unmasked exceptions, MMX and all else that Unicorn lacks, on this CPU alone."""
    cores = ("trap:native", "kvm")
    for core in cores:
        if reason := registry.availability(core).reason:
            pytest.skip(f"{core}: {reason}")
    assert run(make(NATIVE_LEVEL, seed).source(), list(cores)) is None


@pytest.mark.parametrize("level", LEVELS)
def test_a_seed_is_a_guest(level: int) -> None:
    """A seed, by which failures are reported, always gives the same guest."""
    assert make(level, 7) == make(level, 7) != make(level, 8)


def test_shrinking_keeps_what_fails() -> None:
    """Shrinking a hundred steps leaves the two that are needed to fail."""
    guest = RandomGuest(2, 0, tuple(f"step {n}" for n in range(100)))
    small = shrink(guest, lambda g: {"step 17", "step 63"} <= set(g.steps))
    assert small.steps == ("step 17", "step 63")


@pytest.mark.parametrize("level", LEVELS)
def test_a_case_is_kept_whole(level: int, tmp_path: Path) -> None:
    """What is added to the file of regressions is read from it as the same program."""
    guest = make(level, 3)
    name = append(guest, "words", tmp_path / "cases.s")
    assert load(tmp_path / "cases.s")[name].source().strip() == guest.source().strip()


def test_failures_are_found_and_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A core that differs (here by --pure) is named with the instruction, and the guest saved with the
    reason."""
    from tests.fuzz import campaign

    source = "_start:\nnop\nmov eax, cs\nmov al, 0\nout 0xf4, al\n"
    guest = RandomGuest(1, 99, tuple(source.split("\n")))
    monkeypatch.setattr(campaign, "OPTIONS", campaign.Options(ram=2 << 20, pure=True))
    failure = run(guest.source(), ["interpreter", "trap:portable"])
    assert isinstance(failure, Failure)
    assert failure.key == ("mov", "rax")
    append(guest, failure.words, tmp_path / "cases.s")
    text = (tmp_path / "cases.s").read_text()
    assert "## level1-99 [source]: after 1 instructions, mov eax, cs" in text
    assert source.strip() in text


def test_known_divergences_are_documented() -> None:
    """Each accepted divergence has its difference, its cause and a reference."""
    assert all(entry.what and entry.why and entry.reference for entry in TABLE)
