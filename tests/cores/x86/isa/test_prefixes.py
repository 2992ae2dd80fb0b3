"""Prefixes that others overrule are replaced by these, and nothing else."""

from __future__ import annotations

import pytest

from cores.x86.isa.decoder import decode
from cores.x86.isa.prefixes import normalized


@pytest.mark.parametrize(
    ("code", "spelled"),
    [
        ("f2f30f58c1", "f3f30f58c1"), ("f3f20f58c1", "f2f20f58c1"), ("66f20f58c1", "f2f20f58c1"),
        ("f366480f2ac1", "f3f3480f2ac1"), ("f2f3af", "f3f3af"), ("f3f266a5", "f2f266a5"),
        ("f2f2f3a4", "f3f3f3a4"), ("66f3a5", None), ("660f58c1", None), ("f30f58c1", None),
        ("66f20f38f1c1", None), ("66f30fb8c1", None), ("f2f3d8c1", None), ("90", None),
        ("642e8b03", "2e648b03"), ("48653e268b03", "48263e658b03"), ("64f2f3a4", "64f3f3a4"),
        ("2e648b03", None), ("4fc643087f", "4bc643087f"), ("4bc643087f", None), ("36658b03", None),
        ("643e658b03", None),
    ],
)  # fmt: skip
def test_respelled(code: str, spelled: str | None) -> None:
    """The normalized instruction has the same length, and decodes to the same instruction."""
    found = normalized(bytes.fromhex(code))
    assert found == (bytes.fromhex(spelled) if spelled else None)
    if found:
        one, other = decode(bytes.fromhex(code)), decode(found)
        assert (one.mnemonic, one.operands, one.length) == (
            other.mnemonic,
            other.operands,
            other.length,
        )
