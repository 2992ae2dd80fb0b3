"""What the kinds of core are called on the screen."""

from __future__ import annotations

from functools import cache

KINDS = {"interpreter": "EMULATOR", "trap": "TRAP AND EMULATE", "kvm": "KVM"}


@cache
def kind(core: str) -> str:
    """The family of a core: "interpreter", "trap" or "kvm"."""
    family = core.partition(":")[0]
    return family if family in KINDS else "interpreter"


def title(core: str) -> str:
    """The name of a machine."""
    return KINDS[kind(core)]
