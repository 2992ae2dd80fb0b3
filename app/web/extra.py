"""The packages of the extra ``classroom``, or a sentence that says how they are had."""

from __future__ import annotations

import importlib.util

from cores.errors import InputError

PACKAGES = ("aiohttp", "segno", "textual_serve")


def demand() -> None:
    """Raises InputError where the extra is not installed."""
    if any(importlib.util.find_spec(package) is None for package in PACKAGES):
        raise InputError("this needs more packages: pip install 'ringscope[classroom]'")
