"""A few mutations make their tests fail; `python -m tests.mutation --all` tries all of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sampling import all_but

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.mutation.mutations import MUTATIONS, Mutation  # noqa: E402 - tests is no installed package


def mutation(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.mutation", *words], cwd=ROOT, check=False, timeout=580,
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.mark.parametrize("change", MUTATIONS, ids=str)
def test_every_mutation_applies(change: Mutation) -> None:
    """The text to change occurs once in its file, and the named tests exist."""
    assert (ROOT / change.file).read_text().count(change.old) == 1
    assert change.old != change.new
    assert all((ROOT / test.partition("::")[0]).exists() for test in change.tests)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "changes",
    all_but((("latched status",), ("trap gates", "user pages")), ("trap gates", "user pages")),
)
def test_some_are_noticed(changes: tuple[str, ...]) -> None:
    """A changed device value, page-table bit and expectation of delivery each make a test fail."""
    done = mutation(*changes)
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith(f"{len(changes)} of {len(changes)} mutations were noticed\n")


@pytest.mark.full
@pytest.mark.timeout(600)
def test_a_handful_is_noticed() -> None:
    """Each eighth mutation is noticed, as by the command without arguments."""
    done = mutation()
    assert done.returncode == 0, done.stdout
