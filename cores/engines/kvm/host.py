"""The properties of a host's KVM that the engine has to know before it runs a guest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cores.engines.base import RingZero
from cores.engines.kvm.stepping import Manner


@dataclass(frozen=True, slots=True)
class Host:
    """What capabilities.py has probed. The defaults are for its own guests, which run before it knows.

    manner: how to step. why_not_exact: the reason why there is no exact mode, "" where there is.
    pages_outside: has a guest paging outside long mode? ring_zero, nested_paging: see ``Traits``.
    caveat: see ``Engine.caveat``. irqfd: says whether an irqfd delivers interrupts (kernel_apic.py);
    asked only where one is wanted."""

    manner: Manner
    why_not_exact: str = ""
    pages_outside: bool = True
    ring_zero: RingZero = RingZero.UNKNOWN
    nested_paging: bool | None = None
    caveat: str = ""
    irqfd: Callable[[], bool] = lambda: True
