"""Numbers in sentences."""

from __future__ import annotations

import pytest

from cores.plural import counted


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0 accesses"), (1, "1 access"), (2, "2 accesses"), (1234, "1,234 accesses")],
)
def test_one_is_not_many(number: int, said: str) -> None:
    """One thing has the singular, and thousands are grouped."""
    assert counted(number, "access", "accesses") == said
    assert counted(number, "exit") == said.replace("accesses", "exits").replace("access", "exit")
