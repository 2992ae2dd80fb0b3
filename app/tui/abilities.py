"""What this computer can do, in words that are true of it: for the first page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.tui.rows.home import Ability

if TYPE_CHECKING:
    from cores.engines.registry import Availability


def probe_cores() -> list[Ability]:
    """Probe every core: whether it runs here, or the reason why not."""
    from app.session_thread import words
    from cores.engines import registry

    found = []
    for core in registry.CORE_NAMES:
        try:
            here = registry.availability(core)
        except Exception as error:  # a core that breaks while it is probed must not hide the others
            found.append(Ability(core, False, (words(error),)))
        else:
            found.append(_ability(here))
    return found


def _ability(here: Availability) -> Ability:
    """A core that was probed, in words that are true of this host: from long to short."""
    from cores.engines import registry
    from cores.engines.base import RingZero

    if here.reason is not None:
        return Ability(here.core, False, (here.reason,))
    engine = here.engine.split()[0]
    match registry.create(here.core).traits.ring_zero:
        case RingZero.GUEST_MODE:
            words = (
                "on this CPU, in guest mode (VT-x or AMD-V)",
                "on this CPU, in guest mode",
                "guest mode",
            )
            return Ability(here.core, True, words, "cpu")
        case RingZero.INTERPRETED:
            words = ("ring 0 in software: no VT-x or AMD-V here", "ring 0 in software", "software")
            return Ability(here.core, True, words, "soft")
        case RingZero.DEPRIVILEGED:
            words = ("on this CPU, in ring 3, held by ptrace", "on this CPU, in ring 3", "this CPU")
            return Ability(here.core, True, words, "cpu")
        case RingZero.SIMULATED if here.core == "interpreter":
            return Ability(
                here.core,
                True,
                (f"in software, {here.engine}", f"software, {engine}", "software"),
                "soft",
            )
        case RingZero.SIMULATED:
            words = (f"software ({engine}) stands in for ring 3", "software stands in", "a stand-in")
            return Ability(here.core, True, words, "soft")
        case RingZero.UNKNOWN:
            return Ability(
                here.core, True, ("inside KVM; who executes ring 0 is not known", "inside KVM")
            )
