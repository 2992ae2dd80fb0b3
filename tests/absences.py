"""Makes ptrace, KVM and the assembler absent on a host that has them, for ``--portable``.

``--portable`` begins it, so that the tests of ARM Linux, macOS and Windows can be tried anywhere.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

ABSENT_CORES = {"trap:native", "kvm"}
ABSENT_PACKAGES = {"keystone"}
REASON = "left out by --portable"


class _Without(MetaPathFinder):
    """An import finder that hides the absent packages and asks another finder for all others."""

    def __init__(self, finder: MetaPathFinder) -> None:
        self._finder = finder

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] in ABSENT_PACKAGES:
            return None
        return self._finder.find_spec(name, path, target)

    def invalidate_caches(self) -> None:
        self._finder.invalidate_caches()


def begin() -> None:
    """Make them absent for the rest of this process. Engines are probed as usual, except the absent
    ones."""
    from cores.engines import registry
    from cores.programs.assembler import choice

    find = choice.find
    choice.find = lambda name: find(name) if name == choice.KEYSTONE else None
    sys.meta_path[:] = [_Without(finder) for finder in sys.meta_path]  # type: ignore[arg-type]
    for core in ABSENT_CORES:
        module, class_name, _ = registry._ENGINES[core]
        with suppress(ImportError, OSError):  # truly absent
            engine = getattr(importlib.import_module(module), class_name)
            engine.probe = staticmethod(lambda: REASON)
