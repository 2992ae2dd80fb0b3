"""The registry of cores: their names, which of them run on this host, and why the others do not.

Engines are imported on demand: trap:native and kvm run with Unicorn uninstalled, and ``--help`` loads
none of them. An engine class has ``probe() -> str | None``, the reason why it cannot run on this host.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import cast

from cores.engines.base import Engine
from cores.errors import InputError, UnavailableError

CORE_NAMES = ("interpreter", "trap:native", "trap:portable", "kvm")
"""Resolved names, in the order in which they are shown."""

ACCEPTED_NAMES = ("interpreter", "trap", "trap:native", "trap:portable", "kvm")
"""Names that a user may give: "trap" is trap:native where that can run, else trap:portable."""

_ENGINES = {
    "interpreter": ("cores.engines.unicorn.interpreter", "InterpreterEngine", "Unicorn"),
    "trap:native": ("cores.engines.ptrace.engine", "PtraceEngine", "ptrace"),
    "trap:portable": ("cores.engines.portable.engine", "PortableTrapEngine", "Unicorn at ring 3"),
    "kvm": ("cores.engines.kvm.engine", "KvmEngine", "KVM"),
}
_ABILITIES = {
    "trap:native": "cores.engines.ptrace.host_support",
    "kvm": "cores.engines.kvm.capabilities",
}
"""Modules that probe how a host differs from others: ``abilities()`` lists it for `doctor`."""
_HOSTS = {"kvm": "cores.engines.kvm.capabilities"}
"""Modules whose ``host()`` is the argument with which the engine is made."""


@dataclass(frozen=True, slots=True)
class Availability:
    """A core's availability on this host. core: its resolved name. engine: the engine's name.
    reason: why it cannot run; None when it can. abilities: (name, present, consequence) each."""

    core: str
    engine: str
    available: bool
    reason: str | None
    abilities: tuple[tuple[str, bool, str], ...] = ()


def resolve(name: str) -> str:
    """The core that a name stands for on this host. Raises InputError for an unknown name."""
    if name == "trap":
        return "trap:native" if availability("trap:native").available else "trap:portable"
    if name not in _ENGINES:
        raise InputError(f"no core is called {name!r}; there are {', '.join(ACCEPTED_NAMES)}")
    return name


@cache
def _probe(core: str) -> str | None:
    module, class_name, _ = _ENGINES[core]
    try:
        engine = getattr(importlib.import_module(module), class_name)
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        return f"the Python package {missing!r} is not installed" if missing else str(error)
    except OSError as error:  # a native library that does not load
        return str(error)
    return cast("str | None", engine.probe())


def availability(name: str, *, detailed: bool = False) -> Availability:
    """Probe whether the core runs on this host; the result is cached. detailed: include its abilities,
    which are found by running small guests. Raises InputError for an unknown name."""
    core = resolve(name)
    _, _, engine = _ENGINES[core]
    reason = _probe(core)
    abilities: tuple[tuple[str, bool, str], ...] = ()
    if detailed and reason is None and core in _ABILITIES:
        abilities = tuple(map(tuple, importlib.import_module(_ABILITIES[core]).abilities()))
    return Availability(core, engine, reason is None, reason, abilities)


def runs_legacy_code(name: str) -> bool:
    """Whether the core, which must be available, runs a guest outside long mode: some hosts' KVM has no
    paging there."""
    core = resolve(name)
    return core not in _HOSTS or importlib.import_module(_HOSTS[core]).host().pages_outside is True


def probe_hosts(names: Iterable[str]) -> None:
    """Find out now what ``create`` asks of the host for each of these cores. On KVM it is 0.2 s, spent
    in the kernel: another thread has most of them to itself. Raises InputError for an unknown name."""
    for core in map(resolve, names):
        if core in _HOSTS and _probe(core) is None:
            importlib.import_module(_HOSTS[core]).host()


def create(name: str) -> Engine:
    """A new engine. Raises UnavailableError with the reason when the core cannot run here."""
    core = resolve(name)
    reason = _probe(core)
    if reason is not None:
        raise UnavailableError(f"{core}: {reason}")
    module, class_name, _ = _ENGINES[core]
    engine = getattr(importlib.import_module(module), class_name)
    if core in _HOSTS:
        return cast(Engine, engine(importlib.import_module(_HOSTS[core]).host()))
    return cast(Engine, engine())
