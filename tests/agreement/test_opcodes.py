"""Every opcode has the same result on every core: the sweep of opcode_sweep.py, of which a sample runs
daily.

A form that fails names itself and says in words what differs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from modes_lab import kvm_has_all_modes
from opcode_sweep import (
    Difference,
    Form,
    Sweep,
    legacy_forms,
    plain_forms,
    prefixed_forms,
    sample,
    shaped_forms,
    x87_forms,
)

from cores.engines import registry

LAST_BITS = frozenset({"f2xm1", "fyl2x", "fyl2xp1", "fptan", "fpatan", "fsin", "fcos", "fsincos"})
"""Transcendental functions, of which the last bits are each CPU's own (x86/isa/cpu_differences.py)."""
PRECISION = frozenset({"fscale"})
"""Unicorn says of an exact result that it was rounded (PE)."""
KINDS: dict[str, Callable[[], list[Form]]] = {
    "plain": plain_forms, "shaped": shaped_forms, "prefixed": prefixed_forms, "x87": x87_forms,
}  # fmt: skip
DAILY = {"plain": 2000, "shaped": 300, "prefixed": 300, "x87": 300}
SHOWN = 20
HOSTS_FAULTS = os.environ.get("RINGSCOPE_HOSTS_FAULTS")
"""A file of forms that this host's CPU is known to execute wrongly (tests/real_kvm/forms.txt)."""


def forms_left_out(path: Path) -> list[re.Pattern[str]]:
    """A file's regular expressions for the bytes of forms, in hexadecimal; # begins a comment."""
    lines = path.read_text().splitlines()
    return [re.compile(line) for line in lines if line and not line.startswith("#")]


LEFT_OUT = forms_left_out(Path(HOSTS_FAULTS)) if HOSTS_FAULTS else []


def unexplained(found: Difference) -> bool:
    if any(pattern.fullmatch(found.form.code.hex(" ")) for pattern in LEFT_OUT):
        return False
    mnemonic = found.asm.split()[-1] if found.asm.startswith("rep") else found.asm.split()[0]
    if mnemonic in LAST_BITS:
        return not set(found.what) <= {"fsw", "st0", "st1"}
    if mnemonic in PRECISION:
        return found.what != ("fsw",)
    return True


def differences(core: str, forms: list[Form], bits: int = 64) -> list[str]:
    """The unexplained differences, in words."""
    if reason := registry.availability(core).reason:
        pytest.skip(f"{core}: {reason}")
    sweep = Sweep(("interpreter", core), bits)
    try:
        return [str(found) for found in sweep.run(forms) if unexplained(found)]
    finally:
        sweep.close()


def told(found: list[str]) -> str:
    more = f"\n... and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return f"{len(found)} forms differ:\n" + "\n".join(found[:SHOWN]) + more


@pytest.mark.parametrize("core", ["trap:native", "trap:portable", "kvm"])
@pytest.mark.parametrize("kind", KINDS)
def test_sample(kind: str, core: str) -> None:
    """A fixed sample agrees: 2,000 plain forms and some hundreds of the others on the real CPU, a
    quarter of that on the other cores."""
    count = DAILY[kind] if core == "trap:native" else DAILY[kind] // 4
    found = differences(core, sample(KINDS[kind](), count))
    assert not found, told(found)


@pytest.mark.full
@pytest.mark.parametrize("core", ["trap:native", "trap:portable", "kvm"])
@pytest.mark.parametrize("kind", KINDS)
def test_all(kind: str, core: str) -> None:
    """All 52,128 plain forms and all others have no unexplained differences."""
    found = differences(core, KINDS[kind]())
    assert not found, told(found)


@pytest.mark.parametrize("core", ["trap:native", "trap:portable", "kvm"])
@pytest.mark.parametrize("bits", [16, 32])
def test_sample_of_legacy_code(bits: int, core: str) -> None:
    """A fixed sample of 16- and 32-bit code agrees."""
    if core == "kvm" and not kvm_has_all_modes():
        pytest.skip("this host's KVM has no 16- and 32-bit code")
    count = DAILY["plain"] // 2 if core == "trap:native" else DAILY["plain"] // 8
    found = differences(core, sample(legacy_forms(bits), count), bits)
    assert not found, told(found)


@pytest.mark.full
@pytest.mark.parametrize("core", ["trap:native", "trap:portable", "kvm"])
@pytest.mark.parametrize("bits", [16, 32])
def test_all_of_legacy_code(bits: int, core: str) -> None:
    """All 53,952 forms of 16- and of 32-bit code have no unexplained differences."""
    if core == "kvm" and not kvm_has_all_modes():
        pytest.skip("this host's KVM has no 16- and 32-bit code")
    found = differences(core, legacy_forms(bits), bits)
    assert not found, told(found)


def test_there_are_as_many_as_told() -> None:
    """The sweep contains as many forms as its docstrings state."""
    assert len(plain_forms()) == 52_128
    assert len({form.code for form in plain_forms()}) == 52_128
    assert len(legacy_forms(32)) == len(legacy_forms(16)) == 53_952


def test_the_forms_that_may_differ_are_in_the_sweep() -> None:
    """Each pattern of tests/real_kvm/forms.txt matches forms of the sweep, and few of them."""
    forms = [form.code.hex(" ") for kind in KINDS.values() for form in kind()]
    for pattern in forms_left_out(Path(__file__).parents[1] / "real_kvm" / "forms.txt"):
        matching = [form for form in forms if pattern.fullmatch(form)]
        assert 0 < len(matching) < len(forms) // 20, pattern.pattern
