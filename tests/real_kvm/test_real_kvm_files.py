"""The parts of tests/real_kvm/run, which is started by hand and by ``.ci/run --full``, fit together."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DESELECTED = [
    line[line.index("tests/") :]
    for line in (HERE / "deselected.txt").read_text().splitlines()
    if not line.startswith("#") and "tests/" in line
]


@pytest.mark.parametrize("script", ["run", "init"])
def test_the_scripts_are_shell(script: str) -> None:
    """The scripts are valid shell."""
    subprocess.run(["sh", "-n", HERE / script], check=True)


@pytest.mark.parametrize("name", DESELECTED)
def test_what_is_deselected_exists(name: str) -> None:
    """Every deselected test exists."""
    path, _, test = name.partition("::")
    function = re.escape(test.partition("[")[0])
    assert re.search(rf"^def {function}\(", (ROOT / path).read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", ["deselected.txt", "forms.txt"])
def test_what_is_left_out_has_a_reason(name: str) -> None:
    """Every group of deselected tests and of forms has a comment above it."""
    text = (HERE / name).read_text()
    groups = text.strip().split("\n\n")[1:]
    assert groups
    assert all(group.startswith("# ") for group in groups)
