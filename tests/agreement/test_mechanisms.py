"""Every mechanism of the machine, each in a guest of its own, agrees on all cores."""

from __future__ import annotations

import pytest
from agreement_lab import (
    GUESTS,
    cores,
    exits,
    free,
    lockstep,
    named,
    noted_faults,
    program,
    skip_unless_assembled,
)

from cores.pc.stop import Stop

pytestmark = skip_unless_assembled()


@pytest.mark.parametrize("name", named(free=False))
def test_exact(name: str) -> None:
    """Step for step all cores have one state and meet the faults of the SDM; the trap cores exit for
    the same reasons at the same places."""
    guest = GUESTS[name]
    outcomes = {o.core: o for o in lockstep(program(name), guest.run_options, cores(guest))}
    reference = outcomes["interpreter"]
    assert reference.stop is guest.ends, reference.reason
    if guest.faults is not None:
        assert noted_faults(reference.console) == list(guest.faults)
    assert {o.device_accesses for o in outcomes.values()} == {reference.device_accesses}
    native, portable = outcomes.get("trap:native"), outcomes.get("trap:portable")
    if native and portable:
        assert exits(native, guest) == exits(portable, guest)


@pytest.mark.parametrize("name", named(free=True))
def test_free(name: str) -> None:
    """In free mode every core ends with the same stop, exit status, console and screen."""
    guest = GUESTS[name]
    ran = [free(program(name), guest.run_options, core) for core in cores(guest, exact=False)]
    outcomes = [o for o in ran if not (o.core == "kvm" and o.stop is Stop.ERROR)]
    assert outcomes[0].stop is guest.ends
    for outcome in outcomes[1:]:
        assert outcome.told == outcomes[0].told, f"{outcome.core} beside {outcomes[0].core}"
