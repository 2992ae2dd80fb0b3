"""The table of differences between CPUs, and the instructions that the VMM completes because of it."""

from __future__ import annotations

import pytest

from cores.x86.isa.cpu_differences import TABLE, Means
from cores.x86.isa.decoder import decode


@pytest.mark.parametrize(
    ("code", "varies"),
    [
        ("66e900000000", True), ("66c3", True), ("660f8400000000", True), ("66ffd0", True),
        ("66e200", True), ("6648e900000000", False), ("e900000000", False), ("66ff30", False),
        ("0fae00", True), ("480fae08", True), ("0fae10", True), ("0fae18", False),
        ("d930", True), ("66dd20", True), ("d928", False), ("d9f0", False), ("0faee8", False),
    ],
)  # fmt: skip
def test_what_the_vmm_completes(code: str, varies: bool) -> None:
    """Near branches with 66, and instructions that store or load x87 and SSE state as a whole, are
    completed by the VMM."""
    assert decode(bytes.fromhex(code)).varies is varies


def test_every_difference_says_what_holds_where() -> None:
    """Each row has both vendors' answers, the platform's, and a reference; none occurs twice."""
    assert len({row.instructions for row in TABLE}) == len(TABLE)
    for row in TABLE:
        assert all((row.intel, row.amd, row.platform))
        assert "SDM vol." in row.reference or "APM vol." in row.reference
        assert isinstance(row.means, Means)
